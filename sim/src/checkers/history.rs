//! What checkers know: built from observations alone, shared by the properties.

use backbeat_core::exception::ExceptionState;
use backbeat_core::id::Site;
use backbeat_core::model::{ObjectMd, OverallStatus, SiteStatus};
use backbeat_core::request::minting::TargetKind;

use super::seen::{At, FactKind, Facts, Seen};
use crate::content::Content;
use crate::ids::{KeyId, SiteId, Topic, VerId};

/// One state that a client gave a version.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientRevision {
    pub(super) content: Content,
    /// The content as readers of a plain S3 target see it.
    pub(super) plain: Content,
    pub(super) replica: bool,
}

/// What is known of one version at one site.
#[derive(Clone, Debug, Default)]
pub(super) struct AtSite {
    /// Place in the queue among the versions of the key, with the revision and the time of the first message.
    pub(super) first_queued: Option<(u32, u64)>,
    /// The last message asking for work, in observations.
    pub(super) last_queued: u64,
    /// The newest revision for which a durable COMPLETED message exists.
    pub(super) completed: Option<u32>,
    /// The last durable FAILED message: revision and time.
    pub(super) failed: Option<(u32, u64)>,
    /// The site's status in the source's metadata.
    pub(super) status: Option<SiteStatus>,
    /// Until when the source's metadata last said something else than PENDING; `u64::MAX` while it does.
    pub(super) not_pending_until: u64,
    /// Whether a live record says that it is tried again by itself, and when any record was written last.
    pub(super) parked: bool,
    pub(super) parked_at: u64,
    /// Whether its last failure says that trying again is pointless.
    pub(super) hopeless: bool,
    /// Whether it was ever listed as failed for good.
    pub(super) listed: bool,
    /// What the target shows.
    pub(super) target: At,
    /// How often the content at the target changed.
    pub(super) changes: u32,
    /// Requests that change the target, sent so far.
    pub(super) requests: u32,
    /// Explicit retries asked for.
    pub(super) retries: u32,
}

/// What is known of one version.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) key: KeyId,
    pub(super) revisions: Vec<ClientRevision>,
    /// The content that the source stores: another than the newest while a status write has overwritten that.
    pub(super) stored: Content,
    /// Older contents that status writes brought back to the source, in the order in which they did.
    pub(super) revived: Vec<Content>,
    /// Until when the source stored an older content; `u64::MAX` while it does.
    pub(super) older_until: u64,
    pub(super) gone: bool,
    pub(super) replica: bool,
    /// Whether it is the null version of its key.
    pub(super) is_null: bool,
    /// Whether it is a delete marker.
    pub(super) marker: bool,
    pub(super) parts: u32,
    pub(super) sites: Vec<AtSite>,
}

impl Version {
    /// The first and the last revision with this content.
    pub(super) fn revision_of(&self, content: Content) -> Option<(u32, u32)> {
        self.first_and_last(|revision| revision.content == content)
    }

    /// The first and the last revision that shows this at a site.
    pub(super) fn revision_shown(&self, content: Content, mints: bool) -> Option<(u32, u32)> {
        self.first_and_last(|revision| content == if mints { revision.plain } else { revision.content })
    }

    fn first_and_last(&self, matches: impl Fn(&ClientRevision) -> bool) -> Option<(u32, u32)> {
        let mut found =
            (0_u32..).zip(&self.revisions).filter(|(_, revision)| matches(revision)).map(|(i, _)| i);
        let first = found.next()?;
        Some((first, found.last().unwrap_or(first)))
    }

    /// What the last revision says.
    pub(super) fn newest_content(&self) -> Content {
        self.revisions[self.newest() as usize].content
    }

    /// How often a status write brought back something older.
    pub(super) fn overwrites(&self) -> u32 {
        u32::try_from(self.revived.len()).expect("few overwrites")
    }

    /// The last revision that a client wrote.
    pub(super) fn newest(&self) -> u32 {
        u32::try_from(self.revisions.len()).expect("few revisions") - 1
    }
}

