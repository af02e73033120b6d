//! Why metadata cannot be read.

use super::json_text::JsonError;

/// Why a text is not the metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The text is not JSON, or holds a member name that Unicode text cannot hold.
    #[error("object metadata is {0}")]
    Json(#[from] JsonError),
    /// The text is JSON but not an object.
    #[error("object metadata is not a JSON object")]
    NotAnObject,
    /// A member has a type that leaves no sensible reading.
    #[error("object metadata: `{name}` must be {expected}")]
    Member {
        /// The member.
        name: &'static str,
        /// What was expected.
        expected: &'static str,
    },
}

impl MetadataError {
    pub(super) const fn member(name: &'static str, expected: &'static str) -> Self {
        Self::Member { name, expected }
    }
}
