//! LIVE-1 to LIVE-3 (I3, I7) and OBS-1: once faults stop, every version reaches its ending at every healthy site in bounded
//! time, whatever stays broken elsewhere, fresh work included; and what failed is listed.

use backbeat_core::model::SiteStatus;

use super::history::{History, Version};
use super::populate::Population;
use super::seen::Violation;
use crate::ids::{SiteId, VerId};

/// What the world says about the end of a run.
#[derive(Clone, Debug)]
pub struct Final {
    /// Sites that never came back.
    pub dead_sites: Vec<SiteId>,
    /// Versions from this one on were written after the faults had stopped.
    pub fresh_from: u32,
    /// Whether the run had no faults at all.
    pub calm: bool,
    /// The state of the source's metadata and of the targets, compared by the world byte for byte: versions and sites where
    /// they differ though the status is COMPLETED.
    pub unequal: Vec<(VerId, SiteId)>,
}

/// Whether every version that still asks for work has its ending, so that the run may stop.
pub(super) fn is_done(history: &History, population: &Population, dead: &[SiteId]) -> bool {
    population.missing().is_none() && overwritten(history).is_none() && first_open(history, dead, 0).is_none()
}

/// The first version of which the source does not store what a client wrote last.
fn overwritten(history: &History) -> Option<VerId> {
    let lost = |known: &Version| !known.gone && known.stored != known.newest_content();
    (0_u32..).zip(&history.versions).find(|(_, known)| lost(known)).map(|(id, _)| VerId(id))
}

fn first_open(history: &History, dead: &[SiteId], from: usize) -> Option<(VerId, SiteId)> {
    (0_u32..).zip(&history.versions).skip(from).filter(|(_, known)| !known.gone && !known.replica).find_map(
        |(id, known)| {
            let open = (0_u8..)
                .zip(&known.sites)
                .find(|(site, at)| at.status == Some(SiteStatus::Pending) && !dead.contains(&SiteId(*site)));
            open.map(|(site, _)| (VerId(id), SiteId(site)))
        },
    )
}

/// Checks the end of a run.
pub(super) fn finish(history: &History, population: &Population, end: &Final) -> Result<(), Violation> {
    if let Some(seq) = population.missing() {
        return Err(Violation::new("LIVE-1", format!("journal record {seq} never reached the queue")));
    }
    if let Some(version) = overwritten(history) {
        let message =
            format!("what a client wrote of version {} was overwritten and never came back", version.0);
        return Err(Violation::new("STATUS-3", message));
    }
    if let Some((version, site)) = first_open(history, &end.dead_sites, 0) {
        let id = if version.0 >= end.fresh_from {
            "LIVE-3"
        } else if end.dead_sites.is_empty() {
            "LIVE-1"
        } else {
            "LIVE-2"
        };
        let at = history.at(version, site);
        let message = format!(
            "version {} is still PENDING at {}: queued {:?}, parked {}, requests {}",
            version.0,
            history.site_names[site.index()],
            at.first_queued,
            at.parked,
            at.requests
        );
        return Err(Violation::new(id, message));
    }
    if let Some((version, site)) = end.unequal.first() {
        let name = &history.site_names[site.index()];
        return Err(Violation::new(
            "DATA-1",
            format!("version {} is COMPLETED at {name} but differs there", version.0),
        ));
    }
    for (id, known) in (0_u32..).zip(&history.versions) {
        for (site, at) in history.site_names.iter().zip(&known.sites) {
            if known.gone || known.replica || at.status != Some(SiteStatus::Failed) {
                continue;
            }
            if end.calm {
                return Err(Violation::new(
                    "LIVE-1",
                    format!("version {id} FAILED at {site} in a run without faults"),
                ));
            }
            // What is still parked is tried again by itself, and listed as that.
            if !at.listed && !at.parked {
                return Err(Violation::new(
                    "OBS-1",
                    format!("version {id} FAILED at {site} and is not listed for retry"),
                ));
            }
        }
    }
    Ok(())
}
