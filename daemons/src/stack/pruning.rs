//! Forgets the part of the source's journal that nobody will read again.

use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::journal::embedded::EmbeddedJournal;
use backbeat_core::call::Ending;
use backbeat_core::id::Seq;
use tokio::sync::Mutex;

use crate::driver::populator::PopulatorHandle;

/// How often to look. What waits meanwhile costs disk only.
const INTERVAL: Duration = Duration::from_mins(1);

/// Removes what is before the populator's stored position, until the populator has ended.
/// While `allowed` is locked, nothing is removed.
pub(super) async fn prune_forever(
    journal: EmbeddedJournal,
    populator: PopulatorHandle,
    allowed: Arc<Mutex<()>>,
) {
    let mut pruned = Seq::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(summary) = populator.summary().await else { return };
        if summary.saved > pruned {
            let _pruning = allowed.lock().await;
            match journal.prune(summary.saved).await {
                Ending::Applied(()) => pruned = summary.saved,
                Ending::Refused(_) | Ending::Unknown => {
                    tracing::warn!("the journal of the source could not be pruned; trying again later");
                }
            }
        }
    }
}
