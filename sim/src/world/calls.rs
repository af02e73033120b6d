//! Requests to the source and target sites: what happens to them on the way, and what the sites do with them.

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::EffectId;
use backbeat_core::model::{Location, ObjectMd, VersionRef};
use backbeat_core::request::minting::MintingRequest;
use backbeat_core::request::{Condition, MovedPart, PartMove, Side, SiteReply, SiteRequest};
use backbeat_core::rules::Rules;
use backbeat_core::time::Span;
use backbeat_core::{populator, processor, status};

use super::minting::{changed_by, is_refused_write};
use super::process::{Ev, Role};
use super::site::{BucketState, holds};
use super::source::STALE_MAX;
use super::{Arrival, Item, World};
use crate::checkers::Seen;
use crate::content::Content;
use crate::faults::Fault;
use crate::ids::{GroupId, KeyId, ProcId, SiteId, VerId};
use crate::marks::Mark;
use crate::names::version_of;
use crate::scenario::SECOND;

/// How long a client of a site waits for the answer to a control call.
const CALL_TIMEOUT: u64 = 3 * SECOND;

/// Which side a request goes to; a move of a part goes to both.
fn side_of(request: &SiteRequest) -> Side {
    match request {
        SiteRequest::ReadMetadata { side, .. } | SiteRequest::WriteMetadata { side, .. } => *side,
        SiteRequest::MovePart(_) | SiteRequest::DeleteData { .. } | SiteRequest::CheckBucket { .. } => {
            Side::Target
        }
        SiteRequest::ReadRules { .. } => Side::Source,
        SiteRequest::Minting(request) => request.side(),
    }
}

/// A reply of the right kind that says the ending is unknown.
fn unknown(request: &SiteRequest) -> SiteReply {
    reply(request, |()| Ending::Unknown)
}

/// A reply of the right kind that refuses.
fn refused(request: &SiteRequest, refusal: &Refusal) -> SiteReply {
    reply(request, |()| Ending::Refused(refusal.clone()))
}

fn reply(request: &SiteRequest, ending: impl Fn(()) -> Ending<()>) -> SiteReply {
    fn as_other<T>(ending: Ending<()>) -> Ending<T> {
        match ending {
            Ending::Applied(()) => panic!("only refusals and unknown endings are made here"),
            Ending::Refused(refusal) => Ending::Refused(refusal),
            Ending::Unknown => Ending::Unknown,
        }
    }
    match request {
        SiteRequest::ReadMetadata { .. } => SiteReply::Metadata(as_other(ending(()))),
        SiteRequest::WriteMetadata { .. } => SiteReply::Written(ending(())),
        SiteRequest::MovePart(_) => SiteReply::Moved { side: Side::Target, ending: as_other(ending(())) },
        SiteRequest::DeleteData { .. } => SiteReply::Deleted(ending(())),
        SiteRequest::ReadRules { .. } => SiteReply::Rules(as_other(ending(()))),
        SiteRequest::CheckBucket { .. } => SiteReply::Bucket(ending(())),
        SiteRequest::Minting(request) => SiteReply::Minting(request.not_applied(as_other(ending(())))),
    }
}

