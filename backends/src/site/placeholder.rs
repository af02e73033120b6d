//! Placeholder masters: what stands for the current version after it was deleted, until the newest one left is put in
//! its place (wire reference 3.7; observed page: 15 seconds later; `repair.rs`).

use super::changes::{Changes, REPAIRS};
use super::error::Outcome;
use backbeat_core::model::VersionId;
use serde::Deserialize;

/// How long a placeholder stays.
const REPAIR_DELAY_MS: u64 = 15_000;

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
