//! STATUS-1 to STATUS-4 (I4, I5): the engine writes only allowed transitions, the right overall status, COMPLETED only for
//! what the target shows, and nothing over a client's change.

use backbeat_core::model::{ObjectMd, SiteStatus};

use super::history::History;
use super::seen::Violation;
use crate::content::Content;
use crate::ids::{SiteId, VerId};

/// The overall status by the algebra of I5, computed here and not by the engine's model.
fn overall(md: &ObjectMd) -> &'static str {
    let statuses: Vec<&str> =
        md.replication().backends().iter().map(|backend| backend.status.as_str()).collect();
    if statuses.contains(&"FAILED") {
        "FAILED"
    } else if statuses.contains(&"PENDING") {
        "PROCESSING"
    } else {
        "COMPLETED"
    }
}

/// The engine wrote metadata at the source. Call before the history takes note of it.
pub(super) fn source_wrote(
    history: &History,
    version: VerId,
    before: &ObjectMd,
    (after, content): (&ObjectMd, Content),
    deleted: impl Fn(SiteId) -> bool,
) -> Result<(), Violation> {
    let known = history.version(version);
    let newest = known.newest_content();
    let kept = content == newest && before.replication().content() == after.replication().content();
    if history.source_compares && !kept {
        let message = format!("a status write changed what a client wrote of version {}", version.0);
        return Err(Violation::new("STATUS-3", message));
    }
    let Some((first, last)) = known.revision_of(content) else {
        let message = format!("a status write wrote a version {} that no client wrote", version.0);
        return Err(Violation::new("STATUS-3", message));
    };
    let replica = after.replication().status().as_str() == "REPLICA";
    if content == newest && known.replica && !replica {
        let message = format!("the engine wrote a status on version {}, a replica", version.0);
        return Err(Violation::new("STATUS-4", message));
    }
    // A restoration may come twice, or late: what it asks for is done again.
    let asks_again = !history.source_compares && after.replication().status().as_str() == "PENDING";
    if known.stored != content || asks_again {
        return exchanged(history, version, after, (first, last));
    }
    let written = after.replication().status().as_str();
    if written != overall(after) {
        let message =
            format!("overall status {written} on version {} instead of {}", version.0, overall(after));
        return Err(Violation::new("STATUS-1", message));
    }
    for (index, (site, at)) in (0_u8..).zip(history.site_names.iter().zip(&known.sites)) {
        let (old, new) = (before.replication().site_status(site), after.replication().site_status(site));
        if old == new {
            continue;
        }
        let allowed = match (old, new) {
            (
                Some(SiteStatus::Pending | SiteStatus::Failed),
                Some(SiteStatus::Completed | SiteStatus::Failed),
            ) => true,
            (Some(SiteStatus::Failed), Some(SiteStatus::Pending)) => {
                at.retries > 0 || !history.source_compares
            }
            // What another status write recorded meanwhile is overwritten where writes do not compare. It has to come back: nothing may
            // stay PENDING.
            (Some(SiteStatus::Completed), Some(SiteStatus::Pending | SiteStatus::Failed)) => {
                !history.source_compares
            }
            _ => false,
        };
        if !allowed {
            let message = format!("version {} at {site}: {old:?} became {new:?}", version.0);
            let id = if old == Some(&SiteStatus::Completed) { "STATUS-3" } else { "STATUS-1" };
            return Err(Violation::new(id, message));
        }
        if new == Some(&SiteStatus::Completed) {
            // Content that was written more than once cannot be told apart by any revision: what a late outcome spoke for may
            // be an earlier writing of it. The end of the run (DATA-1) proves that the target shows the last one.
            let again = known.revision_of(content).is_some_and(|(first, last)| first != last);
            let site_id = SiteId(index);
            let shown = if !history.mints(site_id) {
                at.target == Some(content)
            } else if after.is_delete_marker() {
                deleted(site_id)
            } else {
                at.target == Some(Content::plain(after))
            };
            if !shown && !again && history.source_compares {
                let message =
                    format!("version {} is COMPLETED at {site}, which shows another state", version.0);
                return Err(Violation::new("STATUS-2", message));
            }
            if at.completed.is_none() {
                let message = format!("version {} is COMPLETED at {site} without an outcome", version.0);
                return Err(Violation::new("STATUS-2", message));
            }
        }
        if new == Some(&SiteStatus::Failed) && at.failed.is_none() {
            let message = format!("version {} is FAILED at site {index} without an outcome", version.0);
            return Err(Violation::new("STATUS-1", message));
        }
    }
    Ok(())
}

/// A write at a source that does not compare put something else in the place of what was stored: an older revision that a status
/// write had read, or one that comes back.
fn exchanged(
    history: &History,
    version: VerId,
    after: &ObjectMd,
    (first, last): (u32, u32),
) -> Result<(), Violation> {
    let known = history.version(version);
    let written = after.replication().status().as_str();
    let statuses = || after.replication().backends().iter().map(|backend| backend.status.as_str());
    let fits = match written {
        "REPLICA" => known.revisions[first as usize..=last as usize].iter().any(|revision| revision.replica),
        // A restoration asks for replication as the client did.
        "PENDING" => statuses().all(|status| status == "PENDING"),
        _ => written == overall(after),
    };
    if fits {
        return Ok(());
    }
    let message = format!("overall status {written} on version {}, which does not follow", version.0);
    Err(Violation::new("STATUS-1", message))
}

/// An outcome was published.
pub(super) fn outcome(
    history: &History,
    version: VerId,
    site: SiteId,
    status: &SiteStatus,
    revision: u32,
    deleted: bool,
) -> Result<(), Violation> {
    if *status != SiteStatus::Completed {
        return Ok(());
    }
    // The same content may have been written more than once: it is enough that the target may show a state as new as the
    // oldest that the message may speak for.
    let known = history.version(version);
    let spoken = known.revisions[revision as usize].content;
    let oldest = known.revision_of(spoken).map_or(revision, |(first, _)| first);
    let mints = history.mints(site);
    let shown = history.at(version, site).target.and_then(|shown| known.revision_shown(shown, mints));
    let shown = shown.map(|(_, last)| last);
    if mints && known.marker && deleted {
        return Ok(());
    }
    if shown.is_none_or(|shown| shown < oldest) && known.overwrites() == 0 {
        let name = &history.site_names[site.index()];
        let message = format!(
            "COMPLETED of revision {revision} of version {} was published before {name} shows it",
            version.0
        );
        return Err(Violation::new("STATUS-2", message));
    }
    Ok(())
}