impl<R: Rules> World<R> {
    /// A machine sends a request.
    pub(super) fn send_call(&mut self, from: ProcId, id: EffectId, request: Box<SiteRequest>) {
        let now = self.now();
        let process = self.process(from);
        process.in_flight += 1;
        process.calls_in_flight += 1;
        let (life, role) = (process.life, process.role);
        let generation = process.assignment.as_ref().map(|owned| owned.generation);
        if let (Role::Processor(site), Some(version)) = (role, changed_at_target(&request)) {
            self.process(from).target_calls.insert(id, version);
            self.see(&Seen::TargetAsked { by: from, life, site, version });
        }
        let transfer = transfer_deadline(&request);
        let deadline = now + transfer.unwrap_or(CALL_TIMEOUT);
        let moves = transfer.is_some();
        let Some(mut at) = self.departure(from) else {
            self.marks.hit(Mark::UnknownLost);
            self.tell_unknown(from, life, id, &request, deadline);
            return;
        };
        if moves {
            if self.strikes(Fault::ResetMidBody) {
                let at = at + self.struck.below(SECOND);
                self.tell_unknown(from, life, id, &request, at.min(deadline));
                return;
            }
            if self.strikes(Fault::SlowDrip) {
                at = at.max(deadline) + self.struck.below(5 * SECOND);
            }
        }
        // A status write arrives before its sender's patience ends, or never; the connection ends with it. It is not doubled
        // (see the contract in `source`).
        if matches!(*request, SiteRequest::WriteMetadata { side: Side::Source, .. }) {
            if at > deadline {
                self.marks.hit(Mark::UnknownLost);
                self.tell_unknown(from, life, id, &request, deadline);
                return;
            }
            let arrival = Arrival { from, life, id, request, generation, deadline, silent: false };
            self.schedule.push(at, Item::Arrive(arrival));
            return;
        }
        if self.strikes(Fault::RequestDoubled) {
            let again = at + self.struck.below(SECOND);
            self.echo(from, life, id, &request, again);
        }
        if may_come_late(&request) && self.strikes(Fault::LateDuplicate) {
            let again = at + SECOND + self.struck.below(40 * SECOND);
            self.echo(from, life, id, &request, again);
        }
        let silent = at > deadline;
        if silent {
            self.tell_unknown(from, life, id, &request, deadline);
        }
        let arrival = Arrival { from, life, id, request, generation, deadline, silent };
        self.schedule.push(at, Item::Arrive(arrival));
    }

    fn echo(&mut self, from: ProcId, life: u32, id: EffectId, request: &SiteRequest, at: u64) {
        let request = Box::new(request.clone());
        let arrival = Arrival { from, life, id, request, generation: None, deadline: at, silent: true };
        self.schedule.push(at, Item::Arrive(arrival));
    }

    fn tell_unknown(&mut self, to: ProcId, life: u32, id: EffectId, request: &SiteRequest, at: u64) {
        let ev = self.replied(to, id, unknown(request));
        self.schedule.push(at, Item::Deliver { to, life, ev });
    }

    fn replied(&self, to: ProcId, id: EffectId, reply: SiteReply) -> Ev {
        match self.processes[to.index()].role {
            Role::Processor(_) => Ev::Processor(processor::Event::Replied { id, reply }),
            Role::Status => Ev::Status(status::Event::Replied { id, reply }),
            Role::Populator => Ev::Populator(populator::Event::Replied { id, reply }),
        }
    }

