//! How one version is made equal at one site (decision D10): a machine of its own, driven by the site processor.
//!
//! The order of the two reads matters: the target first, the source after it. Whatever the target held came from a source
//! revision that is older than what is read next, so a write that is conditional on the target's state can never take
//! the target back, not even when a paused owner wakes up and finishes an old copy.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use xxhash_rust::xxh3::xxh3_64;

use crate::call::{Ending, Refusal, RefusalKind};
use crate::id::{Bucket, EffectId, EffectIds, Site};
use crate::model::{Location, ObjectMd, ObjectRef, OverallStatus, Part, SiteStatus};
use crate::parts::{Retry, RetryDecision, RetryPolicy};
use crate::request::{BucketRules, Condition, MovedPart, PartMove, Side, SiteReply, SiteRequest};
use crate::rules::{AfterUnknown, OrphanEvidence, Rules};
use crate::time::{Instant, Span};

/// How often a copy starts over because the target or the source changed under it, before that counts as trouble.
const RESTARTS_MAX: u32 = 8;

/// What every copy to a site has in common.
#[derive(Clone, Debug)]
pub struct CopyConfig {
    /// The site copied to.
    pub site: Site,
    /// Canonical id of the account that owns the copies.
    pub owner_id: String,
    /// Display name of that account.
    pub owner_display_name: String,
    /// When trouble ends a copy (replication reference 5.5).
    pub retry: RetryPolicy,
    /// Parts of one version under way at once (upstream's `mpuPartsConcurrency`).
    pub parts_max: usize,
    /// How long one part may take.
    pub part_deadline: Span,
}

/// How a copy ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The target equals this source revision. `bytes` were moved for it.
    Copied {
        /// The source revision.
        source: ObjectMd,
        /// Bytes of data moved, zero when the target had them.
        bytes: u64,
    },
    /// There is nothing to record.
    Settled(Settled),
    /// Trying again by itself is pointless, or was tried long enough.
    Failed {
        /// A stable word.
        reason: String,
        /// The source revision the failure speaks for.
        source: ObjectMd,
    },
    /// Something outside has to change first; nothing is wrong with the copy.
    Held {
        /// A stable word.
        reason: String,
    },
}

/// Why a version needs no work and no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The version is gone at the source.
    Gone,
    /// The site is COMPLETED for the present revision.
    AlreadyCompleted,
    /// The version does not ask for replication to this site (any more).
    NotRequested,
    /// The data is archived: upstream skips it too (replication reference 5.7, `InvalidObjectState`).
    Archived,
}

/// What a copy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the source to learn the destination bucket.
    Scouting,
    /// Reading the bucket's replication configuration.
    ReadingRules,
    /// Checking the target bucket.
    CheckingBucket,
    /// Reading the target's version.
    ReadingTarget,
    /// Reading the source's version.
    ReadingSource,
    /// Moving parts.
    Moving,
    /// Writing the target's metadata.
    Writing,
    /// Reading the target's version to prove that nothing refers to data written in vain.
    Proving,
    /// Deleting data written in vain.
    Sweeping,
    /// Ended.
    Ended,
}

/// Data written for a copy, and whether a metadata write that names it may still happen.
#[derive(Clone, Debug, Default)]
struct Deposit {
    layout: Vec<Part>,
    parts: BTreeMap<u32, Location>,
    write_unknown: bool,
}

/// Why no further part starts, once the parts under way are back.
#[derive(Clone, Debug)]
enum Stop {
    Trouble { side: Side, reason: String, retry_after: Option<Span>, look_again: bool },
    End(Outcome),
}

/// One version on its way to one site.
#[derive(Clone, Debug)]
pub struct CopyJob {
    object: ObjectRef,
    destination: Option<Bucket>,
    stage: Stage,
    retry: Option<Retry>,
    restarts: u32,
    /// The last trouble: the reason should the attempts run out.
    trouble: Option<(Side, String)>,
    wait_until: Option<Instant>,
    configuration: Option<BucketRules>,
    bucket_checked: bool,
    /// A failure that waits for the source revision that it speaks for.
    verdict: Option<String>,
    target: Option<ObjectMd>,
    source: Option<ObjectMd>,
    deposit: Deposit,
    /// Locations that no further write will name, and whether one that named them may still happen.
    abandoned: Vec<(Location, bool)>,
    keep_data: bool,
    write: Option<ObjectMd>,
    parts_todo: VecDeque<PartMove>,
    parts_running: BTreeMap<EffectId, PartMove>,
    parts_stop: Option<Stop>,
    call: Option<EffectId>,
    requests: VecDeque<(EffectId, SiteRequest)>,
    bytes_moved: u64,
    leaked: u32,
    ending: Option<Outcome>,
    heard_from_target: Option<bool>,
}

