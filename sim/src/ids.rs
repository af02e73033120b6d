//! Dense ids of the world's own things. The engine never sees them.

/// A process of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcId(pub u8);

impl ProcId {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A target site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteId(pub u8);

impl SiteId {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A key of the source bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub u16);

impl KeyId {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A version of a key, numbered in the order of creation over the whole run. A later version has a larger number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerId(pub u32);

impl VerId {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupId {
    /// The processors of one site.
    Site(SiteId),
    /// The status processors.
    Status,
}

/// A topic of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Work for sites.
    Replication,
    /// Another attempt for one site; the index counts the configured replay topics.
    Replay(u8),
    /// Outcomes.
    Status,
    /// Records for the retry API.
    Failed,
    /// Garbage collection.
    Gc,
    /// Exception records (compacted).
    Exceptions,
}
