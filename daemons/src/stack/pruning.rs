//! Forgets the part of a journal that nobody will read again, a little at a time.
//!
//! Pieces are small and have pauses between them: whoever writes shares its commit with one piece at most, and what is to be
//! forgotten after a busy minute never comes all at once.

use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::embedded::StoreError;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Records that are forgotten in one commit. It takes some milliseconds.
const PIECE: u64 = 1_000;
/// From one piece to the next: no more than 20,000 records a second, which is more than a site writes for long.
const PAUSE: Duration = Duration::from_millis(50);
/// How often to look whether there is a piece to forget.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// Less than a piece waits for so long, so that few changes do not cost a commit a second. It costs disk only.
const REST: Duration = Duration::from_mins(1);

/// Forgets what is before the number that `needed` tells, asked every `look`, until it tells none. `forget(below, count)` forgets the first `count`
/// records before `below` at most, and answers how many of those before it are left. While `allowed` is locked, nothing is
/// forgotten.
pub(super) async fn prune_forever(
    forget: impl AsyncFn(u64, u64) -> Result<u64, StoreError>,
    allowed: Arc<Mutex<()>>,
    look: Duration,
    needed: impl AsyncFn() -> Option<u64>,
) {
    let mut forgotten = 0;
    let mut since = Instant::now();
    loop {
        tokio::time::sleep(look).await;
        let Some(needed) = needed().await else { return };
        let is_piece = needed.saturating_sub(forgotten) >= PIECE;
        if needed <= forgotten || !is_piece && since.elapsed() < REST {
            continue;
        }
        let pruned = async {
            loop {
                let pruning = allowed.lock().await;
                let left = forget(needed, PIECE).await?;
                drop(pruning);
                if left == 0 {
                    return Ok::<_, StoreError>(());
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match pruned.await {
            Ok(()) => forgotten = needed,
            Err(error) => {
                tracing::warn!(%error, "the journal could not be pruned; trying again in a minute");
                tokio::time::sleep(REST).await;
            }
        }
        since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Plain;

    use super::*;

    /// A journal that counts, and the reader that it is pruned for.
    #[derive(Default)]
    struct Pruned {
        oldest: u64,
        needed: Option<u64>,
        /// When something was forgotten, and how much.
        pieces: Vec<(Duration, u64)>,
        is_broken: bool,
    }

    struct Watched {
        journal: Arc<Plain<Pruned>>,
        allowed: Arc<Mutex<()>>,
        pruning: tokio::task::JoinHandle<()>,
    }

    impl Watched {
        fn start(needed: u64) -> Self {
            let journal = Arc::new(Plain::new(Pruned { needed: Some(needed), ..Pruned::default() }));
            let allowed = Arc::default();
            let (forgetting, reader) = (Arc::clone(&journal), Arc::clone(&journal));
            let since = Instant::now();
            let forget = async move |below: u64, count: u64| {
                let mut journal = forgetting.lock().expect("nobody panics");
                if journal.is_broken {
                    return Err(StoreError::Closed { file: "the disk is gone".into() });
                }
                let until = below.min(journal.oldest + count);
                let gone = until - journal.oldest;
                journal.pieces.push((since.elapsed(), gone));
                journal.oldest = until;
                Ok(below - until)
            };
            let needed = async move || reader.lock().expect("nobody panics").needed;
            let pruning = tokio::spawn(prune_forever(forget, Arc::clone(&allowed), LOOK, needed));
            Self { journal, allowed, pruning }
        }

        fn change(&self, change: impl FnOnce(&mut Pruned)) {
            change(&mut self.journal.lock().expect("nobody panics"));
        }

        fn oldest(&self) -> u64 {
            self.journal.lock().expect("nobody panics").oldest
        }

        fn pieces(&self) -> Vec<(Duration, u64)> {
            self.journal.lock().expect("nobody panics").pieces.clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_backlog_goes_in_pieces_with_pauses_between_them() {
        let watched = Watched::start(3 * PIECE + 7);
        tokio::time::sleep(LOOK * 2).await;
        let pieces = watched.pieces();
        assert_eq!(pieces.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [PIECE, PIECE, PIECE, 7]);
        for pair in pieces.windows(2) {
            assert!(pair[1].0 >= pair[0].0 + PAUSE, "{pieces:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_records_wait_for_a_minute_and_a_piece_does_not() {
        let watched = Watched::start(PIECE - 1);
        tokio::time::sleep(REST / 2).await;
        assert_eq!(watched.oldest(), 0);
        tokio::time::sleep(REST / 2 + LOOK * 2).await;
        assert_eq!(watched.oldest(), PIECE - 1);
        watched.change(|journal| journal.needed = Some(2 * PIECE));
        tokio::time::sleep(LOOK * 2).await;
        assert_eq!(watched.oldest(), 2 * PIECE);
        tokio::time::sleep(REST * 3).await;
        assert_eq!(watched.pieces().len(), 3, "what is forgotten is not forgotten again");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_goes_while_it_is_not_allowed() {
        let watched = Watched::start(5 * PIECE);
        tokio::time::sleep(LOOK + PAUSE / 2).await;
        let kept = watched.allowed.lock().await;
        let before = watched.oldest();
        assert!((1..5 * PIECE).contains(&before), "pruning has begun and not ended: {before}");
        tokio::time::sleep(REST).await;
        assert_eq!(watched.oldest(), before);
        drop(kept);
        tokio::time::sleep(LOOK).await;
        assert_eq!(watched.oldest(), 5 * PIECE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_again_and_the_end_of_the_reader_ends_it() {
        let watched = Watched::start(PIECE);
        watched.change(|journal| journal.is_broken = true);
        tokio::time::sleep(LOOK * 2).await;
        watched.change(|journal| journal.is_broken = false);
        assert_eq!(watched.oldest(), 0);
        tokio::time::sleep(REST + LOOK * 2).await;
        assert_eq!(watched.oldest(), PIECE);
        watched.change(|journal| journal.needed = None);
        watched.pruning.await.expect("it ends by itself");
    }
}
