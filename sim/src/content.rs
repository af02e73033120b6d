//! What a version says to its readers, as one number: how checkers tell revisions apart without asking the engine's model
//! of revisions.

use backbeat_core::model::ObjectMd;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What clients change of a version: bytes (by digest and layout), tags, access control, marker. Equal numbers mean equal
/// content. The end of a run compares the documents themselves as well, member by member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content(pub u64);

/// Members that change when clients of the simulated source change a version. Where the source marks changes, the same tags written
/// again are another content.
const MEMBERS: [&str; 3] = ["tags", "acl", "microVersionId"];

impl Content {
    /// What readers of a plain S3 target see of `md`: bytes, tags, marker. Access control and part layout stay behind.
    pub fn plain(md: &ObjectMd) -> Self {
        let seed = md.content_length() << 1 | u64::from(md.is_delete_marker());
        let bytes = xxh3_64_with_seed(md.content_md5().as_bytes(), seed);
        let tags = md.member("tags").map_or("", |tags| tags.as_str());
        Self(xxh3_64_with_seed(tags.as_bytes(), bytes))
    }

    /// The content that `md` describes.
    pub fn of(md: &ObjectMd) -> Self {
        // A chain: every part is hashed with what came before it as the seed.
        let mut chain = md.content_length() << 1 | u64::from(md.is_delete_marker());
        let mut add = |part: &str| chain = xxh3_64_with_seed(part.as_bytes(), chain);
        add(md.content_md5());
        for value in md.members(MEMBERS) {
            add(value.map_or("", |value| value.as_str()));
        }
        for location in md.locations() {
            add(location.etag.as_deref().unwrap_or(""));
        }
        Self(chain)
    }
}
