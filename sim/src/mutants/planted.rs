//! The planted bugs: one implementation of the decisions, wrong in exactly one place at a time.
//!
//! They share one type so that the world and the machines are compiled for them once.

use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::id::{Epoch, Offset, Seq};
use backbeat_core::model::{
    Decision, Field, FilterConfig, ObjectMd, OverallStatus, PopulatorEntry, SiteStatus, StateTag, decide,
};
use backbeat_core::parts::Ledger;
use backbeat_core::request::Condition;
use backbeat_core::request::minting::{CurrentIs, TargetKind};
use backbeat_core::rules::{AfterUnknown, LateEvidence, OrderEvidence, OrphanEvidence, Production, Rules};

macro_rules! planted {
    ($($name:ident = $id:literal, $about:literal;)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Planted {
            $(#[doc = $about] $name,)*
        }

        impl Planted {
            /// Every planted bug.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// What it does wrong.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => $about,)* }
            }
        }
    };
}

planted! {
    CommitHighest = "commit-highest", "commits the highest offset read instead of the contiguous prefix";
    SaveUnacknowledged = "save-unacknowledged", "saves the journal position before publishes are acknowledged";
    TimeoutIsSuccess = "timeout-is-success", "treats a time-out as success";
    TimeoutIsRefusal = "timeout-is-refusal", "treats a time-out as \"it did not happen\"";
    NoLanes = "no-lanes", "runs versions of a key side by side";
    EarlyRelease = "early-release", "releases a key before the ending of its version is durable";
    IgnoreEpoch = "ignore-epoch", "ignores the epoch after a rebalance";
    DedupeChange = "dedupe-change", "deduplicates a metadata change with the copy that runs";
    StatusForAnyRevision = "status-for-any-revision", "writes a status without comparing revisions";
    DropOtherRevision = "drop-other-revision", "drops a status of another revision without publishing again";
    UnconditionalStatus = "unconditional-status", "writes a status over a client's concurrent change";
    OtherSitesFromMessage = "other-sites-from-message", "overwrites another site's COMPLETED with what the message said";
    OverallFromOneSite = "overall-from-one-site", "calls the whole version COMPLETED when one site is";
    OverallPending = "overall-pending", "writes the overall status PENDING, which queues the version again";
    ReplicateReplica = "replicate-replica", "copies a version that became a replica";
    QueueReplica = "queue-replica", "queues replicas";
    NullOverNewer = "null-over-newer", "copies a null version into the place of the latest version";
    ForgetParked = "forget-parked", "settles a parked entry without writing it down";
    DeleteAfterTimeout = "delete-after-timeout", "deletes \"orphans\" after a time-out of the write that names them";
    AcceptCorruption = "accept-corruption", "accepts whatever digest the target stored";
    SilentLoss = "silent-loss", "passes records that the journal lost without writing that down";
    LeaveOverwritten = "leave-overwritten", "does not write back what a status write overwrote";
    UnknownPublish = "unknown-publish-is-acknowledged", "takes a publish whose ending is unknown for acknowledged";
    RefusedPublish = "refused-publish-is-acknowledged", "takes a publish that was refused for acknowledged";
    MintBlindly = "mint-blindly", "writes a version at a target that mints ids without looking for its marker";
    OlderOverNewer = "older-over-newer", "makes an older version the current one at a target that mints ids";
    MintUnconditionally = "mint-unconditionally", "leaves out the conditions that a target that mints ids would honour";
    RemoveOlder = "remove-older", "takes every version that is not current for one that landed late";
    LeaveLate = "leave-late", "does not look again at a target that cannot refuse, and leaves what landed late";
    KeepAnyPart = "keep-any-part", "goes on with whatever part an earlier owner stored, whatever its digest";
    SweepNoted = "sweep-noted", "deletes noted data that another owner may be about to name";
    DeferMinted = "defer-minted", "defers a failed attempt at a target that mints ids";
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "each method is wrong for one variant and right for all others"
)]
impl Rules for Planted {
    fn filter(&self, entry: &PopulatorEntry, config: &FilterConfig) -> Decision {
        match (self, entry.value.as_text()) {
            (Self::QueueReplica, Some(value)) if value.contains("\"status\":\"REPLICA\"") => {
                let mut asked = entry.clone();
                let pending = value.replacen("\"status\":\"REPLICA\"", "\"status\":\"PENDING\"", 1);
                asked.value = Field::Text(pending.into());
                decide(&asked, config)
            }
            _ => decide(entry, config),
        }
    }

    fn position_to_save(&self, ledger: &Ledger<Seq>) -> Seq {
        match (self, ledger.highest_consumed()) {
            (Self::SaveUnacknowledged, Some(highest)) => highest.next(),
            _ => ledger.commit_point(),
        }
    }

