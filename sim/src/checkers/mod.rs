//! Checkers: observers with a model of their own, fed only by what crosses the boundary between the engine and the world.
//!
//! None of them reads a machine's state. What a request whose answer was lost did is known to the world but not to them
//! before it shows: they see writes when a site applies them and messages when a topic has them.
//!
//! | id | property | invariant |
//! |---|---|---|
//! | COMMIT-1, COMMIT-2 | [`commit`] | I1 |
//! | POP-1, POP-2, LEASE-1 | [`populate`] | I1, I5 |
//! | FIFO-1, FIFO-2, FIFO-3 | [`fifo`] | I2 |
//! | ORDER-1, DATA-1, DATA-2 | [`data`] | I2, I3, I4, I6 |
//! | STATUS-1 to STATUS-4 | [`status`] | I4, I5 |
//! | BOUND-1, COST-1 | [`bound`] | I8 |
//! | LIVE-1 to LIVE-3, OBS-1 | [`live`] | I3, I7 |
//! | DET-1 | the trace hash, compared over processes and profiles | I9 |

mod bound;
mod commit;
mod data;
mod fifo;
mod history;
mod live;
mod mint;
mod populate;
mod seen;
mod status;

pub use live::Final;
pub use seen::{Blob, FactKind, Facts, Seen, Violation};

use backbeat_core::exception::ExceptionState;
use backbeat_core::id::Site;
use backbeat_core::model::{Message, ObjectEntry, ObjectMd, SiteStatus};
use backbeat_core::request::minting::TargetKind;

use crate::content::Content;
use crate::ids::{ProcId, SiteId, Topic, VerId};
use crate::marks::{Mark, Marks};
use crate::names::version_of_entry;
use commit::Commits;
use data::Data;
use fifo::Fifo;
use history::History;
use mint::Minting;
use populate::Population;

/// Ids and meanings of all properties, for lists.
pub const PROPERTIES: &[(&str, &str)] = &[
    (
        "FIFO-1",
        "I2: per site and key, versions are first applied in queue order, or their predecessors are settled",
    ),
    ("FIFO-2", "I2: a version starts only after every version queued before it is settled durably"),
    ("FIFO-3", "I2: a process works on one version of a key at a time"),
    (
        "ORDER-1",
        "I2: what a target shows of a version never goes back to an older revision, nor the latest version to an older one",
    ),
    (
        "DATA-1",
        "I3, I4: bytes, layout and metadata at a target are the source's; visible data is never deleted",
    ),
    ("DATA-2", "I6: everything at a target came from a client's write, and became visible once"),
    ("STATUS-1", "I5: allowed transitions and the right overall status only"),
    ("STATUS-2", "I4: COMPLETED never precedes the data and speaks for what the target shows"),
    ("STATUS-3", "I4, I5: no COMPLETED and no client's change is overwritten"),
    ("STATUS-4", "I5: a replica is never replicated"),
    ("COMMIT-1", "I1: an offset is committed only when everything below is settled durably"),
    ("COMMIT-2", "I1: commit points never go back inside a generation"),
    (
        "POP-1",
        "I1: every qualifying journal record reaches the queue in key order before the position passes it",
    ),
    ("POP-2", "I5: nothing that does not ask for replication is queued"),
    ("LEASE-1", "I1: the saved position never goes back; zombies change nothing durable"),
    ("BOUND-1", "I8: requests under way and messages held stay under the declared limits"),
    ("COST-1", "I8: requests per version, revision and part stay bounded"),
    ("LIVE-1", "I3: after the faults everything reaches its ending within the bound"),
    ("LIVE-2", "I7: what stays broken delays nobody else beyond the bound"),
    ("LIVE-3", "I3: work written after the faults is served"),
    ("OBS-1", "I3: everything FAILED is listed for an explicit retry, or still tried by itself"),
    ("DET-1", "I9: a seed has one trace hash"),
    ("ASSERT", "a machine's own assertion failed"),
];

/// All checkers of one run.
#[derive(Debug)]
pub struct Checkers {
    history: History,
    commits: Commits,
    population: Population,
    fifo: Fifo,
    data: Data,
    minting: Minting,
    calm: bool,
    violation: Option<Violation>,
    /// The content that was computed last of each version, with the document it is of.
    contents: Vec<Option<(ObjectMd, Content)>>,
}

