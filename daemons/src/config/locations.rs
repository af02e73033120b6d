//! `locationConfig.json`: what a location is decides whether its objects are replicated, and whether their data is
//! collected afterwards (replication reference 3.1, extensions reference 5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::{ConfigError, read};

/// The locations that matter to replication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locations {
    /// Objects there are never replicated.
    pub cold: BTreeSet<String>,
    /// Data there is collected once every site has it.
    pub transient: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    #[serde(default)]
    is_cold: bool,
    #[serde(default)]
    is_transient: bool,
}

impl Locations {
    /// The locations of a file.
    ///
    /// # Errors
    /// It cannot be read, or is not a JSON object of objects.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let locations: BTreeMap<String, Location> = serde_json::from_value(read(file)?)
            .map_err(|source| ConfigError::Json { file: file.to_owned(), source })?;
        let named = |is: fn(&Location) -> bool| {
            locations.iter().filter(|(_, location)| is(location)).map(|(name, _)| name.clone()).collect()
        };
        Ok(Self {
            cold: named(|location| location.is_cold),
            transient: named(|location| location.is_transient),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_decide_and_everything_else_is_passed_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("locationConfig.json");
        let text = r#"{"us-east-1":{"type":"file","legacyAwsBehavior":true,"details":{}},
            "tape":{"type":"dmf","isCold":true},"landing":{"isTransient":true,"sizeLimitGB":10}}"#;
        std::fs::write(&file, text).expect("written");
        let locations = Locations::read(&file).expect("valid");
        assert_eq!(locations.cold, ["tape".to_owned()].into());
        assert_eq!(locations.transient, ["landing".to_owned()].into());
        std::fs::write(&file, "[1]").expect("written");
        let error = Locations::read(&file).expect_err("no object").to_string();
        assert!(error.contains("locationConfig.json"), "{error}");
    }
}
