//! Data written for a copy before any metadata names it, and what becomes of it when none ever will (decision D4).

use std::collections::BTreeMap;
use std::mem;

use crate::call::{Ending, RefusalKind};
use crate::model::{Encryption, Location, ObjectMd, Part};
use crate::rules::{OrphanEvidence, Rules};

use super::{CopyJob, Stage};

/// Data written for a copy, and whether a metadata write that names it may still happen.
#[derive(Clone, Debug, Default)]
pub(super) struct Deposit {
    pub(super) layout: Vec<Part>,
    pub(super) parts: BTreeMap<u32, Location>,
    /// How the target encrypted them.
    pub(super) encryption: Encryption,
    pub(super) write_unknown: bool,
}

impl CopyJob {
    pub(super) fn abandon_deposit(&mut self) {
        let deposit = mem::take(&mut self.deposit);
        if self.minting.is_some() {
            return self.abandon_upload();
        }
        if self.was_noted() {
            return self.leave_noted(deposit.parts.into_values());
        }
        let unknown = deposit.write_unknown;
        self.abandoned.extend(deposit.parts.into_values().map(|location| (location, unknown)));
    }

    /// Keeps what may be deleted of the data written in vain; the rest leaks and is counted (decision D4).
    pub(super) fn proven<R: Rules>(&mut self, ending: &Ending<ObjectMd>, rules: &R) {
        let before = self.abandoned.len();
        let referenced = |location: &Location| match ending {
            Ending::Applied(md) => md.locations().iter().any(|other| other.key == location.key),
            Ending::Refused(refusal) => refusal.kind != RefusalKind::NotFound,
            Ending::Unknown => true,
        };
        self.abandoned.retain(|(location, write_unknown)| {
            let unreferenced = !referenced(location);
            rules.orphans_may_go(OrphanEvidence { writes_refused: !write_unknown, unreferenced })
        });
        self.leaked += u32::try_from(before - self.abandoned.len()).unwrap_or(u32::MAX);
        let noted = self.sweepable_noted(ending, rules);
        self.abandoned.extend(noted.into_iter().map(|location| (location, false)));
        self.stage = if self.abandoned.is_empty() { Stage::Ended } else { Stage::Sweeping };
    }
}