    fn records_loss(&self) -> bool {
        *self != Self::SilentLoss
    }

    fn restores_overwritten(&self) -> bool {
        *self != Self::LeaveOverwritten
    }

    fn commit_point(&self, ledger: &Ledger<Offset>) -> Offset {
        match (self, ledger.highest_consumed()) {
            (Self::CommitHighest, Some(highest)) => highest.next(),
            _ => ledger.commit_point(),
        }
    }

    fn is_current(&self, owned: Epoch, named: Epoch) -> bool {
        *self == Self::IgnoreEpoch || owned == named
    }

    fn serialises_keys(&self) -> bool {
        *self != Self::NoLanes
    }

    fn holds_key_until_durable(&self) -> bool {
        *self != Self::EarlyRelease
    }

    fn keeps_entry_of_running_version(&self) -> bool {
        *self != Self::DedupeChange
    }

    fn after_unknown(&self) -> AfterUnknown {
        match self {
            Self::TimeoutIsSuccess => AfterUnknown::AssumeApplied,
            Self::TimeoutIsRefusal => AfterUnknown::AssumeRefused,
            _ => AfterUnknown::TryAgain,
        }
    }

    fn accepts_digest(&self, expected: &str, stored: &str) -> bool {
        *self == Self::AcceptCorruption || expected == stored
    }

    fn orphans_may_go(&self, evidence: OrphanEvidence) -> bool {
        *self == Self::DeleteAfterTimeout || Production.orphans_may_go(evidence)
    }

    fn is_replicable(&self, md: &ObjectMd) -> bool {
        *self == Self::ReplicateReplica || Production.is_replicable(md)
    }

    fn names_null_by_id(&self) -> bool {
        *self != Self::NullOverNewer
    }

    fn keeps_noted_part(&self, matches: bool) -> bool {
        *self == Self::KeepAnyPart || matches
    }

    fn noted_may_go(&self, has_data: bool) -> bool {
        *self == Self::SweepNoted || has_data
    }

    fn looks_for_marker(&self) -> bool {
        *self != Self::MintBlindly
    }

    fn may_become_current(&self, evidence: OrderEvidence) -> bool {
        *self == Self::OlderOverNewer || Production.may_become_current(evidence)
    }

    fn minting_condition(&self, right: Option<CurrentIs>) -> Option<CurrentIs> {
        right.filter(|_| *self != Self::MintUnconditionally)
    }

    fn landed_late(&self, evidence: LateEvidence) -> bool {
        (*self == Self::RemoveOlder && !evidence.is_current) || Production.landed_late(evidence)
    }

    fn looks_after_minting(&self) -> bool {
        *self != Self::LeaveLate
    }

    fn defers(&self, target: TargetKind) -> bool {
        *self == Self::DeferMinted || Production.defers(target)
    }

    fn parks_durably(&self) -> bool {
        *self != Self::ForgetParked
    }

    fn speaks_for(&self, message: &ObjectMd, stored: &ObjectMd) -> bool {
        *self == Self::StatusForAnyRevision || Production.speaks_for(message, stored)
    }

    fn requeues_other_revision(&self) -> bool {
        *self != Self::DropOtherRevision
    }

    fn status_condition(&self, read: StateTag) -> Option<Condition> {
        if *self == Self::UnconditionalStatus { None } else { Production.status_condition(read) }
    }

    fn status_write(&self, right: ObjectMd, message: &ObjectMd, stored: &ObjectMd) -> ObjectMd {
        let info = right.replication();
        match self {
            Self::OtherSitesFromMessage => {
                // The site that reports is right; the others are as they were when the copy began.
                let mut wrong = info.clone();
                for (now, before) in info.backends().iter().zip(stored.replication().backends()) {
                    if now.status == before.status
                        && let Some(said) = message.replication().site_status(&now.site)
                    {
                        wrong = wrong.with_site_status(&now.site, said.clone());
                    }
                }
                right.with_replication(wrong.with_computed_status())
            }
            Self::OverallFromOneSite
                if info.backends().iter().any(|site| site.status == SiteStatus::Completed) =>
            {
                right.with_replication(info.with_status(OverallStatus::Completed))
            }
            Self::OverallPending if *info.status() == OverallStatus::Processing => {
                right.with_replication(info.with_status(OverallStatus::Pending))
            }
            _ => right,
        }
    }

    fn is_acknowledged(&self, ending: &Ending<()>) -> bool {
        match ending {
            Ending::Applied(()) => true,
            Ending::Refused(refusal) => {
                *self == Self::RefusedPublish && refusal.kind == RefusalKind::Unavailable
            }
            Ending::Unknown => *self == Self::UnknownPublish,
        }
    }
}
