//! The journal of the source: its records, their numbers, and the journals that take each other's place.

use std::sync::Arc;

use backbeat_core::id::{JournalEpoch, Seq};
use backbeat_core::model::{LogEntry, LogRecord, ObjectMd, OverallStatus, StoredValue};

use super::{NullPlace, SourceSite};
use crate::ids::VerId;

/// One record of the journal.
#[derive(Clone, Debug)]
pub struct JournalRecord {
    /// What readers get.
    pub record: Arc<LogRecord>,
    /// The version it is about.
    pub version: VerId,
    /// The metadata in it; `None` for a deletion.
    pub md: Option<ObjectMd>,
    /// Whether it asks for replication: the version key of a write with overall status PENDING.
    pub qualifies: bool,
}

/// One journal of the source. No two have a number in common, and a later one may have smaller numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Era {
    epoch: JournalEpoch,
    /// The number of its first record.
    first: Seq,
    /// The index of its first record among all that ever were, and of the oldest that it still has.
    start: usize,
    oldest: usize,
}

impl Era {
    /// The journal that is there from the start.
    pub(super) fn original() -> Self {
        Self { epoch: JournalEpoch(1), first: Seq(1 + ERA), start: 0, oldest: 0 }
    }
}

/// Numbers that one journal has at most.
const ERA: u64 = 1_000_000;

/// Whether a version key with this metadata asks for replication.
pub(super) fn asks(md: &ObjectMd) -> bool {
    *md.replication().status() == OverallStatus::Pending
}

/// Whether a master key with this metadata does: that of a version does not, its version key carries the work.
pub(super) fn asks_as_master(md: &ObjectMd) -> bool {
    asks(md) && (md.is_null() || md.version_id().is_none())
}

impl SourceSite {
    pub(super) fn record(&mut self, version: VerId, md: &ObjectMd) {
        let key = self.versions[version.index()].key;
        let object_key = self.keys[key.index()].clone();
        let text = self.journaled(md);
        if self.latest[key.index()] == Some(version) {
            let entry = LogEntry::put(object_key.as_str(), text.clone());
            self.append(version, entry, Some(md.clone()), asks_as_master(md));
        }
        if self.versions[version.index()].null == Some(NullPlace::Master) {
            return;
        }
        let full_key = self.full_key(version, md);
        self.append(version, LogEntry::put(full_key, text), Some(md.clone()), asks(md));
    }

    /// The value of a journal record: the whole document in runs that go over the wire, else the members that the populator
    /// decides by (the document itself travels beside it).
    pub(super) fn journaled(&mut self, md: &ObjectMd) -> StoredValue {
        if self.wire {
            return md.to_json().into();
        }
        let said = (md.version_id().is_some(), md.is_null(), md.replication().status().clone());
        let known = self.values.iter().find(|(says, _)| *says == said);
        let text = if let Some((_, value)) = known {
            value.text().clone()
        } else {
            let id = if said.0 { r#""versionId":"an id","# } else { "" };
            let null = if said.1 { r#""isNull":true,"# } else { "" };
            let status = said.2.as_str();
            let value = format!(r#"{{{id}{null}"replicationInfo":{{"status":"{status}"}}}}"#);
            let value = StoredValue::from(value);
            let text = value.text().clone();
            self.values.push((said, value));
            text
        };
        StoredValue::known(text, md.clone())
    }

    pub(super) fn append(&mut self, version: VerId, entry: LogEntry, md: Option<ObjectMd>, qualifies: bool) {
        let record = LogRecord { entries: vec![entry], ..self.blank.clone() };
        let record = Arc::new(record);
        self.journal.push(JournalRecord { record, version, md, qualifies });
    }

    /// Appends the last record once more, as after a failover of the journal.
    pub fn double_last(&mut self) {
        if let Some(last) = self.journal.last().cloned() {
            self.journal.push(last);
        }
    }

    fn era(&self) -> &Era {
        self.eras.last().expect("there is a journal from the start")
    }

    /// The journal's identity.
    pub fn epoch(&self) -> JournalEpoch {
        self.era().epoch
    }

    /// The number in the present journal of the record at `index`.
    fn number(&self, index: usize) -> Seq {
        let era = self.era();
        Seq(era.first.0 + (index - era.start) as u64)
    }

    /// One past the newest record.
    pub fn end(&self) -> Seq {
        self.number(self.journal.len())
    }

    /// The oldest record that the journal still has, or its end.
    pub fn oldest(&self) -> Seq {
        self.number(self.era().oldest)
    }

    /// The index of the oldest record that can still be read.
    pub fn oldest_index(&self) -> usize {
        self.era().oldest
    }

    /// The index of a number, whichever journal it is of.
    pub fn index_of(&self, seq: Seq) -> Option<usize> {
        let era = self.eras.iter().find(|era| (era.first.0..era.first.0 + ERA).contains(&seq.0))?;
        Some(era.start + usize::try_from(seq.0 - era.first.0).ok()?)
    }

    /// The record with number `seq`, be it forgotten or not.
    pub fn at(&self, seq: Seq) -> Option<&JournalRecord> {
        self.journal.get(self.index_of(seq)?)
    }

    /// The journal forgets all but its newest `keep` records.
    pub fn cut(&mut self, keep: usize) {
        let oldest = self.journal.len().saturating_sub(keep);
        let era = self.eras.last_mut().expect("there is a journal from the start");
        era.oldest = era.oldest.max(oldest);
    }

    /// Another journal takes the place of this one.
    pub fn replace(&mut self) {
        let count = self.eras.len() as u64;
        // The first one has smaller numbers than the original, later ones have larger numbers.
        let (epoch, first) = (JournalEpoch(count + 1), Seq(1 + ERA * if count == 1 { 0 } else { count }));
        let start = self.journal.len();
        self.eras.push(Era { epoch, first, start, oldest: start });
    }
}
