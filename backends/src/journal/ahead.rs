//! Reading ahead: while some records are worked on, the next ones are on their way.

use std::sync::{Arc, Mutex, PoisonError};

use backbeat_core::call::Ending;
use backbeat_core::id::Seq;
use backbeat_core::populator::Batch;
use backbeat_core::time::Span;
use tokio::task::JoinSet;

use super::Journal;

/// A journal that is read a page ahead for as long as it is known to have more. What it gives may be as much older than its
/// reader's question as that one took with the page before: no record of it is wrong for that.
#[derive(Debug)]
pub struct ReadAhead<J> {
    journal: Arc<J>,
    ahead: Mutex<Option<Page>>,
}

/// A page on its way.
#[derive(Debug)]
struct Page {
    from: Seq,
    limit: usize,
    /// One task, which ends with this.
    reading: JoinSet<Ending<Batch>>,
}

impl<J: Journal> ReadAhead<J> {
    /// Reads `journal`. Nothing is asked yet.
    pub fn new(journal: J) -> Self {
        Self { journal: Arc::new(journal), ahead: Mutex::default() }
    }

    fn keep(&self, page: Option<Page>) -> Option<Page> {
        std::mem::replace(&mut *self.ahead.lock().unwrap_or_else(PoisonError::into_inner), page)
    }

    /// Asks for what comes behind `batch`, if there is something.
    fn follow(&self, batch: &Batch, limit: usize) {
        if batch.records.is_empty() || batch.next >= batch.end {
            return;
        }
        let (journal, from) = (Arc::clone(&self.journal), batch.next);
        let mut reading = JoinSet::new();
        reading.spawn(async move { journal.read(Some(from), limit, Span::ZERO).await });
        self.keep(Some(Page { from, limit, reading }));
    }
}

impl<J: Journal> Journal for ReadAhead<J> {
    async fn read(&self, from: Option<Seq>, limit: usize, wait: Span) -> Ending<Batch> {
        let asked = |page: &Page| Some(page.from) == from && page.limit == limit;
        // One that nobody asks for is of no use any more.
        let ending = match self.keep(None).filter(asked) {
            Some(mut page) => match page.reading.join_next().await {
                Some(Ok(ending)) => ending,
                Some(Err(_)) | None => Ending::Unknown,
            },
            None => self.journal.read(from, limit, wait).await,
        };
        if let Ending::Applied(batch) = &ending {
            self.follow(batch, limit);
        }
        ending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::applied;
    use crate::journal::conformance::JournalHarness;
    use crate::journal::memory::MemoryJournal;
    use backbeat_core::model::LogRecord;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    impl JournalHarness for (MemoryJournal, ReadAhead<MemoryJournal>) {
        type Journal = ReadAhead<MemoryJournal>;

        fn journal(&self) -> &Self::Journal {
            &self.1
        }

        async fn append(&self, record: LogRecord) {
            self.0.append(record);
        }

        async fn truncate(&self, oldest: Seq) {
            self.0.truncate(oldest);
        }
    }

    crate::journal_conformance!(ahead, {
        let journal = MemoryJournal::default();
        (journal.clone(), ReadAhead::new(journal))
    });

    /// Counts reads, and holds back those after the first until it is let go.
    struct Held {
        journal: MemoryJournal,
        reads: AtomicUsize,
        let_go: Notify,
    }

    impl Journal for Arc<Held> {
        async fn read(&self, from: Option<Seq>, limit: usize, wait: Span) -> Ending<Batch> {
            if self.reads.fetch_add(1, Ordering::Relaxed) > 0 {
                self.let_go.notified().await;
            }
            self.journal.read(from, limit, wait).await
        }
    }

    fn held(records: u64) -> Arc<Held> {
        let journal = MemoryJournal::default();
        for number in 0..records {
            let text = format!(r#"{{"db":"b{number}","entries":[]}}"#);
            journal.append(LogRecord::parse(&text).expect("a record"));
        }
        Arc::new(Held { journal, reads: AtomicUsize::new(0), let_go: Notify::new() })
    }

    async fn page(journal: &impl Journal, from: u64) -> (usize, Seq) {
        let batch = applied(journal.read(Some(Seq(from)), 2, Span::ZERO).await);
        (batch.records.len(), batch.next)
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_page_is_asked_for_before_it_is_wanted_and_once() {
        let journal = held(5);
        let ahead = ReadAhead::new(Arc::clone(&journal));
        assert_eq!(page(&ahead, 1).await, (2, Seq(3)));
        tokio::task::yield_now().await;
        assert_eq!(journal.reads.load(Ordering::Relaxed), 2, "nobody wants it yet");
        journal.let_go.notify_one();
        assert_eq!(page(&ahead, 3).await, (2, Seq(5)));
        journal.let_go.notify_one();
        assert_eq!(page(&ahead, 5).await, (1, Seq(6)));
        tokio::task::yield_now().await;
        assert_eq!(journal.reads.load(Ordering::Relaxed), 3, "there is no more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_goes_back_gets_what_it_asks_for() {
        let journal = held(5);
        let ahead = ReadAhead::new(Arc::clone(&journal));
        assert_eq!(page(&ahead, 1).await, (2, Seq(3)));
        tokio::task::yield_now().await;
        journal.let_go.notify_one();
        journal.let_go.notify_one();
        assert_eq!(page(&ahead, 2).await, (2, Seq(4)), "and not what was read ahead");
    }
}
