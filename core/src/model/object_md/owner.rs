//! Who owns an object: two members that differ between a source and its replicas.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::model::digest;
use crate::model::json_text::RawJson;

use super::names::{OWNER_DISPLAY_NAME, OWNER_ID};

/// The account that owns an object. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Owner(Arc<Pieces>);

#[derive(Debug)]
struct Pieces {
    /// Both as they are spelled.
    id: RawJson,
    display_name: RawJson,
    text: SmolStr,
    digest: digest::Stored,
}

impl Owner {
    /// The account with the canonical id `id`, shown as `display_name`.
    pub fn new(id: &str, display_name: &str) -> Self {
        Self::spelled(RawJson::string(id), RawJson::string(display_name))
    }

    /// As a document spells it.
    pub(super) fn spelled(id: RawJson, display_name: RawJson) -> Self {
        let text = id.to_text().map_or_else(|| "".into(), |text| text.as_ref().into());
        let digest = digest::member_unless(Some("\"\""), OWNER_ID, id.as_str())
            .wrapping_add(digest::member_unless(Some("\"\""), OWNER_DISPLAY_NAME, display_name.as_str()));
        Self(Arc::new(Pieces { id, display_name, text, digest: digest.into() }))
    }

    /// The canonical id; empty if there is none.
    pub fn id(&self) -> &str {
        &self.0.text
    }

    /// The JSON of one of the two members.
    pub(super) fn member(&self, name: &str) -> Option<&RawJson> {
        match name {
            OWNER_ID => Some(&self.0.id),
            OWNER_DISPLAY_NAME => Some(&self.0.display_name),
            _ => None,
        }
    }

    /// The owner with one of the two members exchanged.
    pub(super) fn with(&self, name: &str, value: &RawJson) -> Self {
        let [id, display_name] = [(OWNER_ID, &self.0.id), (OWNER_DISPLAY_NAME, &self.0.display_name)]
            .map(|(member, old)| if member == name { value.clone() } else { old.clone() });
        Self::spelled(id, display_name)
    }

    /// What the two members add to the digest of a document.
    pub(super) fn digest(&self) -> u128 {
        self.0.digest.into()
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new("", "")
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.id, &self.0.display_name) == (&other.0.id, &other.0.display_name)
    }
}

impl Eq for Owner {}