impl Checkers {
    /// Checkers for a world of this size. `calm`: the run has no faults. `source_compares`: metadata writes at the source compare
    /// before they write.
    pub fn new(
        keys: usize,
        sites: Vec<Site>,
        kinds: &[TargetKind],
        replays: usize,
        partitions: usize,
        calm: bool,
        source_compares: bool,
    ) -> Self {
        Self {
            minting: Minting::default(),
            commits: Commits::default(),
            population: Population::new(keys),
            fifo: Fifo::new(keys, sites.len()),
            data: Data::default(),
            history: History::new(keys, sites, kinds.to_vec(), replays, partitions, source_compares),
            calm,
            violation: None,
            contents: Vec::new(),
        }
    }

    /// The first broken invariant.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Takes the first broken invariant.
    pub fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// Shows the checkers, after every step, how many requests and publishes of a process wait for an answer now, and how many
    /// messages were handed over to it and are not committed.
    #[inline]
    pub fn load(&mut self, by: ProcId, in_flight: u32, held: u64) {
        if let Err(violation) = bound::load(by, in_flight, held) {
            self.violation.get_or_insert(violation);
        }
        self.history.passed();
    }

    /// Shows the checkers one observation.
    pub fn observe(&mut self, seen: &Seen<'_>, marks: &mut Marks) {
        if self.violation.is_none()
            && let Err(violation) = self.check(seen, marks)
        {
            self.violation = Some(violation);
        }
        self.history.observe(seen);
    }

    fn check(&mut self, seen: &Seen<'_>, marks: &mut Marks) -> Result<(), Violation> {
        let history = &self.history;
        match seen {
            Seen::SourceWrote { version, before, after, content } => {
                self.mark_source_write(*version, before, (after, *content), marks);
                let deleted = |site| self.minting.has_marker(history, site, *version);
                status::source_wrote(history, *version, before, (after, *content), deleted)
            }
            Seen::Journaled { index, version, qualifies } => {
                self.population.journaled(*index, history.version(*version).key, *version, *qualifies);
                Ok(())
            }
            Seen::Queued { topic, facts, origin, replica, .. } => {
                self.mark_message(*topic, facts, *origin, marks);
                match &facts.kind {
                    FactKind::Work { version, .. } => {
                        if *replica {
                            let message = format!("version {} is a replica and was queued", version.0);
                            return Err(Violation::new("STATUS-4", message));
                        }
                        origin.map_or(Ok(()), |seq| self.population.queued(seq, Some(*version)))
                    }
                    FactKind::Outcome { version, site, status, revision } => {
                        if *status == SiteStatus::Completed && history.mints(*site) {
                            self.minting.completed(history, *site, *version)?;
                        }
                        let deleted = self.minting.has_marker(history, *site, *version);
                        status::outcome(history, *version, *site, status, *revision, deleted)
                    }
                    FactKind::Foreign => origin.map_or(Ok(()), |seq| self.population.queued(seq, None)),
                }
            }
            Seen::Committed { group, topic, partition, upto, generation } => {
                self.commits.check(history, *group, *topic, *partition, *upto, *generation)
            }
            Seen::PositionSaved { next } => self.population.saved(*next),
            Seen::LossRecorded { first, end, oldest } => self.population.lost(*first, *end, *oldest),
            Seen::TargetAsked { by, site, version, .. } => {
                bound::cost(history, *version, *site, self.calm)?;
                self.fifo.asked(history, *by, *site, *version)
            }
            Seen::TargetAnswered { by, version, .. } => {
                self.fifo.answered(history, *by, *version);
                Ok(())
            }
            Seen::Died { by } => {
                self.fifo.died(*by);
                Ok(())
            }
            Seen::TargetWrote { site, version, after, content, blobs, latest } => {
                self.mark_target_write(*site, *version, (after, *content), marks);
                if self.history.at(*version, *site).target.is_none() {
                    self.fifo.applied(history, *site, *version)?;
                }
                self.data.shows(history, *site, *version, *latest, marks)?;
                self.data.wrote(history, *site, *version, (after, *content), blobs)
            }
            Seen::Minted { site, key, version, id, md, asked, stray } => {
                let shown = (md.is_delete_marker(), *asked);
                if !md.is_delete_marker() && self.history.at(*version, *site).target.is_none() {
                    self.fifo.applied(history, *site, *version)?;
                }
                self.minting.minted(history, (*site, *key, *version, *id), shown, *stray)
            }
            Seen::Retagged { site, version, id, content, stray } => {
                self.minting.retagged(history, (*site, *version, *id), *content, *stray)
            }
            Seen::Unminted { site, key, id } => self.minting.unminted(history, *site, *key, *id),
            Seen::ExceptionPut { site, record, .. } => {
                if history.mints(*site) && record.state == ExceptionState::Deferred {
                    let message = format!("{} was deferred at a target that mints ids", record.object);
                    return Err(Violation::new("FIFO-2", message));
                }
                Ok(())
            }
            Seen::TargetDeleted { site, blob, version } => self.data.deleted(history, *site, *version, *blob),
            Seen::ClientWrote { .. }
            | Seen::ClientDeleted { .. }
            | Seen::FailureListed { .. }
            | Seen::RetryAsked { .. } => Ok(()),
        }
    }