    /// A request arrives at its site.
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let now = self.now();
        let Arrival { from, life, id, request, generation, deadline, silent } = arrival;
        let role = self.processes[from.index()].role;
        let site = match role {
            Role::Processor(site) => Some(site),
            Role::Status | Role::Populator => None,
        };
        self.mark_late_arrival(from, life, silent, &request);
        if silent && self.refused_calls.contains(&(from, life, id)) {
            return;
        }
        let stray = silent || !self.is_answerable((from, life, generation), site, &request);
        let Some(reply) = self.serve(from, site, &request, stray) else {
            // Nobody answers.
            if !silent {
                self.tell_unknown(from, life, id, &request, deadline);
            }
            return;
        };
        if silent {
            return;
        }
        let refused = matches!(reply, SiteReply::Written(Ending::Refused(_)))
            || matches!(&reply, SiteReply::Minting(reply) if is_refused_write(reply));
        if refused {
            self.refused_calls.insert((from, life, id));
        }
        let lost = self.is_unheard(from)
            || (side_of(&request) == Side::Target && self.strikes(Fault::TargetReplyLost));
        let mut delay = self.latency();
        if side_of(&request) == Side::Source && self.strikes(Fault::SourceSlow) {
            delay += self.struck.below(4 * SECOND);
        }
        if lost || now + delay > deadline {
            if matches!(*request, SiteRequest::WriteMetadata { .. }) {
                self.marks.hit(Mark::UnknownApplied);
            }
            self.tell_unknown(from, life, id, &request, deadline);
            return;
        }
        let ev = self.replied(from, id, reply);
        let at = (now + delay).max(self.processes[from.index()].clogged_until.min(deadline));
        self.schedule.push(at, Item::Deliver { to: from, life, ev });
    }

    fn mark_late_arrival(&mut self, from: ProcId, life: u32, silent: bool, request: &SiteRequest) {
        if !matches!(request, SiteRequest::WriteMetadata { .. }) {
            return;
        }
        let process = &self.processes[from.index()];
        if process.life != life || !process.up {
            self.marks.hit(Mark::WriteAfterDeath);
        } else if silent {
            self.marks.hit(Mark::LateApply);
        }
        let lost = process.assignment.as_ref().is_none_or(|owned| owned.over);
        if lost && process.up && process.life == life {
            self.marks.hit(Mark::ZombieWrote);
        }
    }

    /// What the site does; `None` if nobody answers.
    fn serve(
        &mut self,
        from: ProcId,
        site: Option<SiteId>,
        request: &SiteRequest,
        stray: bool,
    ) -> Option<SiteReply> {
        match side_of(request) {
            Side::Source => Some(self.serve_source(from, request)),
            Side::Target => {
                let site = site.expect("only site processors ask targets");
                self.serve_target(from, site, request, stray)
            }
        }
    }

    /// Whether the sender of a request lives and owns the partition of the key concerned: whatever the request does, its sender
    /// hears of it, or its successor looks for it.
    fn is_answerable(
        &self,
        (from, life, generation): (ProcId, u32, Option<u32>),
        site: Option<SiteId>,
        request: &SiteRequest,
    ) -> bool {
        let process = &self.processes[from.index()];
        let Some(site) = site else { return true };
        let Some(version) = changed_at_target(request) else { return true };
        let partition = self.partition_of[self.source.versions[version.index()].key.index()];
        let group = &self.groups[GroupId::Site(site)];
        let owns = group.owners[partition] == Some((from, life)) && generation == Some(group.generation);
        process.up && process.life == life && owns
    }

    fn serve_source(&mut self, from: ProcId, request: &SiteRequest) -> SiteReply {
        let now = self.now();
        let is_status = self.processes[from.index()].role == Role::Status;
        if let Some(refusal) = self.source_refusal() {
            return refused(request, &refusal);
        }
        match request {
            SiteRequest::ReadRules { .. } => {
                let is_enabled = self.source.rule_disabled_until <= now;
                let rules = if is_enabled { &self.configs.rules } else { &self.configs.rules_disabled };
                SiteReply::Rules(Ending::Applied(rules.clone()))
            }
            SiteRequest::ReadMetadata { object, .. } => {
                let version = version_of(object);
                if !is_status && self.strikes(Fault::SourceDeleted) {
                    self.client_deletes(version);
                }
                let Some(md) = self.source.md(version).cloned() else {
                    self.marks.hit(Mark::GoneAtSource);
                    return refused(request, &Refusal::new(RefusalKind::NotFound, "ObjNotFound"));
                };
                let stale = is_status && self.strikes(Fault::StaleRead);
                let stored = &self.source.versions[version.index()];
                let stale = stale && now <= stored.written_at + STALE_MAX;
                let md = if stale { stored.before.clone().unwrap_or(md) } else { md };
                if !is_status && self.strikes(Fault::SourceChanged) {
                    self.marks.hit(Mark::SourceChangedWhileCopying);
                    self.client_changes(version);
                }
                SiteReply::Metadata(Ending::Applied(md))
            }
            SiteRequest::WriteMetadata { object, md, condition, .. } => {
                let version = version_of(object);
                if self.strikes(Fault::StatusRace) {
                    self.client_tags(version);
                }
                let before = self.source.md(version).cloned();
                if self.shape.source_compares && !holds(condition.as_ref(), before.as_ref()) {
                    self.marks.hit(Mark::StatusConflict);
                    return refused(request, &Refusal::new(RefusalKind::Conflict, "PreconditionFailed"));
                }
                let Some(before) = before else {
                    return refused(request, &Refusal::new(RefusalKind::NotFound, "ObjNotFound"));
                };
                let content = self.checkers.content_of(version, md);
                self.see(&Seen::SourceWrote { version, before: &before, after: md, content });
                self.source.write(version, md);
                self.source.versions[version.index()].written_at = now;
                self.show_journal();
                SiteReply::Written(Ending::Applied(()))
            }
            SiteRequest::Minting(asked) => {
                let MintingRequest::ReadCurrent { object } = &**asked else {
                    panic!("{asked:?} does not go to the source")
                };
                SiteReply::Minting(self.current_at_source(version_of(object)))
            }
            SiteRequest::MovePart(_) | SiteRequest::DeleteData { .. } | SiteRequest::CheckBucket { .. } => {
                panic!("{request:?} does not go to the source")
            }
        }
    }

    pub(super) fn source_refusal(&mut self) -> Option<Refusal> {
        if self.source.denied_until > self.now() {
            return Some(Refusal::new(RefusalKind::Denied, "AccessDenied"));
        }
        if self.strikes(Fault::SourceUnavailable) {
            return Some(Refusal::new(RefusalKind::Unavailable, "InternalError"));
        }
        if self.strikes(Fault::Throttled) {
            return Some(self.slow_down());
        }
        None
    }

    fn slow_down(&mut self) -> Refusal {
        let retry_after =
            if self.dice.coin() { Some(Span::from_millis(self.dice.between(50, 3_000))) } else { None };
        Refusal::new(RefusalKind::Throttled { retry_after }, "SlowDown")
    }

    fn serve_target(
        &mut self,
        from: ProcId,
        site: SiteId,
        request: &SiteRequest,
        stray: bool,
    ) -> Option<SiteReply> {
        let now = self.now();
        let target = &self.targets[site.index()];
        if target.dead_for_ever || target.down_until > now {
            return None;
        }
        let refusal = if target.throttled_until > now {
            Some(self.slow_down())
        } else if target.expired_until > now {
            Some(Refusal::new(RefusalKind::ExpiredCredentials, "ExpiredToken"))
        } else {
            match if target.bucket_until > now { target.bucket } else { BucketState::Ready } {
                BucketState::Ready => None,
                BucketState::Missing => Some(Refusal::new(RefusalKind::BucketNotFound, "NoSuchBucket")),
                BucketState::Unversioned => {
                    Some(Refusal::new(RefusalKind::BucketUnversioned, "InvalidBucketState"))
                }
            }
        };
        if let Some(refusal) = refusal {
            return Some(refused(request, &refusal));
        }
        if self.strikes(Fault::TargetUnavailable) {
            return Some(refused(request, &Refusal::new(RefusalKind::Unavailable, "InternalError")));
        }
        match request {
            SiteRequest::CheckBucket { .. } => Some(SiteReply::Bucket(Ending::Applied(()))),
            SiteRequest::ReadMetadata { object, .. } => {
                let stored = self.targets[site.index()].version(version_of(object)).cloned();
                Some(SiteReply::Metadata(match stored {
                    Some(md) => Ending::Applied(md),
                    None => Ending::Refused(Refusal::new(RefusalKind::NotFound, "ObjNotFound")),
                }))
            }
            SiteRequest::WriteMetadata { object, md, condition, keep_data, .. } => {
                let version = version_of(object);
                let named = (self.source.versions[version.index()].key, version, &object.version);
                let blobs = &self.targets[site.index()].blobs;
                let stored_by =
                    |part: &Location| blobs.get(part.key.parse::<usize>().ok()?).map(|blob| blob.by);
                if md.locations().iter().filter_map(stored_by).any(|by| by != from) {
                    self.marks.hit(Mark::NotedPartNamed);
                }
                Some(SiteReply::Written(self.write_target(site, named, md, condition.as_ref(), *keep_data)))
            }
            SiteRequest::MovePart(part) => Some(self.move_part(from, site, part)),
            SiteRequest::DeleteData { locations, .. } => {
                self.delete_data(site, locations);
                Some(SiteReply::Deleted(Ending::Applied(())))
            }
            SiteRequest::Minting(request) => {
                Some(SiteReply::Minting(self.serve_minting(site, request, stray)))
            }
            SiteRequest::ReadRules { .. } => panic!("{request:?} does not go to a target"),
        }
    }

    fn write_target(
        &mut self,
        site: SiteId,
        (key, version, named): (KeyId, VerId, &VersionRef),
        md: &ObjectMd,
        condition: Option<&Condition>,
        keep_data: bool,
    ) -> Ending<()> {
        match self.targets[site.index()].write((key, version, named), md, condition, keep_data) {
            Ending::Applied((after, _)) => {
                if keep_data {
                    self.marks.hit(Mark::MetadataOnly);
                }
                if self.source.versions[version.index()].null.is_some() {
                    self.marks.hit(Mark::NullCopied);
                }
                let target = &self.targets[site.index()];
                let (blobs, latest) = (&target.blobs, target.latest(key));
                let content = Content::of(&after);
                let seen = Seen::TargetWrote { site, version, after: &after, content, blobs, latest };
                self.checkers.observe(&seen, &mut self.marks);
                Ending::Applied(())
            }
            Ending::Refused(refusal) => {
                if refusal.kind == RefusalKind::Conflict {
                    self.marks.hit(Mark::TargetConflict);
                }
                Ending::Refused(refusal)
            }
            Ending::Unknown => Ending::Unknown,
        }
    }

    /// Streams a part from the source to a target.
    fn move_part(&mut self, from: ProcId, site: SiteId, part: &PartMove) -> SiteReply {
        let version = version_of(&part.from);
        let moved = |side, ending| SiteReply::Moved { side, ending };
        if let Some(refusal) = self.source_refusal() {
            return moved(Side::Source, Ending::Refused(refusal));
        }
        if self.source.md(version).is_none() {
            self.marks.hit(Mark::GoneAtSource);
            return moved(Side::Source, Ending::Refused(Refusal::new(RefusalKind::NotFound, "NoSuchKey")));
        }
        if self.strikes(Fault::Truncated) {
            return moved(
                Side::Source,
                Ending::Refused(Refusal::new(RefusalKind::Unavailable, "IncompleteBody")),
            );
        }
        if self.strikes(Fault::TargetBadDigest) {
            self.marks.hit(Mark::CorruptCaught);
            return moved(Side::Target, Ending::Refused(Refusal::new(RefusalKind::BadDigest, "BadDigest")));
        }
        let digest = if self.strikes(Fault::BitFlip) {
            self.marks.hit(Mark::CorruptCaught);
            format!("f00d{}", &part.digest[4..]).into()
        } else {
            part.digest.clone()
        };
        if part.upload.is_some() {
            return self.store_upload_part(site, part, digest);
        }
        let index = self.targets[site.index()].store(version, digest.clone(), from);
        let location = Location::new(&index.to_string(), 0, part.size, "target", part.number, &digest);
        moved(Side::Target, Ending::Applied(MovedPart::new(location, digest)))
    }

    fn delete_data(&mut self, site: SiteId, locations: &[Location]) {
        for location in locations {
            let target = &mut self.targets[site.index()];
            let Some(blob) = target.blob_index(location) else { continue };
            target.blobs[blob].alive = false;
            let version = target.blobs[blob].version;
            self.marks.hit(Mark::OrphanDeleted);
            self.see(&Seen::TargetDeleted { site, blob, version });
        }
    }
}

