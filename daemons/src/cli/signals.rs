//! The signals that end a process well.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT and SIGTERM, caught.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches them from now on: before anything starts, so that one that comes meanwhile is not lost.
    pub(super) fn caught() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for the next one, unless what should not end ends before.
    ///
    /// # Errors
    /// Why it ended.
    pub(super) async fn unless(&mut self, failed: impl Future<Output = anyhow::Error>) -> Result<()> {
        tokio::select! {
            () = self.next() => {
                tracing::info!("stopping");
                Ok(())
            }
            error = failed => Err(error),
        }
    }
}