    fn mark_source_write(
        &self,
        version: VerId,
        before: &ObjectMd,
        (after, content): (&ObjectMd, Content),
        marks: &mut Marks,
    ) {
        let known = self.history.version(version);
        if known.stored != content {
            let newest = known.newest_content();
            let restored = after.replication().status().as_str() == "PENDING";
            marks.hit(match (content == newest, restored) {
                (true, _) => Mark::ChangeCameBack,
                (false, true) => Mark::RestorationOverwrote,
                (false, false) => Mark::ChangeOverwritten,
            });
        }
        let mut completed = false;
        let mut pending = false;
        for site in &self.history.site_names {
            let (old, new) = (before.replication().site_status(site), after.replication().site_status(site));
            if old == Some(&SiteStatus::Completed)
                && new == Some(&SiteStatus::Pending)
                && known.stored == content
            {
                marks.hit(Mark::EndingTakenBack);
            }
            if old != new && new == Some(&SiteStatus::Failed) {
                marks.hit(Mark::FailedFinal);
            }
            if old == Some(&SiteStatus::Failed) && new == Some(&SiteStatus::Completed) {
                marks.hit(Mark::FailedThenCompleted);
            }
            completed |= new == Some(&SiteStatus::Completed);
            pending |= new == Some(&SiteStatus::Pending);
        }
        if completed && pending {
            marks.hit(Mark::AcrossBothSites);
        }
    }

    fn mark_message(&self, topic: Topic, facts: &Facts, origin: Option<usize>, marks: &mut Marks) {
        match &facts.kind {
            FactKind::Work { version, .. } => {
                if origin.is_some_and(|seq| self.population.is_queued(seq)) {
                    marks.hit(Mark::PublishedTwice);
                }
                if matches!(topic, Topic::Replay(_)) {
                    marks.hit(Mark::Replayed);
                }
                let known = self.history.version(*version);
                let open = |at: &history::AtSite| {
                    at.first_queued.is_some() && at.completed.is_none_or(|done| done < known.newest())
                };
                if known.sites.iter().any(open) {
                    marks.hit(Mark::SameVersionTwice);
                }
                let before = self.history.queue_order[known.key.index()].last();
                if before.is_some_and(|earlier| {
                    earlier != version
                        && self.history.version(*earlier).sites.iter().any(|at| at.completed.is_none())
                }) {
                    marks.hit(Mark::KeyQueued);
                }
            }
            FactKind::Outcome { version, site, status, revision } => {
                let at = self.history.at(*version, *site);
                let same = match status {
                    SiteStatus::Completed => at.completed == Some(*revision),
                    SiteStatus::Failed => at.failed.is_some_and(|(failed, _)| failed == *revision),
                    SiteStatus::Pending | SiteStatus::Replica | SiteStatus::Other(_) => false,
                };
                if same {
                    marks.hit(Mark::StatusTwice);
                }
                if *status == SiteStatus::Completed && at.failed.is_some() {
                    marks.hit(Mark::ReplayCompleted);
                }
            }
            FactKind::Foreign => {}
        }
    }

