//! What a version says to its readers, as one number: how checkers tell revisions apart without asking the engine's model
//! of revisions.

use backbeat_core::model::ObjectMd;
use xxhash_rust::xxh3::xxh3_64;

/// What readers of a version see: bytes (by digest and layout), tags, user metadata, headers, marker. Equal numbers mean
/// equal content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content(pub u64);

/// Members that a reader sees and clients of the simulated source change.
const MEMBERS: [&str; 4] = ["tags", "acl", "last-modified", "x-amz-meta-color"];

impl Content {
    /// The content that `md` describes.
    pub fn of(md: &ObjectMd) -> Self {
        let mut text = Vec::with_capacity(512);
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
