//! Parts of a process that run together and end together.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::task::JoinSet;

/// Waits for one of `parts` to end, which none should have done, and says why it did.
pub(crate) async fn failed(parts: &mut JoinSet<Result<()>>) -> anyhow::Error {
    match parts.join_next().await {
        Some(Ok(Ok(()))) | None => anyhow!("a part ended by itself"),
        Some(Ok(Err(error))) => error,
        Some(Err(panic)) => anyhow!(panic).context("a part panicked"),
    }
}

/// Waits until all of `parts`, which were told to, have ended.
pub(crate) async fn ended(parts: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = parts.join_next().await {
        ended.context("a part panicked")??;
    }
    Ok(())
}

/// Waits for `stopping`, but no longer than `time_max`.
pub(crate) async fn in_time(
    time_max: Duration,
    what: &str,
    stopping: impl Future<Output = Result<()>>,
) -> Result<()> {
    tokio::time::timeout(time_max, stopping)
        .await
        .map_err(|_| anyhow!("{what} did not stop within {} s", time_max.as_secs()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_is_told_with_its_reason() {
        let mut parts = JoinSet::new();
        parts.spawn(std::future::pending());
        parts.spawn(async { Err(anyhow!("the disk is gone")) });
        assert_eq!(failed(&mut parts).await.to_string(), "the disk is gone");
        parts.spawn(async { Ok(()) });
        assert_eq!(failed(&mut parts).await.to_string(), "a part ended by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn parts_end_all_in_time_or_it_is_said() {
        let mut parts = JoinSet::new();
        parts.spawn(async { Ok(()) });
        let time_max = Duration::from_secs(9);
        in_time(time_max, "all", ended(&mut parts)).await.expect("they ended");
        parts.spawn(std::future::pending());
        let error = in_time(time_max, "the stack", ended(&mut parts)).await.expect_err("one does not end");
        assert_eq!(error.to_string(), "the stack did not stop within 9 s");
    }
}
