//! Lost updates on a source without conditional metadata writes, found in its journal (decision D3).
//!
//! There a status write may overwrite what a client, or another status write, wrote between its read and its write. The journal
//! shows it: a client's revision, then a status write of another one that is known to be older, or that cannot have been made
//! from it. The watch remembers the last client revision of each version, and the statuses recorded for it, for as many versions
//! as it is told; what is forgotten is no longer protected.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::id::{Seq, Site};
use crate::model::{
    ObjectMd, ObjectRef, OverallStatus, Revision, SiteStatus, StateTag, StoredValue, origin_op,
};

/// Older revisions remembered for each version.
const OLDER_MAX: usize = 8;

/// What the watch remembers of one version, and the version's place in the order of all.
#[derive(Clone, Debug)]
struct Memory {
    tick: u64,
    /// The record that says what a client wrote last.
    asked_at: Seq,
    history: History,
}

/// A version that is written once needs no look into what was written.
#[derive(Clone, Debug)]
enum History {
    Once(StoredValue),
    Known(Box<Known>),
}

impl History {
    /// What is known, if what was written once can be read at all.
    fn known(&self) -> Option<Cow<'_, Known>> {
        match self {
            Self::Once(value) => value.md().map(|md| Cow::Owned(Known::new(md.clone()))),
            Self::Known(known) => Some(Cow::Borrowed(known)),
        }
    }

    /// The same, to be changed.
    fn known_mut(&mut self) -> Option<&mut Known> {
        if let Self::Once(value) = self {
            *self = Self::Known(Box::new(Known::new(value.md()?.clone())));
        }
        match self {
            Self::Known(known) => Some(known),
            Self::Once(_) => None,
        }
    }
}

/// The history of a version that was written more than once.
#[derive(Clone, Debug)]
struct Known {
    /// What a client wrote last.
    asked: ObjectMd,
    /// Whether a status write was made from it.
    acknowledged: bool,
    /// Client revisions before it, the newest last.
    older: VecDeque<Revision>,
    /// Endings recorded for it.
    settled: Vec<(Site, SiteStatus)>,
    /// The last record, to tell it from its doubles.
    last: (StateTag, Arc<str>),
}

/// The memory of a populator whose source has no conditional metadata writes.
#[derive(Debug)]
pub(super) struct Watch {
    versions: BTreeMap<ObjectRef, Memory>,
    /// The versions by when they were seen last.
    order: BTreeMap<u64, ObjectRef>,
    ticks: u64,
    /// Versions that are being restored: they are not forgotten meanwhile.
    pinned: BTreeSet<ObjectRef>,
    versions_max: usize,
    /// One past the newest record seen.
    seen: Seq,
}

/// Whether a record was written by a status processor: the site sets PENDING with every operation of a client, a status write never
/// (invariant I5).
fn is_status_write(md: &ObjectMd) -> bool {
    !is_asking(md) && md.origin_op().starts_with(origin_op::PREFIX)
}

/// Whether nobody but a client, a restoration or another site's engine writes such a state.
fn is_asking(md: &ObjectMd) -> bool {
    matches!(md.replication().status(), OverallStatus::Pending | OverallStatus::Replica)
}

fn is_restoration(md: &ObjectMd) -> bool {
    is_asking(md) && md.origin_op().starts_with(origin_op::RESTORED)
}

/// Whether it was read and written back to be replicated once more.
fn is_resync(md: &ObjectMd) -> bool {
    is_asking(md) && md.origin_op().starts_with(origin_op::RESYNCED)
}

/// The newest record that had shown a loss when this restoration was written.
fn mark_of(restoration: &ObjectMd) -> Option<Seq> {
    restoration.origin_op().strip_prefix(origin_op::RESTORED)?.parse().ok().map(Seq)
}

fn is_ending(status: &SiteStatus) -> bool {
    matches!(status, SiteStatus::Completed | SiteStatus::Failed)
}

fn endings(md: &ObjectMd) -> Vec<(Site, SiteStatus)> {
    let backends = md.replication().backends().iter().filter(|backend| is_ending(&backend.status));
    backends.map(|backend| (backend.site.clone(), backend.status.clone())).collect()
}