/// What a step of a copy may use.
pub(super) struct Context<'a, R> {
    pub(super) now: Instant,
    pub(super) rules: &'a R,
    pub(super) ids: &'a mut EffectIds,
    pub(super) config: &'a CopyConfig,
    /// The target is known to be down and this copy is the probe: its trouble says nothing about the copy.
    pub(super) is_probe: bool,
}

impl CopyJob {
    /// A copy of `object`. `destination` is the target bucket if the queue entry told; otherwise the source is asked.
    pub fn new(object: ObjectRef, destination: Option<Bucket>) -> Self {
        Self {
            object,
            stage: if destination.is_some() { Stage::ReadingRules } else { Stage::Scouting },
            destination,
            retry: None,
            restarts: 0,
            trouble: None,
            wait_until: None,
            configuration: None,
            bucket_checked: false,
            verdict: None,
            target: None,
            source: None,
            deposit: Deposit::default(),
            abandoned: Vec::new(),
            keep_data: false,
            write: None,
            parts_todo: VecDeque::new(),
            parts_running: BTreeMap::new(),
            parts_stop: None,
            call: None,
            requests: VecDeque::new(),
            bytes_moved: 0,
            leaked: 0,
            ending: None,
            heard_from_target: None,
        }
    }

    /// The target bucket, once it is known.
    pub fn destination(&self) -> Option<&Bucket> {
        self.destination.as_ref()
    }

    /// What the copy is doing.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The last trouble and the side it came from.
    pub fn trouble(&self) -> Option<(Side, &str)> {
        self.trouble.as_ref().map(|(side, reason)| (*side, reason.as_str()))
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.retry.as_ref().map_or(0, Retry::attempts)
    }

    /// Set while nothing is under way and the next attempt is due later.
    pub fn wait_until(&self) -> Option<Instant> {
        self.wait_until
    }

