//! What crosses the boundary between the engine and the world: all that checkers ever see.

use backbeat_core::exception::ExceptionRecord;
use backbeat_core::id::{Offset, Partition};
use backbeat_core::model::{ObjectMd, SiteStatus};
use smol_str::SmolStr;

use crate::content::Content;
use crate::ids::{GroupId, KeyId, ProcId, SiteId, Topic, VerId};

/// One stored part.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The version whose bytes these are.
    pub version: VerId,
    /// The digest of the bytes as stored.
    pub digest: SmolStr,
    /// The process that moved them.
    pub by: ProcId,
    /// Whether they are still there.
    pub alive: bool,
}

/// What a queue message says, in the checkers' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When it was appended, counted in observations.
    pub order: u64,
    /// What it is.
    pub kind: FactKind,
}

/// The kinds of queue messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactKind {
    /// Work on a version: for one site, or for all of them.
    Work {
        /// The version.
        version: VerId,
        /// The sites concerned, one bit each.
        sites: u32,
        /// Index of the client revision it carries.
        revision: u32,
    },
    /// The outcome of a copy.
    Outcome {
        /// The version.
        version: VerId,
        /// The site that speaks.
        site: SiteId,
        /// What it says.
        status: SiteStatus,
        /// Index of the client revision it speaks for.
        revision: u32,
    },
    /// Not one of ours.
    Foreign,
}

/// One observation.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A client wrote a version: a new one, or a change of one.
    ClientWrote {
        /// The version.
        version: VerId,
        /// Its key.
        key: KeyId,
        /// What is stored now.
        md: &'a ObjectMd,
        /// Whether this is somebody else's replica.
        replica: bool,
    },
    /// A client deleted a version.
    ClientDeleted {
        /// The version.
        version: VerId,
    },
    /// The engine wrote metadata at the source.
    SourceWrote {
        /// The version.
        version: VerId,
        /// What was stored.
        before: &'a ObjectMd,
        /// What is stored now.
        after: &'a ObjectMd,
        /// The content of what is stored now.
        content: Content,
    },
    /// A record was added to the journal.
    Journaled {
        /// Its place among all records that any journal of the source ever had.
        index: usize,
        /// The version it is about.
        version: VerId,
        /// Whether it asks for replication.
        qualifies: bool,
    },
    /// A message was appended to a topic. `origin` is the journal record that a populator named.
    Queued {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: usize,
        /// The message in the checkers' words.
        facts: &'a Facts,
        /// The place of the journal record it comes from.
        origin: Option<usize>,
        /// Whether its metadata says that the version is a replica.
        replica: bool,
    },
    /// An exception record was appended.
    ExceptionPut {
        /// The version.
        version: VerId,
        /// The site.
        site: SiteId,
        /// The record.
        record: &'a ExceptionRecord,
    },
    /// A record for the retry API was appended.
    FailureListed {
        /// The message.
        message: &'a str,
    },
    /// The broker recorded a commit.
    Committed {
        /// The group.
        group: GroupId,
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: Partition,
        /// First offset that is not settled.
        upto: Offset,
        /// The generation.
        generation: u32,
    },
    /// The coordination store recorded a position.
    PositionSaved {
        /// The place of the next record to read.
        next: usize,
    },
    /// The coordination store recorded that records are lost.
    LossRecorded {
        /// The place of the first one.
        first: usize,
        /// The place after the last one.
        end: usize,
        /// The place of the oldest record that can still be read.
        oldest: usize,
    },
    /// A process sent a request that changes a target.
    TargetAsked {
        /// The process.
        by: ProcId,
        /// Its life.
        life: u32,
        /// The site.
        site: SiteId,
        /// The version.
        version: VerId,
    },
    /// A process heard how such a request ended.
    TargetAnswered {
        /// The process.
        by: ProcId,
        /// The site.
        site: SiteId,
        /// The version.
        version: VerId,
    },
    /// A process died; it waits for nothing any more.
    Died {
        /// The process.
        by: ProcId,
    },
    /// Metadata was written at a target.
    TargetWrote {
        /// The site.
        site: SiteId,
        /// The version.
        version: VerId,
        /// What is stored now.
        after: &'a ObjectMd,
        /// Its content.
        content: Content,
        /// The parts of the site.
        blobs: &'a [Blob],
        /// What readers of the latest version of the key see now.
        latest: Option<VerId>,
    },
    /// A target that mints ids added a version.
    Minted {
        /// The site.
        site: SiteId,
        /// The key.
        key: KeyId,
        /// The source version that it was written for.
        version: VerId,
        /// The site's id for it.
        id: u32,
        /// What it shows.
        md: &'a ObjectMd,
        /// What it was asked to show: it may have lost the tags of its upload.
        asked: Content,
        /// Whether the request came from nobody who owns the key and could not be refused.
        stray: bool,
    },
    /// Tags of a version were replaced at a target that mints ids.
    Retagged {
        /// The site.
        site: SiteId,
        /// The source version that it was written for.
        version: VerId,
        /// The site's id for it.
        id: u32,
        /// What it shows now.
        content: Content,
        /// Whether the request came from nobody who owns the key.
        stray: bool,
    },
    /// A version was removed by its id at a target that mints ids.
    Unminted {
        /// The site.
        site: SiteId,
        /// The key.
        key: KeyId,
        /// The site's id for it.
        id: u32,
    },
    /// A part was deleted at a target on request.
    TargetDeleted {
        /// The site.
        site: SiteId,
        /// The part.
        blob: usize,
        /// The version whose bytes it held.
        version: VerId,
    },
    /// An operator asked to retry a version at a site.
    RetryAsked {
        /// The version.
        version: VerId,
        /// The site.
        site: SiteId,
    },
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Id of the property, as in `docs/simulation.md`.
    pub id: &'static str,
    /// What was seen.
    pub message: String,
}

impl Violation {
    /// The property `id` is broken.
    #[cold]
    pub fn new(id: &'static str, message: impl Into<String>) -> Self {
        Self { id, message: message.into() }
    }
}

/// The content at some place.
pub(super) type At = Option<Content>;