impl Known {
    fn new(md: ObjectMd) -> Self {
        let last = (md.state_tag(), md.origin_op().into());
        let acknowledged = is_status_write(&md);
        let settled = endings(&md);
        Self { asked: md, acknowledged, older: VecDeque::new(), settled, last }
    }

    /// Takes note of what a client wrote.
    fn ask(&mut self, md: ObjectMd) {
        let (before, now) = (self.asked.revision(), md.revision());
        if before != now {
            self.outdate(before);
        }
        self.older.retain(|older| *older != now);
        self.acknowledged = is_status_write(&md);
        self.settled = endings(&md);
        self.asked = md;
    }

    /// Takes note of a revision that is not the last one.
    fn outdate(&mut self, revision: Revision) {
        if !self.older.contains(&revision) {
            self.older.push_back(revision);
        }
        if self.older.len() > OLDER_MAX {
            self.older.pop_front();
        }
    }

    /// Takes note of a status write made from the last revision. Says whether it took back an ending.
    fn record(&mut self, md: &ObjectMd) -> bool {
        self.acknowledged = true;
        let retried = md.origin_op() == origin_op::PENDING;
        let mut lost = false;
        for backend in md.replication().backends() {
            let known = self.settled.iter_mut().find(|(site, _)| *site == backend.site);
            match known {
                None if is_ending(&backend.status) => {
                    self.settled.push((backend.site.clone(), backend.status.clone()));
                }
                None => {}
                Some((_, SiteStatus::Completed)) => lost |= backend.status != SiteStatus::Completed,
                Some((_, known)) if is_ending(&backend.status) => *known = backend.status.clone(),
                Some(_) if retried => self.settled.retain(|(site, _)| *site != backend.site),
                Some(_) => lost = true,
            }
        }
        lost
    }
}

impl Watch {
    pub(super) fn new(versions_max: usize) -> Self {
        Self {
            versions: BTreeMap::new(),
            order: BTreeMap::new(),
            ticks: 0,
            pinned: BTreeSet::new(),
            versions_max,
            seen: Seq(0),
        }
    }

    /// Whether the record `seq` was seen before: records are read again after a failed publish.
    pub(super) fn has_seen(&self, seq: Seq) -> bool {
        seq < self.seen
    }

    /// The whole record was looked at.
    pub(super) fn seen(&mut self, seq: Seq) {
        self.seen = self.seen.max(seq.next());
    }

    /// Records are missing: what is remembered proves nothing about those that follow, but for versions that are being restored,
    /// of which older revisions are known.
    pub(super) fn gap(&mut self) {
        self.versions.retain(|object, memory| {
            let is_pinned = self.pinned.contains(object);
            // Those that follow may be counted otherwise.
            memory.asked_at = Seq(0);
            if is_pinned && let Some(known) = memory.history.known_mut() {
                known.acknowledged = true;
            }
            is_pinned
        });
        self.order.retain(|_, object| self.pinned.contains(object));
        self.seen = Seq(0);
    }

    /// The restoration of a version has ended.
    pub(super) fn unpin(&mut self, object: &ObjectRef) {
        self.pinned.remove(object);
    }