    fn mark_target_write(
        &self,
        site: SiteId,
        version: VerId,
        (after, content): (&ObjectMd, Content),
        marks: &mut Marks,
    ) {
        let at = self.history.at(version, site);
        match at.target {
            None if after.is_delete_marker() => marks.hit(Mark::MarkerCopied),
            None if after.locations().is_empty() => marks.hit(Mark::EmptyCopied),
            None if after.locations().len() > 1 => marks.hit(Mark::MultipartCopied),
            Some(shown) if shown != content => marks.hit(Mark::TagsCopied),
            None | Some(_) => {}
        }
    }

    /// What a message says, in the checkers' words.
    pub fn facts_of(&mut self, topic: Topic, message: &Message) -> Facts {
        let order = self.history.order;
        let Some(entry) = object_entry(message) else { return Facts { order, kind: FactKind::Foreign } };
        let version = version_of_entry(entry);
        let content = self.content_of(version, entry.md());
        let known = self.history.version(version);
        let revision = known.revision_of(content).map_or(0, |(_, last)| last);
        let site = entry.site.as_ref().and_then(|site| self.site_id(site));
        let kind = if let (Topic::Status, Some(site)) = (topic, site) {
            let name = &self.history.site_names[site.index()];
            let said = entry.replication().site_status(name).cloned();
            FactKind::Outcome {
                version,
                site,
                status: said.unwrap_or(SiteStatus::Other("".into())),
                revision,
            }
        } else {
            let named = |site: &Site| entry.replication().names_site(site);
            let sites = (0_u32..).zip(&self.history.site_names);
            let sites = sites.filter(|(_, site)| named(site)).map(|(bit, _)| 1 << bit).sum();
            FactKind::Work { version, sites, revision }
        };
        Facts { order, kind }
    }

    /// The content that `md` gives `version`.
    pub fn content_of(&mut self, version: VerId, md: &ObjectMd) -> Content {
        if self.contents.len() <= version.index() {
            self.contents.resize(version.index() + 1, None);
        }
        match &mut self.contents[version.index()] {
            Some((known, content)) if known.shares_content_with(md) => *content,
            place => place.insert((md.clone(), Content::of(md))).1,
        }
    }

    fn site_id(&self, site: &Site) -> Option<SiteId> {
        (0_u8..).zip(&self.history.site_names).find(|(_, name)| *name == site).map(|(id, _)| SiteId(id))
    }

    /// Whether the source has the content of the client revision with this index.
    pub fn is_revision(&self, version: VerId, revision: u32) -> bool {
        let known = self.history.version(version);
        known.revisions[revision as usize].content == known.stored
    }

    /// Whether work on this version was queued before.
    pub fn is_queued(&self, version: VerId) -> bool {
        self.history.version(version).sites.iter().any(|at| at.first_queued.is_some())
    }

    /// Reports a broken invariant that the world saw for itself.
    pub fn report(&mut self, id: &'static str, message: String) {
        self.violation.get_or_insert(Violation::new(id, message));
    }

    /// Whether everything that asks for work has its ending.
    pub fn is_done(&self, dead: &[SiteId]) -> bool {
        live::is_done(&self.history, &self.population, dead)
    }

    /// Versions that are FAILED at a site now and that an operator may want to be tried again.
    pub fn failed(&self) -> Vec<(VerId, SiteId)> {
        let mut failed = Vec::new();
        for (id, known) in (0_u32..).zip(&self.history.versions) {
            for (site, at) in (0_u8..).zip(&known.sites) {
                if !known.gone && !at.hopeless && at.status == Some(SiteStatus::Failed) {
                    failed.push((VerId(id), SiteId(site)));
                }
            }
        }
        failed
    }

    /// Checks the end of the run.
    pub fn finish(&mut self, end: &Final) {
        if self.violation.is_none()
            && let Err(violation) = live::finish(&self.history, &self.population, end)
        {
            self.violation = Some(violation);
        }
    }
}

/// The object entry in a message, if it is one.
pub fn object_entry(message: &Message) -> Option<&ObjectEntry> {
    match message {
        Message::Object(entry) => Some(entry),
        Message::Canary
        | Message::Bootstrap
        | Message::DeleteOp { .. }
        | Message::Bucket { .. }
        | Message::BucketMd { .. }
        | Message::Action(_)
        | Message::Invalid { .. } => None,
    }
}