    /// How the copy ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.ending.as_ref().filter(|_| self.stage == Stage::Ended)
    }

    /// Parts written in vain that could not be proven unreferenced: left to an audit (decision D4).
    pub fn leaked(&self) -> u32 {
        self.leaked
    }

    /// Whether the target answered (`true`) or failed to (`false`) since this was last asked.
    pub fn take_heard_from_target(&mut self) -> Option<bool> {
        self.heard_from_target.take()
    }

    /// The next request to carry out.
    pub fn poll_request(&mut self) -> Option<(EffectId, SiteRequest)> {
        self.requests.pop_front()
    }

    /// Requests whose replies are still to come.
    pub fn outstanding(&self) -> impl Iterator<Item = EffectId> + '_ {
        self.call.into_iter().chain(self.parts_running.keys().copied())
    }

    /// Starts, or goes on after a wait.
    pub(super) fn resume<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        self.wait_until = None;
        self.retry.get_or_insert_with(|| Retry::new(context.now));
        if self.stage == Stage::Moving {
            self.plan_parts(context.config);
        }
        self.ask(context);
    }

    /// Another message asks for this version while the copy waits: what was read of the source may be old by now, so both
    /// sides are read again before anything more is written (decision D1).
    pub(super) fn source_may_have_changed(&mut self) {
        if matches!(self.stage, Stage::Moving | Stage::Writing) {
            self.stage = Stage::ReadingTarget;
        }
    }

    /// Takes the reply to one request. Replies to unknown ids are ignored.
    pub(super) fn reply<R: Rules>(&mut self, id: EffectId, reply: SiteReply, context: &mut Context<'_, R>) {
        if let Some(part) = self.parts_running.remove(&id) {
            let SiteReply::Moved { side, ending } = reply else {
                panic!("reply {reply:?} does not belong to a part");
            };
            self.part_ended(&part, side, ending, context.rules);
            self.parts_settled(context);
        } else if self.call.take_if(|call| *call == id).is_some() {
            self.call_ended(reply, context);
        } else {
            return;
        }
        if self.wait_until.is_none() {
            self.ask(context);
        }
    }

    fn call_ended<R: Rules>(&mut self, reply: SiteReply, context: &mut Context<'_, R>) {
        match (self.stage, reply) {
            (Stage::Scouting, SiteReply::Metadata(ending)) => self.scouted(ending, context),
            (Stage::ReadingRules, SiteReply::Rules(ending)) => self.rules_read(ending, context),
            (Stage::CheckingBucket, SiteReply::Bucket(ending)) => self.bucket_checked(ending, context),
            (Stage::ReadingTarget, SiteReply::Metadata(ending)) => self.target_read(ending, context),
            (Stage::ReadingSource, SiteReply::Metadata(ending)) => self.source_read(ending, context),
            (Stage::Writing, SiteReply::Written(ending)) => self.written(ending, context),
            (Stage::Proving, SiteReply::Metadata(ending)) => self.proven(&ending, context.rules),
            (Stage::Sweeping, SiteReply::Deleted(_)) => self.stage = Stage::Ended,
            (stage, reply) => panic!("reply {reply:?} does not belong to stage {stage:?}"),
        }
    }

    /// Emits what the present stage needs next.
    fn ask<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        if self.call.is_some() {
            return;
        }
        let request = match self.stage {
            Stage::Ended => return,
            Stage::Moving => return self.ask_parts(context),
            Stage::Scouting | Stage::ReadingSource => {
                SiteRequest::ReadMetadata { side: Side::Source, object: self.object.clone() }
            }
            Stage::ReadingTarget | Stage::Proving => {
                SiteRequest::ReadMetadata { side: Side::Target, object: self.target_object() }
            }
            Stage::ReadingRules => SiteRequest::ReadRules { bucket: self.object.bucket.clone() },
            Stage::CheckingBucket => SiteRequest::CheckBucket { bucket: self.target_object().bucket },
            Stage::Writing => SiteRequest::WriteMetadata {
                side: Side::Target,
                object: self.target_object(),
                md: self.write.clone().expect("the stage Writing has something to write"),
                condition: Some(match &self.target {
                    None => Condition::Absent,
                    Some(md) => Condition::Tag(md.state_tag()),
                }),
                keep_data: self.keep_data,
            },
            Stage::Sweeping => SiteRequest::DeleteData {
                bucket: self.target_object().bucket,
                key: self.object.key.clone(),
                locations: self.abandoned.drain(..).map(|(location, _)| location).collect(),
            },
        };
        let id = context.ids.next();
        self.call = Some(id);
        self.requests.push_back((id, request));
    }

    fn ask_parts<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        while self.parts_stop.is_none() && self.parts_running.len() < context.config.parts_max {
            let Some(part) = self.parts_todo.pop_front() else { return };
            let id = context.ids.next();
            self.requests.push_back((id, SiteRequest::MovePart(Box::new(part.clone()))));
            self.parts_running.insert(id, part);
        }
    }

    fn target_object(&self) -> ObjectRef {
        let bucket = self.destination.clone().expect("the destination is known before the target is asked");
        ObjectRef { bucket, key: self.object.key.clone(), version: self.object.version.clone() }
    }

    fn scouted<R: Rules>(&mut self, ending: Ending<ObjectMd>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(md) => {
                self.destination = destination_of(&md);
                if self.destination.is_some() {
                    self.stage = Stage::ReadingRules;
                } else {
                    self.end(Outcome::Settled(Settled::NotRequested));
                }
            }
            Ending::Refused(refusal) => self.source_refused(&refusal, context),
            Ending::Unknown => self.troubled(Side::Source, "SourceTimeout", None, context),
        }
    }

    fn rules_read<R: Rules>(&mut self, ending: Ending<BucketRules>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(configuration) => {
                self.configuration = Some(configuration);
                self.stage = if self.bucket_checked { Stage::ReadingTarget } else { Stage::CheckingBucket };
            }
            Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => {
                self.fail("ReplicationConfigurationNotFoundError");
            }
            Ending::Refused(refusal) => self.source_refused(&refusal, context),
            Ending::Unknown => self.troubled(Side::Source, "SourceTimeout", None, context),
        }
    }

    fn bucket_checked<R: Rules>(&mut self, ending: Ending<()>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(()) => {
                self.heard_from_target = Some(true);
                self.bucket_checked = true;
                self.stage = Stage::ReadingTarget;
            }
            Ending::Refused(refusal) => self.target_refused(&refusal, context),
            Ending::Unknown => self.troubled(Side::Target, "TargetTimeout", None, context),
        }
    }

    fn target_read<R: Rules>(&mut self, ending: Ending<ObjectMd>, context: &mut Context<'_, R>) {
        self.target = match ending {
            Ending::Applied(md) => Some(md),
            Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => None,
            Ending::Refused(refusal) => return self.target_refused(&refusal, context),
            Ending::Unknown => return self.troubled(Side::Target, "TargetTimeout", None, context),
        };
        self.heard_from_target = Some(true);
        self.stage = Stage::ReadingSource;
    }

    fn source_read<R: Rules>(&mut self, ending: Ending<ObjectMd>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(md) => self.plan(md, context),
            Ending::Refused(refusal) => self.source_refused(&refusal, context),
            Ending::Unknown => self.troubled(Side::Source, "SourceTimeout", None, context),
        }
    }

    /// Decides what the target needs, knowing both sides.
    fn plan<R: Rules>(&mut self, md: ObjectMd, context: &mut Context<'_, R>) {
        self.source = Some(md.clone());
        if !context.rules.is_replicable(&md) {
            return self.end(Outcome::Settled(Settled::NotRequested));
        }
        match md.replication().site_status(&context.config.site) {
            None => return self.end(Outcome::Settled(Settled::NotRequested)),
            // A client may write the same content again after another one: then a late outcome of the first copy can be
            // recorded on the third revision while the target shows the second. Only a target that shows something else
            // proves that; one that shows nothing was emptied on purpose.
            Some(SiteStatus::Completed)
                if self.target.as_ref().is_none_or(|target| target.fingerprint() == md.fingerprint()) =>
            {
                return self.end(Outcome::Settled(Settled::AlreadyCompleted));
            }
            Some(_) => {}
        }
        if let Some(reason) = self.verdict.take() {
            return self.fail(&reason);
        }
        if destination_of(&md) != self.destination {
            self.destination = destination_of(&md);
            self.bucket_checked = false;
            return self.look_again(context);
        }
        match self.permission(&md) {
            Permission::Granted => {}
            Permission::Withdrawn => return self.fail("ReplicationDisabled"),
            Permission::BadRole => return self.end(Outcome::Held { reason: "BadRole".to_owned() }),
        }
        if self.target.as_ref().is_some_and(|target| target.fingerprint() == md.fingerprint()) {
            return self.end(Outcome::Copied { source: md, bytes: self.bytes_moved });
        }
        let layout = md.part_layout();
        self.keep_data =
            !layout.is_empty() && self.target.as_ref().is_some_and(|target| has_data_of(target, &md));
        if self.keep_data || layout.is_empty() {
            self.abandon_deposit();
            return self.prepare_write(context.config);
        }
        if layout.iter().any(|part| part.md5.is_empty()) {
            return self.fail("MissingPartDigest");
        }
        if self.deposit.layout != layout {
            self.abandon_deposit();
            self.deposit.layout = layout;
        }
        self.stage = Stage::Moving;
        self.plan_parts(context.config);
        self.parts_settled(context);
    }

    /// Whether the bucket's present configuration still wants this version copied with the entry's roles
    /// (replication reference 5.8, R1 to R4).
    fn permission(&self, md: &ObjectMd) -> Permission {
        let Some(configuration) = &self.configuration else { return Permission::Withdrawn };
        let roles = md.replication().roles();
        if roles.len() != 2 || configuration.roles != roles {
            return Permission::BadRole;
        }
        let key = self.object.key.as_str();
        let wanted = configuration.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
        if wanted { Permission::Granted } else { Permission::Withdrawn }
    }

    /// Lists the parts that the deposit lacks.
    fn plan_parts(&mut self, config: &CopyConfig) {
        let to_bucket = self.target_object().bucket;
        let missing =
            self.deposit.layout.iter().filter(|part| !self.deposit.parts.contains_key(&part.number));
        self.parts_todo = missing
            .map(|part| PartMove {
                from: self.object.clone(),
                number: part.number,
                size: part.size,
                digest: part.md5.to_string(),
                to_bucket: to_bucket.clone(),
                to_key: self.object.key.clone(),
                owner: config.owner_id.clone(),
                deadline: config.part_deadline,
            })
            .collect();
        self.parts_stop = None;
    }

    fn part_ended<R: Rules>(&mut self, part: &PartMove, side: Side, ending: Ending<MovedPart>, rules: &R) {
        let stop = match ending {
            Ending::Applied(moved) => {
                self.heard_from_target = Some(true);
                if rules.accepts_digest(&part.digest, &moved.digest) {
                    self.bytes_moved += part.size;
                    self.deposit.parts.insert(part.number, moved.location);
                    return;
                }
                self.abandoned.push((moved.location, false));
                trouble(Side::Source, "BadDigest", None, true)
            }
            Ending::Refused(refusal) => match side {
                Side::Source => source_part_refused(&refusal),
                Side::Target => self.target_part_refused(&refusal),
            },
            // The bytes may be stored under a key that nobody learnt: left to an audit.
            Ending::Unknown => {
                self.heard_from_target = Some(false);
                self.leaked += 1;
                trouble(Side::Target, "TargetTimeout", None, false)
            }
        };
        match (&self.parts_stop, &stop) {
            (None, _) | (Some(Stop::Trouble { .. }), Stop::End(_)) => self.parts_stop = Some(stop),
            (Some(_), _) => {}
        }
    }

    fn target_part_refused(&mut self, refusal: &Refusal) -> Stop {
        if refusal.kind.is_transient() {
            self.heard_from_target = Some(false);
            return trouble(Side::Target, &refusal.code, retry_after(refusal), false);
        }
        self.heard_from_target = Some(true);
        if refusal.kind == RefusalKind::BadDigest {
            return trouble(Side::Source, "BadDigest", None, true);
        }
        let source = self.source.clone().expect("parts move after the source was read");
        Stop::End(Outcome::Failed { reason: target_reason(refusal), source })
    }

    /// Goes on when no part is under way any more: to the write, to a wait, or to the end.
    fn parts_settled<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        if !self.parts_running.is_empty() {
            return;
        }
        match self.parts_stop.take() {
            None if self.parts_todo.is_empty() => self.prepare_write(context.config),
            None => {}
            Some(Stop::End(outcome)) => self.end(outcome),
            Some(Stop::Trouble { side, reason, retry_after, look_again }) => {
                if look_again {
                    self.stage = Stage::ReadingTarget;
                }
                self.troubled(side, &reason, retry_after, context);
            }
        }
    }

    /// Makes the document that the target gets (replication reference 4.3 and 4.4).
    fn prepare_write(&mut self, config: &CopyConfig) {
        let source = self.source.as_ref().expect("the source was read before the write is made");
        let locations = if self.keep_data {
            Vec::new()
        } else {
            let place = |location: Location| {
                let stored = location.part_number().and_then(|number| self.deposit.parts.get(&number));
                stored.map_or_else(|| location.clone(), |stored| location.stored_at(stored))
            };
            source.reduced_locations().into_iter().map(place).collect()
        };
        let replication = source
            .replication()
            .with_site_status(&config.site, SiteStatus::Replica)
            .with_status(OverallStatus::Replica);
        let md = source
            .with_replication(replication)
            .with_owner(&config.owner_id, &config.owner_display_name)
            .with_location(locations);
        self.write = Some(md);
        self.stage = Stage::Writing;
    }

    fn written<R: Rules>(&mut self, ending: Ending<()>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(()) => self.copied(),
            Ending::Refused(refusal)
                if matches!(refusal.kind, RefusalKind::Conflict | RefusalKind::NotFound) =>
            {
                self.heard_from_target = Some(true);
                if refusal.kind == RefusalKind::NotFound {
                    // The data that the document names is not there any more: it has to be moved again.
                    self.abandon_deposit();
                }
                self.look_again(context);
            }
            Ending::Refused(refusal) => self.target_refused(&refusal, context),
            Ending::Unknown => match context.rules.after_unknown() {
                AfterUnknown::TryAgain => {
                    self.deposit.write_unknown = true;
                    self.troubled(Side::Target, "TargetTimeout", None, context);
                }
                AfterUnknown::AssumeApplied => self.copied(),
                AfterUnknown::AssumeRefused => self.fail("TargetTimeout"),
            },
        }
    }

    fn copied(&mut self) {
        self.heard_from_target = Some(true);
        self.deposit = Deposit::default();
        let source = self.source.clone().expect("the source was read before the write");
        self.end(Outcome::Copied { source, bytes: self.bytes_moved });
    }

    /// Reads both sides again: one of them is not what it was.
    fn look_again<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        self.restarts += 1;
        self.stage = if self.bucket_checked { Stage::ReadingTarget } else { Stage::CheckingBucket };
        if self.restarts > RESTARTS_MAX {
            self.restarts = 0;
            self.troubled(Side::Target, "Contention", None, context);
        }
    }

    fn source_refused<R: Rules>(&mut self, refusal: &Refusal, context: &mut Context<'_, R>) {
        match refusal.kind {
            RefusalKind::NotFound | RefusalKind::BucketNotFound => self.end(Outcome::Settled(Settled::Gone)),
            RefusalKind::InvalidState => self.end(Outcome::Settled(Settled::Archived)),
            RefusalKind::Denied => self.end(Outcome::Held { reason: "SourceAccessDenied".to_owned() }),
            kind if kind.is_transient() => {
                self.troubled(Side::Source, &refusal.code, retry_after(refusal), context);
            }
            RefusalKind::BucketUnversioned
            | RefusalKind::ExpiredCredentials
            | RefusalKind::Throttled { .. }
            | RefusalKind::Unavailable
            | RefusalKind::Conflict
            | RefusalKind::BadDigest
            | RefusalKind::TooLarge
            | RefusalKind::Fenced
            | RefusalKind::Invalid => self.end(Outcome::Held { reason: refusal.code.clone() }),
        }
    }

    fn target_refused<R: Rules>(&mut self, refusal: &Refusal, context: &mut Context<'_, R>) {
        if refusal.kind.is_transient() {
            self.troubled(Side::Target, &refusal.code, retry_after(refusal), context);
        } else {
            self.heard_from_target = Some(true);
            self.fail(&target_reason(refusal));
        }
    }

    /// Waits before the present stage is tried again, or gives up.
    fn troubled<R: Rules>(
        &mut self,
        side: Side,
        reason: &str,
        retry_after: Option<Span>,
        context: &mut Context<'_, R>,
    ) {
        if side == Side::Target {
            self.heard_from_target = Some(false);
        }
        self.trouble = Some((side, reason.to_owned()));
        if side == Side::Target && context.is_probe {
            self.retry = Some(Retry::new(context.now));
        }
        let seed = xxh3_64(self.object.key.as_str().as_bytes());
        let retry = self.retry.get_or_insert_with(|| Retry::new(context.now));
        match retry.next_after(&context.config.retry, context.now, seed, retry_after) {
            RetryDecision::Retry { at } => self.wait_until = Some(at),
            // A source that cannot be read cannot be written either: nothing could be recorded.
            RetryDecision::GiveUp if side == Side::Source && reason != "BadDigest" => {
                self.end(Outcome::Held { reason: reason.to_owned() });
            }
            RetryDecision::GiveUp => self.fail(reason),
        }
    }

    /// Ends as FAILED, for the source revision that was read last; one is read if there is none yet.
    fn fail(&mut self, reason: &str) {
        if let Some(source) = self.source.clone() {
            self.end(Outcome::Failed { reason: reason.to_owned(), source });
        } else {
            self.verdict = Some(reason.to_owned());
            self.stage = Stage::ReadingSource;
        }
    }

    /// Ends; first the data that was written in vain is looked after.
    fn end(&mut self, outcome: Outcome) {
        self.abandon_deposit();
        self.ending = Some(outcome);
        self.stage = if self.abandoned.is_empty() { Stage::Ended } else { Stage::Proving };
    }

    fn abandon_deposit(&mut self) {
        let deposit = mem::take(&mut self.deposit);
        let unknown = deposit.write_unknown;
        self.abandoned.extend(deposit.parts.into_values().map(|location| (location, unknown)));
    }

    /// Keeps what may be deleted of the data written in vain; the rest leaks and is counted (decision D4).
    fn proven<R: Rules>(&mut self, ending: &Ending<ObjectMd>, rules: &R) {
        let before = self.abandoned.len();
        let referenced = |location: &Location| match ending {
            Ending::Applied(md) => md.locations().iter().any(|other| other.key == location.key),
            Ending::Refused(refusal) => refusal.kind != RefusalKind::NotFound,
            Ending::Unknown => true,
        };
        self.abandoned.retain(|(location, write_unknown)| {
            let unreferenced = !referenced(location);
            rules.orphans_may_go(OrphanEvidence { writes_refused: !write_unknown, unreferenced })
        });
        self.leaked += u32::try_from(before - self.abandoned.len()).unwrap_or(u32::MAX);
        self.stage = if self.abandoned.is_empty() { Stage::Ended } else { Stage::Sweeping };
    }
}