    /// Looks at what the record `seq` wrote to a version. Says whether that overwrote something that has to come back.
    pub(super) fn look(&mut self, seq: Seq, object: &ObjectRef, value: &StoredValue) -> bool {
        self.ticks += 1;
        let tick = self.ticks;
        self.order.insert(tick, object.clone());
        let once = || History::Once(value.clone());
        let Some(memory) = self.versions.get_mut(object) else {
            self.versions.insert(object.clone(), Memory { tick, asked_at: seq, history: once() });
            self.forget_surplus();
            return false;
        };
        self.order.remove(&memory.tick);
        memory.tick = tick;
        let Some(md) = value.md() else { return false };
        let Some(known) = memory.history.known_mut() else {
            memory.history = once();
            memory.asked_at = seq;
            return false;
        };
        let (tag, origin) = (md.state_tag(), md.origin_op());
        if known.last.0 == tag && *known.last.1 == *origin {
            return false;
        }
        let is_new_origin = *known.last.1 != *origin;
        known.last = (tag, origin.into());
        let is_asked = tag.revision == known.asked.revision();
        if is_status_write(md) {
            if is_asked {
                let lost = known.record(md);
                if lost {
                    self.pinned.insert(object.clone());
                }
                return lost;
            }
            if !known.acknowledged || known.older.contains(&tag.revision) {
                known.outdate(tag.revision);
                self.pinned.insert(object.clone());
                return true;
            }
            // An operation that neither asks for replication nor says what it was.
        } else if is_resync(md) && is_new_origin && !is_asked {
            // What it was made from was read before the last change, also if that was before the first record seen.
            known.outdate(tag.revision);
            self.pinned.insert(object.clone());
            return true;
        } else if is_restoration(md) && is_new_origin && !is_asked && known.older.contains(&tag.revision) {
            // Whoever wrote it knew of the losses up to its mark. What seems to be newer, and is not behind that, is what overwrote
            // it: a reader that begins in the middle cannot tell.
            let is_late = mark_of(md).is_none_or(|mark| mark < memory.asked_at);
            if is_late {
                self.pinned.insert(object.clone());
                return true;
            }
        }
        known.ask(md.clone());
        memory.asked_at = seq;
        false
    }

    fn forget_surplus(&mut self) {
        while self.versions.len() > self.versions_max + self.pinned.len() {
            let oldest = self.order.iter().find(|(_, object)| !self.pinned.contains(*object));
            let Some(tick) = oldest.map(|(tick, _)| *tick) else { return };
            if let Some(object) = self.order.remove(&tick) {
                self.versions.remove(&object);
            }
        }
    }

