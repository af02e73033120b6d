//! The journal of an embedded site, read in process.

use std::sync::Arc;
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Bucket, JournalEpoch, Seq};
use backbeat_core::model::{LogEntry, LogRecord};
use backbeat_core::populator::Batch;
use backbeat_core::time::Span;
use xxhash_rust::xxh3::xxh3_64;

use super::Journal;
use crate::embedded::StoreError;
use crate::site;

/// Records read at once, at most, whatever is asked for.
const READ_MAX: usize = 1_000;

/// The journal of an embedded site. Clones are cheap.
#[derive(Clone, Debug)]
pub struct EmbeddedJournal {
    journal: site::Journal,
    epoch: JournalEpoch,
}

impl EmbeddedJournal {
    /// The journal port over `journal`.
    pub fn new(journal: site::Journal) -> Self {
        let epoch = epoch_of(journal.epoch());
        Self { journal, epoch }
    }

    /// What there is now.
    fn batch(&self, from: Option<Seq>, limit: usize) -> Result<Batch, StoreError> {
        let end = Seq(self.journal.end()? + 1);
        let oldest = self.journal.read(0, 1)?.first().map_or(end, |(number, _)| Seq(*number));
        let from = from.unwrap_or(end);
        let records: Vec<(Seq, Arc<LogRecord>)> = if oldest > from || limit == 0 {
            Vec::new()
        } else {
            let read = self.journal.read(from.0, limit.min(READ_MAX))?;
            read.into_iter().map(|(number, record)| (Seq(number), Arc::new(converted(record)))).collect()
        };
        let next = records.last().map_or(from, |(seq, _)| seq.next());
        // Records may have been committed between the looks.
        let end = records.last().map_or(end, |(seq, _)| end.max(seq.next()));
        Ok(Batch { records, next, end, epoch: self.epoch, oldest })
    }
}

/// The identity of the journal whose epoch is `text`, however it is read.
pub(super) fn epoch_of(text: &str) -> JournalEpoch {
    JournalEpoch(xxh3_64(text.as_bytes()))
}

fn converted(record: site::JournalRecord) -> LogRecord {
    let entry = |entry: site::JournalEntry| match (entry.kind, entry.value) {
        (site::EntryKind::Put, Some(value)) => LogEntry::put(entry.key, value),
        (site::EntryKind::Put, None) => LogEntry { kind: "put".into(), ..LogEntry::del(entry.key) },
        (site::EntryKind::Del, _) => LogEntry::del(entry.key),
    };
    LogRecord {
        timestamp: Some(record.timestamp.into()),
        db: Bucket::from(record.db),
        entries: record.entries.into_iter().map(entry).collect(),
    }
}

/// A damaged record stays damaged: that is not for trying again.
fn failed(error: StoreError) -> Ending<Batch> {
    match error {
        StoreError::Corrupt { .. } | StoreError::Damaged { .. } => {
            Ending::Refused(Refusal::new(RefusalKind::Invalid, error.to_string()))
        }
        StoreError::InUse { .. }
        | StoreError::UnknownFormat { .. }
        | StoreError::NewerFormat { .. }
        | StoreError::Full { .. }
        | StoreError::Io { .. }
        | StoreError::Unknown { .. }
        | StoreError::Panicked { .. }
        | StoreError::Closed { .. } => error.into_ending(),
    }
}

impl Journal for EmbeddedJournal {
    async fn read(&self, from: Option<Seq>, limit: usize, wait: Span) -> Ending<Batch> {
        let deadline = tokio::time::Instant::now() + Duration::from_micros(wait.as_micros());
        let mut changes = self.journal.watch();
        loop {
            // Seen before the look, so that no record falls between the look and the wait.
            changes.borrow_and_update();
            let batch = match self.batch(from, limit) {
                Ok(batch) => batch,
                Err(error) => return failed(error),
            };
            if from != Some(batch.end) {
                return Ending::Applied(batch);
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                // The site is closed: nothing will come.
                Ok(Err(_)) => return Ending::Refused(Refusal::new(RefusalKind::Unavailable, "SiteClosed")),
                Err(_) => return Ending::Applied(batch),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::sync::watch;

    use super::*;
    use crate::embedded::Store;
    use crate::journal::conformance::{JournalHarness, ReplacedJournalHarness};

    /// A journal as a site keeps it, written without the site.
    struct Scratch {
        journal: EmbeddedJournal,
        written: site::Journal,
        end: watch::Sender<u64>,
        _directory: TempDir,
    }

    impl Scratch {
        fn new(epoch: &str) -> Self {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let store = Store::open(directory.path()).expect("the store opens");
            let (written, end) = site::Journal::scratch(store, epoch);
            Self { journal: EmbeddedJournal::new(written.clone()), written, end, _directory: directory }
        }
    }

    impl JournalHarness for Scratch {
        type Journal = EmbeddedJournal;

        fn journal(&self) -> &EmbeddedJournal {
            &self.journal
        }

        async fn append(&self, record: LogRecord) {
            let record = serde_json::from_str(&record.to_json()).expect("the forms are the same");
            self.written.append(&self.end, record).await;
        }

        async fn truncate(&self, oldest: Seq) {
            self.written.prune(oldest.0, u64::MAX).await.expect("the store is there");
        }
    }

    /// Two directories: the second one takes the place of the first.
    struct Replaced(Scratch, Scratch);

    impl ReplacedJournalHarness for Replaced {
        type Journal = EmbeddedJournal;

        async fn before(&self, record: LogRecord) -> &EmbeddedJournal {
            self.0.append(record).await;
            &self.0.journal
        }

        async fn after(&self) -> &EmbeddedJournal {
            &self.1.journal
        }
    }

    crate::journal_conformance!(embedded, Scratch::new("one"));
    crate::replaced_journal_conformance!(
        embedded_replaced,
        Replaced(Scratch::new("one"), Scratch::new("another"))
    );
}
