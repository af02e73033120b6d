//! COMMIT-1 and COMMIT-2 (I1): a committed offset never passes a message that is not settled, and never goes back inside a
//! generation.

use std::collections::BTreeMap;

use backbeat_core::id::{Offset, Partition};
use backbeat_core::model::SiteStatus;

use super::history::History;
use super::seen::{FactKind, Facts, Violation};
use crate::ids::{GroupId, Topic};

/// The commit points seen so far.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// Per group, topic and partition: the generation and the point committed last, and the highest point checked.
    points: BTreeMap<(GroupId, Topic, Partition), (u32, Offset, u64)>,
}

impl Commits {
    /// Checks one commit.
    pub(super) fn check(
        &mut self,
        history: &History,
        group: GroupId,
        topic: Topic,
        partition: Partition,
        upto: Offset,
        generation: u32,
    ) -> Result<(), Violation> {
        let point = self.points.entry((group, topic, partition)).or_insert((generation, Offset(0), 0));
        if point.0 == generation && upto < point.1 {
            let message = format!("{group:?} {topic:?}/{}: {upto:?} after {:?}", partition.0, point.1);
            return Err(Violation::new("COMMIT-2", message));
        }
        (point.0, point.1) = (generation, upto);
        let log = &history.logs[history.topic_index(topic)][partition.0 as usize];
        if upto.0 > log.len() as u64 {
            let message = format!("{group:?} {topic:?}/{}: {upto:?} is past the end", partition.0);
            return Err(Violation::new("COMMIT-1", message));
        }
        let from = point.2;
        point.2 = point.2.max(upto.0);
        for (offset, facts) in (from..upto.0).zip(log.iter().skip(usize::try_from(from).expect("an index"))) {
            let settled = match group {
                GroupId::Site(site) => work_settled(history, site, facts),
                GroupId::Status => outcome_settled(history, facts),
            };
            if !settled {
                let message = format!(
                    "{group:?} committed {topic:?}/{} past {offset}, which is not settled: {facts:?}",
                    partition.0
                );
                return Err(Violation::new("COMMIT-1", message));
            }
        }
        Ok(())
    }
}

fn work_settled(history: &History, site: crate::ids::SiteId, facts: &Facts) -> bool {
    match &facts.kind {
        FactKind::Work { version, sites, revision } => {
            sites >> site.0 & 1 == 0 || history.is_settled(*version, site, *revision, facts.order)
        }
        FactKind::Outcome { .. } | FactKind::Foreign => true,
    }
}

/// An outcome is settled once the source's metadata says so, or the version is gone, queued again, parked, or no longer
/// pending there.
fn outcome_settled(history: &History, facts: &Facts) -> bool {
    let FactKind::Outcome { version, site, status, .. } = &facts.kind else { return true };
    let known = history.version(*version);
    let at = &known.sites[site.index()];
    known.gone
        || *status == SiteStatus::Pending
        // What is stored is older, by a lost update: what comes back is asked for anew.
        || known.older_until > facts.order
        || at.not_pending_until > facts.order
        || at.last_queued > facts.order
        || at.parked
        || at.parked_at > facts.order
}
