//! Forgets the part of the source's journal that nobody will read again.

use std::time::Duration;

use backbeat_backends::journal::embedded::EmbeddedJournal;
use backbeat_core::call::Ending;
use backbeat_core::id::Seq;

use crate::driver::populator::PopulatorHandle;

/// How often to look. What waits meanwhile costs disk only.
const INTERVAL: Duration = Duration::from_mins(1);

/// Removes what is before the populator's stored position, until the populator has ended.
pub(super) async fn prune_forever(journal: EmbeddedJournal, populator: PopulatorHandle) {
    let mut pruned = Seq::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(summary) = populator.summary().await else { return };
        if summary.saved > pruned {
            match journal.prune(summary.saved).await {
                Ending::Applied(()) => pruned = summary.saved,
                Ending::Refused(_) | Ending::Unknown => {
                    tracing::warn!("the journal of the source could not be pruned; trying again later");
                }
            }
        }
    }
}