    /// What has to be written over `stored`, if it is not what it should be; `mark` tells this write from others.
    pub(super) fn remedy(&self, object: &ObjectRef, stored: &ObjectMd, mark: Seq) -> Option<ObjectMd> {
        let known = self.versions.get(object)?.history.known()?;
        // What another site's engine wrote stands, but not a replica that was put back over a later change.
        if *stored.replication().status() == OverallStatus::Replica && !is_restoration(stored) {
            return None;
        }
        let stored_revision = stored.revision();
        if stored_revision == known.asked.revision() {
            // Asked for once more, by a client or an operator: the endings do not count any more.
            if *stored.replication().status() == OverallStatus::Pending
                || stored.origin_op() == origin_op::PENDING
            {
                return None;
            }
            let mut replication = stored.replication().clone();
            for (site, status) in &known.settled {
                let is_worse = match replication.site_status(site) {
                    Some(SiteStatus::Completed) | None => false,
                    Some(SiteStatus::Failed) => *status == SiteStatus::Completed,
                    Some(_) => true,
                };
                if is_worse {
                    replication = replication.with_site_status(site, status.clone());
                }
            }
            let is_whole = replication == *stored.replication();
            return (!is_whole).then(|| {
                stored
                    .with_replication(replication.with_computed_status())
                    .with_origin_op(origin_op::COMPLETED)
            });
        }
        let is_older = known.older.contains(&stored_revision);
        // Anything else is a client's later change, which the journal shows soon.
        is_older.then(|| known.asked.with_origin_op(&format!("{}{}", origin_op::RESTORED, mark.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VersionRef;

    fn object() -> ObjectRef {
        ObjectRef::new("photos", "key", VersionRef::Version("v1".into()))
    }

    /// What a client writes.
    fn asked(tag: &str) -> ObjectMd {
        ObjectMd::parse(&format!(
            r#"{{"versionId":"v1","tags":{{"t":"{tag}"}},"originOp":"s3:ObjectTagging:Put","replicationInfo":{{"status":"PENDING","backends":[{{"site":"paris","status":"PENDING","dataStoreVersionId":""}},{{"site":"tokyo","status":"PENDING","dataStoreVersionId":""}}],"content":["METADATA"],"storageClass":"paris,tokyo"}}}}"#
        ))
        .expect("valid metadata")
    }

    /// What a status processor writes for `site`, having read `md`.
    fn recorded(md: &ObjectMd, site: &str, status: SiteStatus) -> ObjectMd {
        let replication = md.replication().with_site_status(&site.into(), status).with_computed_status();
        md.with_replication(replication).with_origin_op(origin_op::COMPLETED)
    }

    fn completed(md: &ObjectMd, site: &str) -> ObjectMd {
        recorded(md, site, SiteStatus::Completed)
    }

    /// As it stands in a journal.
    fn value(md: &ObjectMd) -> StoredValue {
        md.to_json().into()
    }

    /// Looks at records one after the other, and says which ones overwrote something.
    fn watch(records: &[&ObjectMd]) -> (Watch, Vec<bool>) {
        let mut watch = Watch::new(10);
        let seqs = (1..).map(Seq);
        let looks = seqs.zip(records).map(|(seq, md)| watch.look(seq, &object(), &value(md))).collect();
        (watch, looks)
    }

    #[test]
    fn ordinary_life_overwrites_nothing() {
        let (a, b) = (asked("a"), asked("b"));
        let a1 = completed(&a, "paris");
        let (b1, b2) = (completed(&b, "paris"), completed(&completed(&b, "paris"), "tokyo"));
        let (watch, looks) = watch(&[&a, &a, &a1, &b, &b1, &b1, &b2, &a, &a1]);
        assert_eq!(looks, [false; 9]);
        assert_eq!(watch.remedy(&object(), &a1, Seq(1)), None);
    }

    #[test]
    fn a_status_write_over_a_client_s_change_is_found_and_the_change_comes_back() {
        let (a, b) = (asked("a"), asked("b"));
        let stale = completed(&a, "paris");
        // Whether the older revision was seen or not.
        for records in [&[&a, &b, &stale][..], &[&b, &stale]] {
            let (watch, looks) = watch(records);
            assert_eq!(looks.last(), Some(&true));
            let back = watch.remedy(&object(), &stale, Seq(7)).expect("the change is written back");
            assert_eq!((back.revision(), back.state_tag()), (b.revision(), b.state_tag()));
            assert_eq!(back.origin_op(), "s3:Replication:OperationRestoredRevision:7");
            assert_eq!(watch.remedy(&object(), &b, Seq(7)), None);
            assert_eq!(watch.remedy(&object(), &asked("c"), Seq(7)), None, "a later change is left alone");
        }
    }

    #[test]
    fn a_very_late_status_write_is_found_although_the_change_was_recorded_before() {
        let (a, b) = (asked("a"), asked("b"));
        let (_, looks) = watch(&[&a, &b, &completed(&b, "paris"), &completed(&a, "tokyo")]);
        assert_eq!(looks, [false, false, false, true]);
    }

    #[test]
    fn a_restoration_that_overwrites_a_later_change_is_found_but_no_client_is_mistaken_for_one() {
        let (a, b, c) = (asked("a"), asked("b"), asked("c"));
        let restored = b.with_origin_op("s3:Replication:OperationRestoredRevision:3");
        let (memory, looks) = watch(&[&a, &b, &completed(&a, "paris"), &c, &restored, &restored]);
        assert_eq!(looks, [false, false, true, false, true, false]);
        assert_eq!(memory.remedy(&object(), &restored, Seq(5)).map(|md| md.revision()), Some(c.revision()));
        // An operation that leaves the name of the last one: there and back again.
        let there = c.with_origin_op(restored.origin_op());
        let (memory, looks) = watch(&[&a, &b, &completed(&a, "paris"), &restored, &there, &restored]);
        assert_eq!(looks, [false, false, true, false, false, false]);
        assert_eq!(memory.remedy(&object(), &restored, Seq(5)), None);
    }

    #[test]
    fn a_resync_that_overwrites_a_later_change_is_found() {
        let (a, b) = (asked("a"), asked("b"));
        let resynced = |md: &ObjectMd| md.with_origin_op("s3:Replication:OperationRestoredRevision:resync-7");
        let over = resynced(&a);
        // Versions that are resynced are old: mostly nothing of them was seen before.
        for records in [&[&a, &b, &over, &over][..], &[&b, &over, &over]] {
            let (memory, looks) = watch(records);
            let found: Vec<usize> = (0..looks.len()).filter(|index| looks[*index]).collect();
            assert_eq!(found, [records.len() - 2]);
            assert_eq!(memory.remedy(&object(), &over, Seq(9)).map(|md| md.revision()), Some(b.revision()));
        }
        let again = resynced(&b);
        let (memory, looks) = watch(&[&a, &b, &again, &completed(&again, "paris")]);
        assert_eq!(looks, [false; 4]);
        assert_eq!(memory.remedy(&object(), &again, Seq(5)), None);
    }

    #[test]
    fn a_reader_that_begins_in_the_middle_leaves_what_was_restored_before_it() {
        let (a, b) = (asked("a"), asked("b"));
        let restored = b.with_origin_op("s3:Replication:OperationRestoredRevision:2");
        let (memory, looks) = watch(&[&completed(&b, "paris"), &completed(&a, "tokyo"), &restored]);
        assert_eq!(looks, [false; 3]);
        assert_eq!(memory.remedy(&object(), &restored, Seq(3)), None);
    }

    #[test]
    fn an_ending_that_another_status_write_took_back_comes_back() {
        let a = asked("a");
        let (paris, tokyo) = (completed(&a, "paris"), completed(&a, "tokyo"));
        let (watch, looks) = watch(&[&a, &paris, &tokyo]);
        assert_eq!(looks, [false, false, true]);
        let back = watch.remedy(&object(), &tokyo, Seq(7)).expect("the ending is written back");
        assert_eq!(back.replication().status(), &OverallStatus::Completed);
        assert_eq!(watch.remedy(&object(), &a, Seq(7)), None, "asked for once more");
    }

    #[test]
    fn an_explicit_retry_takes_a_failure_back() {
        let a = asked("a");
        let failed = recorded(&a, "paris", SiteStatus::Failed).with_origin_op(origin_op::FAILED);
        let retried = recorded(&failed, "paris", SiteStatus::Pending).with_origin_op(origin_op::PENDING);
        let done = completed(&retried, "paris");
        assert_eq!(watch(&[&a, &failed, &retried, &done]).1, [false; 4]);
        let lost = recorded(&failed, "paris", SiteStatus::Pending);
        assert_eq!(watch(&[&a, &failed, &lost]).1, [false, false, true]);
    }

    #[test]
    fn changes_without_a_rule_are_left_alone_and_replicas_come_back() {
        let a = asked("a");
        let done = completed(&completed(&a, "paris"), "tokyo");
        // A change that asks for nothing keeps status and name of the last operation.
        let quiet = done.with_members(&[("legalHold", crate::model::RawJson::bool(true))]);
        let (memory, looks) = watch(&[&a, &done, &quiet]);
        assert_eq!(looks, [false; 3]);
        assert_eq!(memory.remedy(&object(), &quiet, Seq(1)), None);
        // What another site's engine wrote counts like a client's change.
        let replica = asked("c").with_replication(a.replication().with_status(OverallStatus::Replica));
        let (memory, looks) = watch(&[&a, &replica, &done]);
        assert_eq!(looks, [false, false, true]);
        assert_eq!(memory.remedy(&object(), &replica, Seq(1)), None);
        let back = memory.remedy(&object(), &done, Seq(1)).expect("the replica comes back");
        assert_eq!(back.replication().status(), &OverallStatus::Replica);
    }

    #[test]
    fn a_change_that_a_restored_replica_overwrote_comes_back() {
        let a = asked("a");
        let replica = asked("b").with_replication(a.replication().with_status(OverallStatus::Replica));
        let (stale, later) = (completed(&a, "paris"), asked("c"));
        let restored = replica.with_origin_op("s3:Replication:OperationRestoredRevision:3");
        let (memory, looks) = watch(&[&a, &replica, &stale, &later, &restored]);
        assert_eq!(looks, [false, false, true, false, true]);
        let back = memory.remedy(&object(), &restored, Seq(5)).expect("the later change comes back");
        assert_eq!(back.revision(), later.revision());
    }

    #[test]
    fn memory_is_bounded() {
        let mut watch = Watch::new(3);
        for number in 0..10 {
            let object = ObjectRef::new("photos", format!("k{number}").as_str(), VersionRef::Null);
            watch.look(Seq(1), &object, &value(&asked("a")));
            watch.look(Seq(2), &object, &value(&asked("b")));
        }
        assert_eq!((watch.versions.len(), watch.order.len()), (3, 3));
    }
}
