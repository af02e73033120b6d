//! Placeholder masters: what stands for the current version after it was deleted, until the newest one left is put in
//! its place (wire reference 3.7; observed page: 15 seconds later).

use super::changes::{Changes, REPAIRS};
use super::error::Outcome;
use super::metadata::Site;
use super::timestamp::system_ms;
use super::versioning::{self, Master};
use crate::embedded::{KeyRange, Read, StoreError};
use backbeat_core::model::VersionId;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// How long a placeholder stays.
const REPAIR_DELAY_MS: u64 = 15_000;
/// How often due repairs are looked for.
const REPAIR_INTERVAL: Duration = Duration::from_millis(500);
/// Repairs of one commit.
const REPAIRS_MAX: usize = 256;

/// A placeholder: exactly these two members, the id not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    pub(super) version_id: VersionId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "isPHD")]
    is_placeholder: bool,
    #[serde(rename = "versionId")]
    version_id: String,
}

impl Placeholder {
    pub(super) fn parse(json: &str) -> Option<Self> {
        // Object metadata is far longer: most of it need not be looked at.
        if json.len() > 512 {
            return None;
        }
        let document: Document = serde_json::from_str(json).ok()?;
        let is_placeholder = document.is_placeholder && !document.version_id.is_empty();
        is_placeholder.then(|| Self { version_id: document.version_id.into() })
    }

    /// With the blanks that upstream writes.
    fn to_json(&self) -> String {
        format!("{{ \"isPHD\": true, \"versionId\": \"{}\" }}", self.version_id)
    }
}

/// Puts a placeholder in the place of a master and notes when to repair it.
pub(super) fn put(changes: &mut Changes<'_, '_>, bucket: &str, key: &str) -> Outcome<()> {
    let placeholder = Placeholder { version_id: changes.mint()? };
    changes.put(bucket, key, placeholder.to_json())?;
    let mut due = (changes.now_ms + REPAIR_DELAY_MS).to_be_bytes().to_vec();
    due.extend_from_slice(format!("{bucket}\0{key}").as_bytes());
    changes.raw().put(REPAIRS, due, placeholder.version_id.as_str());
    Ok(())
}

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
pub(super) async fn repair_forever(site: std::sync::Weak<Site>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_written_as_upstream_writes_it_and_nothing_else_is_one() {
        let json = r#"{ "isPHD": true, "versionId": "98204807175263999999RG001  11" }"#;
        assert_eq!(json.len(), 63);
        let placeholder = Placeholder::parse(json).unwrap();
        assert_eq!(placeholder.to_json(), json);
        assert_eq!(Placeholder::parse(r#"{"isPHD":false,"versionId":"x"}"#), None);
        assert_eq!(Placeholder::parse(r#"{"isPHD":true,"versionId":"x","key":"k"}"#), None);
        assert_eq!(Placeholder::parse(r#"{"isPHD":true,"versionId":""}"#), None, "found by the fuzzer");
    }
}
