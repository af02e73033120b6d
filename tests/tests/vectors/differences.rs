//! `differences.json`: where this project differs from upstream on purpose.

use std::cell::RefCell;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::compare::same;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    file: String,
    /// JSON pointers into a case and the values that they must have there.
    r#match: Map<String, Value>,
    reason: String,
    /// Where the difference is described.
    doc: String,
}

pub(crate) struct Differences {
    entries: Vec<Difference>,
    matched: RefCell<Vec<bool>>,
}

impl Differences {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let entries: Vec<Difference> =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let matched = RefCell::new(vec![false; entries.len()]);
        Ok(Self { entries, matched })
    }

    /// The reason why `case` of `file` is allowed to differ, if it is.
    pub(crate) fn covers(&self, file: &str, case: &Value) -> Option<&str> {
        let fits = |entry: &Difference| {
            entry.file == file
                && !entry.r#match.is_empty()
                && entry
                    .r#match
                    .iter()
                    .all(|(at, wanted)| case.pointer(at).is_some_and(|found| same(found, wanted)))
        };
        let index = self.entries.iter().position(fits)?;
        self.matched.borrow_mut()[index] = true;
        Some(&self.entries[index].reason)
    }

    /// The entries that no case so far matched.
    pub(crate) fn unmatched(&self) -> Vec<String> {
        let matched = self.matched.borrow();
        let unmatched = self.entries.iter().zip(matched.iter()).filter(|(_, matched)| !**matched);
        unmatched.map(|(entry, _)| format!("{} ({}, see {})", entry.file, entry.reason, entry.doc)).collect()
    }
}