/// Everything known.
#[derive(Debug)]
pub(super) struct History {
    /// Counts observations: before and after, for checkers.
    pub(super) order: u64,
    pub(super) site_names: Vec<Site>,
    /// What kind of target each site is.
    pub(super) kinds: Vec<TargetKind>,
    /// Whether metadata writes at the source compare before they write.
    pub(super) source_compares: bool,
    pub(super) versions: Vec<Version>,
    /// Versions of each key in the order in which they first entered the replication topic.
    pub(super) queue_order: Vec<Vec<VerId>>,
    /// Messages per topic (replication, replays, status) and partition.
    pub(super) logs: Vec<Vec<Vec<Facts>>>,
}

impl History {
    pub(super) fn new(
        keys: usize,
        sites: Vec<Site>,
        kinds: Vec<TargetKind>,
        replays: usize,
        partitions: usize,
        source_compares: bool,
    ) -> Self {
        Self {
            order: 1,
            site_names: sites,
            kinds,
            source_compares,
            versions: Vec::new(),
            queue_order: vec![Vec::new(); keys],
            logs: vec![vec![Vec::new(); partitions]; replays + 2],
        }
    }

    /// Whether a site mints version ids.
    pub(super) fn mints(&self, site: SiteId) -> bool {
        !self.kinds[site.index()].keeps_versions()
    }

    /// Index of a topic in the logs.
    pub(super) fn topic_index(&self, topic: Topic) -> usize {
        match topic {
            Topic::Replication => 0,
            Topic::Replay(index) => 1 + usize::from(index),
            Topic::Status | Topic::Failed | Topic::Gc | Topic::Exceptions => self.logs.len() - 1,
        }
    }

    pub(super) fn version(&self, version: VerId) -> &Version {
        &self.versions[version.index()]
    }

    pub(super) fn at(&self, version: VerId, site: SiteId) -> &AtSite {
        &self.versions[version.index()].sites[site.index()]
    }

    /// Whether work on `version` that was asked for at `since` with `revision` is settled for `site` (decision D5): done for
    /// that revision or a newer one, failed, parked, gone, or no longer wanted.
    pub(super) fn is_settled(&self, version: VerId, site: SiteId, revision: u32, since: u64) -> bool {
        let known = self.version(version);
        let at = &known.sites[site.index()];
        known.gone
            || at.completed.is_some_and(|completed| completed >= revision)
            // The message was looked at while the source stored something older. What comes back asks anew.
            || at.completed.is_some() && known.older_until > since
            || at.failed.is_some_and(|(failed, when)| failed >= revision && when > since)
            || at.parked
            || at.parked_at > since
            || at.not_pending_until > since
    }

    /// An observation that leaves nothing to remember.
    pub(super) fn passed(&mut self) {
        self.order += 1;
    }

