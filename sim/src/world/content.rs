//! What a version says to its readers, as one number: how checkers tell revisions apart without asking the engine's model
//! of revisions.

use backbeat_core::model::ObjectMd;
use xxhash_rust::xxh3::xxh3_64;

/// What clients change of a version: bytes (by digest and layout), tags, access control, marker. Equal numbers mean equal
/// content. The end of a run compares the documents themselves as well, member by member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content(pub u64);

/// Members that clients of the simulated source change.
const MEMBERS: [&str; 2] = ["tags", "acl"];

impl Content {
    /// The content that `md` describes.
    pub fn of(md: &ObjectMd) -> Self {
        let mut text = Vec::with_capacity(256);
        let mut add = |part: &str| {
            text.extend_from_slice(part.as_bytes());
            text.push(0xff);
        };
        add(md.content_md5());
        for name in MEMBERS {
            add(md.member(name).map_or("", |value| value.as_str()));
        }
        for location in md.locations() {
            add(location.etag.as_deref().unwrap_or(""));
        }
        text.extend_from_slice(&md.content_length().to_le_bytes());
        text.push(u8::from(md.is_delete_marker()));
        Self(xxh3_64(&text))
    }
}