/// How long a request that streams bytes may take; `None` for control calls.
fn transfer_deadline(request: &SiteRequest) -> Option<u64> {
    if let SiteRequest::MovePart(part) = request {
        return Some(part.deadline.as_micros());
    }
    let SiteRequest::Minting(request) = request else { return None };
    request.transfer().map(|put| put.deadline.as_micros())
}

/// Whether an old copy of a request may arrive once more, seconds later.
fn may_come_late(request: &SiteRequest) -> bool {
    matches!(request, SiteRequest::WriteMetadata { .. } | SiteRequest::DeleteData { .. })
        || matches!(request, SiteRequest::Minting(request) if changed_by(request).is_some())
}

/// The version that a request changes at a target; deleting unreferenced data changes none.
pub(super) fn changed_at_target(request: &SiteRequest) -> Option<VerId> {
    match request {
        SiteRequest::WriteMetadata { side: Side::Target, object, .. } => Some(version_of(object)),
        SiteRequest::MovePart(part) => Some(version_of(&part.from)),
        SiteRequest::Minting(request) => changed_by(request),
        SiteRequest::ReadMetadata { .. }
        | SiteRequest::WriteMetadata { side: Side::Source, .. }
        | SiteRequest::DeleteData { .. }
        | SiteRequest::ReadRules { .. }
        | SiteRequest::CheckBucket { .. } => None,
    }
}
