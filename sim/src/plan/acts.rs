//! What clients do to versions.

/// What a client puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// One part.
    Whole,
    /// Several parts.
    Multipart(u32),
    /// No bytes.
    Empty,
    /// A delete marker.
    Marker,
    /// A replica written by another site's engine.
    Replica,
    /// An object older than the replication of the bucket.
    Null(NullOrigin),
}

/// How the null version of a key came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullOrigin {
    /// Written before versioning was enabled: it has no version id.
    Unversioned,
    /// Written while versioning was suspended.
    Suspended,
}

/// How a client changes a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Tags are set.
    Tags(u32),
    /// Tags are removed.
    NoTags,
    /// The access control list changes.
    Acl(u32),
    /// Another site's engine overwrites it: from now on it is a replica.
    Replica,
}
