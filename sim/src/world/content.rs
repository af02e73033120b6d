//! What a version says to its readers, as one number: how checkers tell revisions apart without asking the engine's model
//! of revisions.

use backbeat_core::model::ObjectMd;
use xxhash_rust::xxh3::Xxh3;

/// What readers of a version see: bytes (by digest and layout), tags, user metadata, headers, marker. Equal numbers mean
/// equal content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content(pub u64);

/// Members that a reader sees and clients of the simulated source change.
const MEMBERS: [&str; 6] =
    ["tags", "acl", "content-type", "last-modified", "x-amz-meta-color", "x-amz-storage-class"];

impl Content {
    /// The content that `md` describes.
    pub fn of(md: &ObjectMd) -> Self {
        let mut hash = Xxh3::new();
        let mut add = |text: &str| {
            hash.update(text.as_bytes());
            hash.update(&[0xff]);
        };
        add(md.content_md5());
        for name in MEMBERS {
            add(md.member(name).map_or("", |value| value.as_str()));
        }
        for location in md.locations() {
            add(location.etag.as_deref().unwrap_or(""));
        }
        hash.update(&md.content_length().to_le_bytes());
        hash.update(&[u8::from(md.is_delete_marker())]);
        Self(hash.digest())
    }
}
