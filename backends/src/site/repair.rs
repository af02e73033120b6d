//! Puts the newest version that is left in the place of a placeholder, when its time has come.

use super::changes::{Changes, REPAIRS};
use super::error::Outcome;
use super::metadata::Site;
use super::versioning::{self, Master};
use crate::embedded::{KeyRange, Read, StoreError};
use crate::timestamp::system_ms;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often due repairs are looked for.
const REPAIR_INTERVAL: Duration = Duration::from_millis(500);
/// Repairs of one commit.
const REPAIRS_MAX: usize = 256;

/// Repairs what is due at `now_ms`; answers whether there may be more.
fn repair_due(changes: &mut Changes<'_, '_>, now_ms: u64) -> Outcome<bool> {
    let until = (now_ms + 1).to_be_bytes();
    let due = changes.raw().range(REPAIRS, &KeyRange::between(&[], &until), REPAIRS_MAX)?;
    let is_full = due.len() == REPAIRS_MAX;
    for (row, version_id) in due {
        changes.raw().delete(REPAIRS, row.clone());
        let place = String::from_utf8_lossy(&row[8..]).into_owned();
        let Some((bucket, key)) = place.split_once('\0') else { continue };
        let expected = String::from_utf8_lossy(&version_id).into_owned();
        // Only the placeholder that was noted: another one is repaired in its own time.
        match versioning::master(changes, bucket, key)? {
            Some(Master::Placeholder(found)) if found.version_id.as_str() == expected => {}
            Some(Master::Placeholder(_) | Master::Object(_)) | None => continue,
        }
        match versioning::newest(changes, bucket, key)? {
            Some(md) => versioning::put_master(changes, bucket, key, &md)?,
            None => changes.delete(bucket, key)?,
        }
    }
    Ok(is_full)
}

/// Repairs placeholders as long as the site lives.
pub(super) async fn repair_forever(site: Weak<Site>) {
    loop {
        tokio::time::sleep(REPAIR_INTERVAL).await;
        let Some(site) = site.upgrade() else { return };
        if let Err(error) = repair_now(&site).await {
            tracing::warn!(%error, "placeholders were not repaired, trying again");
        }
    }
}

async fn repair_now(site: &Arc<Site>) -> Outcome<()> {
    loop {
        let now_ms = system_ms();
        let until = (now_ms + 1).to_be_bytes();
        let due: Vec<_> = site
            .store()
            .read(|txn| txn.range(REPAIRS, &KeyRange::between(&[], &until), 1))
            .map_err(|error: StoreError| error)?;
        if due.is_empty() || !site.write(move |changes| repair_due(changes, now_ms)).await? {
            return Ok(());
        }
    }
}
