//! BOUND-1 (I8): what a process holds and has under way stays under the declared limits. COST-1: no retry storms.

use super::history::History;
use super::seen::Violation;
use crate::ids::{ProcId, SiteId, VerId};

/// Requests and publishes that one process may have under way.
pub(super) const IN_FLIGHT_MAX: u32 = 256;
/// Messages that one process may hold unsettled.
pub(super) const HELD_MAX: u64 = 512;
/// Requests that change a target, per version, revision and part, in a run with faults.
pub(super) const STORM_MAX: u32 = 60;
/// The same in a run without faults.
pub(super) const CALM_MAX: u32 = 3;

/// What a process carries.
pub(super) fn load(by: ProcId, in_flight: u32, held: u64) -> Result<(), Violation> {
    if in_flight > IN_FLIGHT_MAX || held > HELD_MAX {
        let message =
            format!("process {} has {in_flight} requests under way and holds {held} messages", by.0);
        return Err(Violation::new("BOUND-1", message));
    }
    Ok(())
}

/// A target is asked to change.
pub(super) fn cost(history: &History, version: VerId, site: SiteId, calm: bool) -> Result<(), Violation> {
    let known = history.version(version);
    let at = &known.sites[site.index()];
    let units = (known.parts + 1) * (known.newest() + 1 + at.retries + 2 * known.overwrites());
    let bound = if calm { CALM_MAX } else { STORM_MAX };
    if at.requests > units * bound {
        let message = format!(
            "{} requests for version {} with {} revisions",
            at.requests,
            version.0,
            known.newest() + 1
        );
        return Err(Violation::new("COST-1", message));
    }
    Ok(())
}