    /// Takes note of an observation.
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        self.order += 1;
        let order = self.order;
        match seen {
            Seen::ClientWrote { version, key, md, replica } => {
                let content = Content::of(md);
                if self.versions.len() == version.index() {
                    let parts = u32::try_from(md.locations().len()).expect("few parts");
                    self.versions.push(Version {
                        key: *key,
                        revisions: Vec::with_capacity(2),
                        stored: content,
                        revived: Vec::new(),
                        older_until: 0,
                        gone: false,
                        replica: *replica,
                        is_null: md.is_null() || md.version_id().is_none(),
                        marker: md.is_delete_marker(),
                        parts,
                        sites: vec![AtSite::default(); self.site_names.len()],
                    });
                }
                let known = &mut self.versions[version.index()];
                known.replica = *replica;
                known.stored = content;
                if known.older_until == u64::MAX {
                    known.older_until = order;
                }
                known.revisions.push(ClientRevision {
                    content,
                    plain: Content::plain(md),
                    replica: *replica,
                });
                self.note_statuses(*version, md);
            }
            Seen::ClientDeleted { version } => self.versions[version.index()].gone = true,
            Seen::SourceWrote { version, after, content, .. } => {
                let known = &mut self.versions[version.index()];
                if known.newest_content() != *content {
                    if known.stored != *content {
                        known.revived.push(*content);
                    }
                    known.older_until = u64::MAX;
                } else if known.older_until == u64::MAX {
                    known.older_until = order;
                }
                known.stored = *content;
                self.note_statuses(*version, after);
            }
            Seen::Queued { topic, partition, facts, .. } => {
                self.note_message(*topic, *partition, facts, order);
            }
            Seen::ExceptionPut { version, site, record } => {
                let at = &mut self.versions[version.index()].sites[site.index()];
                // A deferred or held version is tried again by itself, whatever its revision is by then.
                at.parked = matches!(record.state, ExceptionState::Deferred | ExceptionState::Held);
                at.listed |= record.state == ExceptionState::Failed;
                at.hopeless = record.reason == "NewerVersionAtTarget";
                if !matches!(record.state, ExceptionState::Resolved | ExceptionState::Copying) {
                    at.parked_at = order;
                }
            }
            Seen::TargetWrote { site, version, content, .. } => {
                let known = &mut self.versions[version.index()];
                let at = &mut known.sites[site.index()];
                if at.target != Some(*content) {
                    at.changes += 1;
                }
                at.target = Some(*content);
            }
            Seen::Minted { site, version, md, asked, stray, .. } => {
                let shown = Content::plain(md);
                self.shown_at_minting(*version, *site, shown, *stray || shown != *asked);
            }
            Seen::Retagged { site, version, content, stray, .. } => {
                self.shown_at_minting(*version, *site, *content, *stray);
            }
            Seen::TargetAsked { site, version, .. } => {
                self.versions[version.index()].sites[site.index()].requests += 1;
            }
            Seen::RetryAsked { version, site } => {
                self.versions[version.index()].sites[site.index()].retries += 1;
            }
            Seen::Journaled { .. }
            | Seen::LossRecorded { .. }
            | Seen::FailureListed { .. }
            | Seen::Committed { .. }
            | Seen::PositionSaved { .. }
            | Seen::TargetAnswered { .. }
            | Seen::Died { .. }
            | Seen::TargetDeleted { .. }
            | Seen::Unminted { .. } => {}
        }
    }

    /// What a stray shows, or a version that lost its tags, counts only where nothing as new is there: whoever comes next may find
    /// it right.
    fn shown_at_minting(&mut self, version: VerId, site: SiteId, content: Content, weak: bool) {
        let known = &mut self.versions[version.index()];
        // What lost its tags may be no revision at all.
        let newest = |content| known.revision_shown(content, true).map(|(_, newest)| newest);
        let shown = known.sites[site.index()].target;
        if !weak || shown.is_none_or(|shown| newest(shown) < newest(content)) {
            known.sites[site.index()].target = Some(content);
        }
    }

    fn note_statuses(&mut self, version: VerId, md: &ObjectMd) {
        let order = self.order;
        let replica = *md.replication().status() == OverallStatus::Replica;
        let known = &mut self.versions[version.index()];
        for (site, at) in self.site_names.iter().zip(&mut known.sites) {
            let status = if replica { None } else { md.replication().site_status(site).cloned() };
            let pending = status == Some(SiteStatus::Pending);
            if pending && at.not_pending_until == u64::MAX {
                at.not_pending_until = order;
            } else if !pending {
                at.not_pending_until = u64::MAX;
            }
            at.status = status;
        }
    }

    fn note_message(&mut self, topic: Topic, partition: usize, facts: &Facts, order: u64) {
        let index = self.topic_index(topic);
        self.logs[index][partition].push(Facts { order, kind: facts.kind.clone() });
        match &facts.kind {
            FactKind::Work { version, sites, revision } => {
                let known = &mut self.versions[version.index()];
                let fresh =
                    topic == Topic::Replication && known.sites.iter().all(|at| at.first_queued.is_none());
                for (site, at) in known.sites.iter_mut().enumerate() {
                    if sites >> site & 1 == 1 {
                        at.last_queued = order;
                        if at.first_queued.is_none() {
                            at.first_queued = Some((*revision, order));
                        }
                    }
                }
                if fresh {
                    self.queue_order[known.key.index()].push(*version);
                }
            }
            FactKind::Outcome { version, site, status, revision } => {
                let at = &mut self.versions[version.index()].sites[site.index()];
                match status {
                    SiteStatus::Completed => {
                        at.completed = Some(at.completed.map_or(*revision, |known| known.max(*revision)));
                    }
                    SiteStatus::Failed => at.failed = Some((*revision, order)),
                    SiteStatus::Pending | SiteStatus::Replica | SiteStatus::Other(_) => {}
                }
            }
            FactKind::Foreign => {}
        }
    }
}