enum Permission {
    Granted,
    Withdrawn,
    BadRole,
}

fn trouble(side: Side, reason: &str, retry_after: Option<Span>, look_again: bool) -> Stop {
    Stop::Trouble { side, reason: reason.to_owned(), retry_after, look_again }
}

fn source_part_refused(refusal: &Refusal) -> Stop {
    match refusal.kind {
        RefusalKind::NotFound | RefusalKind::BucketNotFound => Stop::End(Outcome::Settled(Settled::Gone)),
        RefusalKind::InvalidState => Stop::End(Outcome::Settled(Settled::Archived)),
        RefusalKind::Denied => Stop::End(Outcome::Held { reason: "SourceAccessDenied".to_owned() }),
        // The part is not what the metadata announced: both sides are looked at again.
        RefusalKind::BadDigest | RefusalKind::Invalid => trouble(Side::Source, &refusal.code, None, true),
        RefusalKind::BucketUnversioned
        | RefusalKind::ExpiredCredentials
        | RefusalKind::Throttled { .. }
        | RefusalKind::Unavailable
        | RefusalKind::Conflict
        | RefusalKind::TooLarge
        | RefusalKind::Fenced => trouble(Side::Source, &refusal.code, retry_after(refusal), false),
    }
}

fn retry_after(refusal: &Refusal) -> Option<Span> {
    if let RefusalKind::Throttled { retry_after } = refusal.kind { retry_after } else { None }
}

