//! "Sometimes" marks: situations that a good run of many seeds must have met. A mark that no seed reaches means that the
//! world lost its teeth there.

macro_rules! marks {
    ($($name:ident = $id:literal, $about:literal;)*) => {
        /// A situation worth reaching.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Mark {
            $(#[doc = $about] $name,)*
        }

        impl Mark {
            /// Every mark.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its stable id.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// What it proves.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => $about,)* }
            }
        }
    };
}

marks! {
    RevokedCallLate = "revoked-call-completed-late", "a call sent before a revocation was answered after the partition had gone";
    StatusTwice = "status-arrived-twice", "the same outcome was published twice for one revision";
    TargetConflict = "target-write-conflicted", "a conditional write at a target met another state";
    StatusConflict = "status-write-conflicted", "a conditional status write met another state";
    StatusForOlder = "status-for-older-revision", "a status message for an older revision was read";
    Requeued = "requeued-other-revision", "an outcome for another revision queued the version again";
    OrphanDeleted = "orphan-deleted", "data that nothing refers to was deleted at a target";
    FlowClosed = "flow-closed", "a partition's flow was closed";
    FlowReopened = "flow-reopened", "a partition's flow was opened again";
    ExceptionWritten = "exception-written", "an exception record was written";
    ExceptionDeferred = "exception-deferred", "an entry was deferred";
    ExceptionHeld = "exception-held", "an entry was held for something outside";
    ExceptionResolved = "exception-resolved", "an exception record was resolved";
    ExceptionsAtTakeover = "exceptions-loaded-at-takeover", "a new owner found live exception records";
    ZombieCommitFenced = "zombie-commit-fenced", "a commit of an old generation was refused";
    ZombieWrote = "zombie-wrote", "a process that had lost a partition carried out a write for it";
    TwoOwners = "two-owners", "two processes believed at once that they own a partition";
    DrainInTime = "drain-in-time", "a revoked partition was released before its deadline";
    DrainTooLate = "drain-too-late", "a revoked partition was taken away undrained";
    PositionConflict = "position-conflict", "a position save met another version of the node";
    PositionFenced = "zombie-position-fenced", "a position save of a populator that had lost its session was refused";
    PopulatorTakeover = "populator-takeover", "another populator took over the journal";
    PopulatorRewound = "populator-rewound", "a populator dropped its producer and read again";
    PublishedTwice = "journal-record-published-twice", "one journal record reached the queue twice";
    UnknownApplied = "unknown-was-applied", "a write that ended unknown had been carried out";
    UnknownLost = "unknown-was-not-applied", "a write that ended unknown had not been carried out";
    LateApply = "applied-after-unknown", "a write was carried out after its sender had been told that the ending is unknown";
    WriteAfterDeath = "applied-after-death", "a request of a dead process was carried out after its death";
    CrashDirty = "crash-with-calls-in-flight", "a process died with requests in flight";
    CrashInDrain = "crash-in-drain", "a process died while draining";
    PausedZombie = "paused-past-lease", "a process came back after its partitions had been given away";
    GoneAtSource = "gone-at-source", "a version was deleted before it was copied";
    MetadataOnly = "metadata-only-copy", "a metadata-only change kept the target's data";
    MultipartCopied = "multipart-copied", "an object of several parts was copied";
    EmptyCopied = "empty-object-copied", "a zero-byte object was copied";
    MarkerCopied = "delete-marker-copied", "a delete marker was copied";
    TagsCopied = "tags-copied", "a change of tags was copied to a version that existed at the target";
    SourceChangedWhileCopying = "source-changed-while-copying", "a client changed a version during its copy";
    CorruptCaught = "corruption-caught", "a damaged body did not become visible";
    FailedFinal = "failed-for-good", "a version became FAILED at the source";
    FailedThenCompleted = "failed-then-completed", "a FAILED version was completed later";
    Replayed = "replayed", "a failed attempt went through a replay topic";
    ReplayCompleted = "replay-completed", "a replayed attempt was completed";
    ManualRetried = "manual-retry", "an operator's retry reached the queue";
    ReplicaIgnored = "replica-ignored", "a replica in the source's journal was not replicated again";
    ReplicaQueuedByMistake = "replica-in-queue", "a queue entry named a version that is a replica now";
    PoisonPassed = "poison-passed", "a foreign message was committed past";
    KeyQueued = "key-queued", "an entry waited behind another version of its key";
    SameVersionTwice = "same-version-queued-twice", "two entries of one version were in the queue at once";
    AcrossBothSites = "one-site-behind", "a version was completed at one site while pending at another";
    SiteDeadForEver = "site-dead-for-ever", "the liveness phase ran with a site that never came back";
    ProcessDeadForEver = "process-dead-for-ever", "the liveness phase ran with a process that never came back";
    FreshAfterHeal = "fresh-work-after-heal", "work written after the faults was served";
    OperatorPaused = "operator-paused", "a site was paused by an operator with work waiting";
    DuplicateJournal = "journal-duplicate-read", "the populator read a doubled journal entry";
    CommitRepeated = "commit-repeated", "a commit was recorded again after its answer was lost";
    RebalanceInFlight = "rebalance-with-calls-in-flight", "a group rebalanced while a member had calls in flight";
    StatusRequeueHeld = "unstable-revision-held", "a version that kept changing was held by the status processor";
    JournalCutNoticed = "journal-cut-noticed", "a populator noticed that the journal had forgotten records";
    JournalReplacedNoticed = "journal-replaced-noticed", "a populator noticed that the journal is another one";
    StoppedAtLoss = "stopped-at-loss", "a populator stopped at a loss and was let go on";
    LostAndQueued = "lost-record-resynced", "a version whose record was lost was queued from a listing";
    OverwriteNoticed = "overwrite-noticed", "a populator found in the journal that a status write had overwritten something";
    ChangeOverwritten = "change-overwritten", "a status write overwrote a client's change";
    ChangeCameBack = "change-came-back", "a client's change that a status write had overwritten was written back";
    RestorationOverwrote = "restoration-overwrote", "a restoration overwrote a client's later change";
    EndingTakenBack = "ending-taken-back", "a status write took back the ending that another one had recorded";
    NullCopied = "null-version-copied", "a null version or an object without a version id was copied";
    NullAfterNewer = "null-copied-after-newer", "a null version reached a target that already showed a newer version of its key";
    MarkerFound = "copy-found-by-marker", "a copy was found by its marker at a target that mints ids";
    MintingConflict = "minting-conflicted", "a conditional put, completion or deletion met another current version";
    LateRemoved = "late-version-removed", "a version that landed late at a target that mints ids was removed";
    TagsReplaced = "tags-replaced", "tags of a version at a target that mints ids were replaced";
    UploadFound = "upload-found", "an open upload was found when another one was to be begun";
    UploadCompleted = "upload-completed", "a multipart upload became a version";
    CopyNoted = "copy-noted", "what was stored for a large copy was noted down";
    NotedPartNamed = "noted-part-named", "a copy named a part that another process had stored for it";
    UploadResumed = "upload-resumed", "the parts of an open upload were listed to go on with it";
    OlderRefused = "older-version-refused", "an older version was not written over a newer one at a target that mints ids";
    SkewedClocks = "skewed-clocks", "two processes' wall clocks were more than an hour apart";
}

/// Number of marks.
const COUNT: usize = Mark::ALL.len();

/// How often each mark was reached.
#[derive(Clone, Debug)]
pub struct Marks([u64; COUNT]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl Marks {
    /// Notes that `mark` was reached.
    pub fn hit(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// How often `mark` was reached.
    pub fn of(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Adds the marks of another run.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Marks that were never reached.
    pub fn unseen(&self) -> impl Iterator<Item = Mark> + '_ {
        Mark::ALL.iter().copied().filter(|mark| self.of(*mark) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_marks_and_their_ids_are_distinct() {
        assert!(Mark::ALL.len() >= 40);
        let mut ids: Vec<&str> = Mark::ALL.iter().map(|mark| mark.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Mark::ALL.len());
    }
}
