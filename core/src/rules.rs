//! The decisions on which replication hangs, gathered in one trait so that each can be planted wrong (decision D15).
//!
//! Every method has the right answer as its body. [`Production`] changes none of them; the broken ones live in the
//! simulator, which must catch every one of them.

use crate::call::Ending;
use crate::id::{Epoch, Offset, Seq};
use crate::model::{Decision, FilterConfig, ObjectMd, OverallStatus, PopulatorEntry, StateTag, decide};
use crate::parts::Ledger;
use crate::request::Condition;
use crate::request::minting::{CurrentIs, TargetKind};

/// What a machine does about a request whose ending is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterUnknown {
    /// Ask or try again through an idempotent request: the only right answer.
    TryAgain,
    /// Believe that it happened.
    AssumeApplied,
    /// Believe that it did not happen, and never will.
    AssumeRefused,
}

/// What is known when data written for a copy could be deleted (decision D4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrphanEvidence {
    /// Every metadata write that named the data was refused; none ended unknown.
    pub writes_refused: bool,
    /// The target's metadata was read after the last write and does not refer to the data.
    pub unreferenced: bool,
}

/// What is known, at a target that mints ids, when a version would become the current one (decision D11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderEvidence {
    /// The target holds a copy of a newer version.
    pub newer_at_target: bool,
    /// A newer version may have been copied as a delete marker, which does not tell: an earlier attempt of this version failed,
    /// and it is not the source's current one.
    pub passed: bool,
}

/// What is known, at a target that mints ids, of a version that may have landed late (decision D11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateEvidence {
    /// An older version at the target is a copy of something newer.
    pub newer_beneath: bool,
    /// An older version at the target is the same copy.
    pub same_beneath: bool,
    /// It is what readers of the key see.
    pub is_current: bool,
}

/// The decisions.
pub trait Rules: Clone {
    /// What the populator does with a journal entry (replication reference 3.1).
    fn filter(&self, entry: &PopulatorEntry, config: &FilterConfig) -> Decision {
        decide(entry, config)
    }

    /// I1: the journal position that may be saved.
    fn position_to_save(&self, ledger: &Ledger<Seq>) -> Seq {
        ledger.commit_point()
    }

    /// I1: whether lost records are written down before the position passes them.
    fn records_loss(&self) -> bool {
        true
    }

    /// I1: the queue offset that may be committed.
    fn commit_point(&self, ledger: &Ledger<Offset>) -> Offset {
        ledger.commit_point()
    }

    /// D7: whether something that names an assignment concerns the present one.
    fn is_current(&self, owned: Epoch, named: Epoch) -> bool {
        owned == named
    }

    /// I2: whether the versions of a key wait for each other.
    fn serialises_keys(&self) -> bool {
        true
    }

    /// I2: whether a key stays closed until the ending of its version is durable.
    fn holds_key_until_durable(&self) -> bool {
        true
    }

    /// D1: whether an entry of a version that is being copied right now still needs a look of its own afterwards.
    fn keeps_entry_of_running_version(&self) -> bool {
        true
    }

    /// What to do about an unknown ending of a write at the target.
    fn after_unknown(&self) -> AfterUnknown {
        AfterUnknown::TryAgain
    }

    /// I4: whether the digest that the target acknowledged is the one that was expected.
    fn accepts_digest(&self, expected: &str, stored: &str) -> bool {
        expected == stored
    }

    /// D4: whether data written for a copy may be deleted.
    fn orphans_may_go(&self, evidence: OrphanEvidence) -> bool {
        evidence.writes_refused && evidence.unreferenced
    }

    /// I5: whether a source version is to be copied; a replica is not.
    fn is_replicable(&self, md: &ObjectMd) -> bool {
        *md.replication().status() != OverallStatus::Replica
    }

    /// I2: whether a null version is created at a target under the id that the source stores for it.
    fn names_null_by_id(&self) -> bool {
        true
    }

    /// D10: whether a part that an earlier owner stored is kept. `matches`: it is of the same content, size and digest.
    fn keeps_noted_part(&self, matches: bool) -> bool {
        matches
    }

    /// D10: whether noted data that the target does not name may be deleted. `has_data`: the target shows the same content.
    fn noted_may_go(&self, has_data: bool) -> bool {
        has_data
    }

    /// D11: whether a copy is looked for by its marker before a target mints another version.
    fn looks_for_marker(&self) -> bool {
        true
    }

    /// D11: whether a version may be written where that makes it the current one.
    fn may_become_current(&self, evidence: OrderEvidence) -> bool {
        !evidence.newer_at_target && !evidence.passed
    }

    /// D11: the condition of a write at a target that mints ids, given the right one.
    fn minting_condition(&self, right: Option<CurrentIs>) -> Option<CurrentIs> {
        right
    }

    /// D11: whether a version at a target landed late and is removed.
    fn landed_late(&self, evidence: LateEvidence) -> bool {
        evidence.newer_beneath || evidence.same_beneath
    }

    /// D11: whether what a target could not refuse is looked at once more, and what landed late is removed.
    fn looks_after_minting(&self) -> bool {
        true
    }

    /// D5: whether an attempt that failed may be made again later, behind newer versions.
    fn defers(&self, target: TargetKind) -> bool {
        target.keeps_versions()
    }

    /// D6: whether a parked entry is written down before its offset is settled.
    fn parks_durably(&self) -> bool {
        true
    }

    /// I4 and D2: whether an outcome for the revision of `message` may be recorded on `stored`.
    fn speaks_for(&self, message: &ObjectMd, stored: &ObjectMd) -> bool {
        message.revision() == stored.revision()
    }

    /// D2: whether an outcome for another revision makes the stored revision queue again.
    fn requeues_other_revision(&self) -> bool {
        true
    }

    /// D3: the condition of a status write over the state that was read.
    fn status_condition(&self, read: StateTag) -> Option<Condition> {
        Some(Condition::tag(read))
    }

    /// D3: whether what a status write overwrote on a source without conditional writes is written back.
    fn restores_overwritten(&self) -> bool {
        true
    }

    /// I5: the document that records an outcome, given the right one.
    fn status_write(&self, right: ObjectMd, _message: &ObjectMd, _stored: &ObjectMd) -> ObjectMd {
        right
    }

    /// Whether an acknowledgement that was refused or is unknown counts as one (publishes of the populator).
    fn is_acknowledged(&self, ending: &Ending<()>) -> bool {
        matches!(ending, Ending::Applied(()))
    }
}

/// The right decisions, as shipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Production;

impl Rules for Production {}