/// The stable word for a refusal of the target (interface page section 2, AWS failure reasons).
fn target_reason(refusal: &Refusal) -> String {
    let word = match refusal.kind {
        RefusalKind::BucketNotFound => "DstBucketNotFound",
        RefusalKind::BucketUnversioned => "DstBucketUnversioned",
        RefusalKind::Denied => "DstAccessDenied",
        RefusalKind::NotFound
        | RefusalKind::ExpiredCredentials
        | RefusalKind::Throttled { .. }
        | RefusalKind::Unavailable
        | RefusalKind::Conflict
        | RefusalKind::BadDigest
        | RefusalKind::InvalidState
        | RefusalKind::TooLarge
        | RefusalKind::Fenced
        | RefusalKind::Invalid => &refusal.code,
    };
    word.to_owned()
}

/// The target bucket that a document names, if it names one.
pub(super) fn destination_of(md: &ObjectMd) -> Option<Bucket> {
    Some(md.replication().destination_bucket()).filter(|bucket| !bucket.as_str().is_empty())
}

/// Whether `target` holds the bytes of `source`, part by part.
fn has_data_of(target: &ObjectMd, source: &ObjectMd) -> bool {
    !target.is_delete_marker()
        && target.content_md5() == source.content_md5()
        && target.content_length() == source.content_length()
        && target.part_layout() == source.part_layout()
}
