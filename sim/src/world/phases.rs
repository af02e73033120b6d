//! The phases of a run: safety, healing, fresh work, the end.

use backbeat_core::model::SiteStatus;
use backbeat_core::rules::Rules;

use super::source::MEMBERS;
use super::{Item, Phase, World};
use crate::checkers::Final;
use crate::ids::{SiteId, VerId};
use crate::marks::Mark;
use crate::plan::{Broken, Workload};
use crate::scenario::{LIVENESS_BOUND, SECOND};

/// Operations of the fresh phase.
const FRESH: u32 = 10;
/// How often the world looks whether everything has its ending.
const LOOK: u64 = SECOND;

impl<R: Rules> World<R> {
    /// Faults stop for the healthy set; the rest stays broken for good.
    pub(super) fn heal(&mut self) {
        let now = self.now();
        self.trace.line(now, || "faults stop".to_owned());
        self.plan.stop();
        match self.broken {
            Broken::Nothing => {}
            Broken::Site(site) => {
                self.targets[site.index()].dead_for_ever = true;
                self.dead_sites.push(site);
                self.marks.hit(Mark::SiteDeadForEver);
            }
            Broken::Process(id) => {
                self.crash(id, "for good");
                self.process(id).dead_for_ever = true;
                self.marks.hit(Mark::ProcessDeadForEver);
            }
        }
        self.source.journal_stalled_until = now;
        self.source.denied_until = now;
        self.source.rule_disabled_until = now;
        self.coordination.down_until = now;
        for group in self.groups.iter_mut() {
            group.down_until = now;
        }
        for partition in 0..self.queue.partitions() {
            for topic in [crate::ids::Topic::Replication, crate::ids::Topic::Status] {
                let log = self.queue.log_mut(topic, partition);
                (log.down_until, log.stalled_until) = (now, now);
            }
        }
        for target in &mut self.targets {
            target.down_until = now;
            target.throttled_until = now;
            target.expired_until = now;
            target.bucket_until = now;
        }
        for process in &mut self.processes {
            process.isolated_until = now.min(process.isolated_until);
            process.slow_until = now;
            process.deaf_until = now;
            process.clogged_until = now;
        }
        self.phase = Phase::Healing { since: now };
        self.after(LOOK, Item::Look);
    }

    /// Looks whether everything has its ending.
    pub(super) fn look(&mut self) {
        let now = self.now();
        let since = match self.phase {
            Phase::Safety => return,
            Phase::Healing { since } | Phase::Fresh { since } => since,
        };
        if !self.checkers.is_done(&self.dead_sites)
            || self.operations_left > 0 && matches!(self.phase, Phase::Fresh { .. })
        {
            if now - since > LIVENESS_BOUND {
                self.finish();
            } else {
                // The longer it takes, the less often it matters.
                let delay = LOOK.max((now - since) / 8);
                self.after(delay, Item::Look);
            }
            return;
        }
        match self.phase {
            Phase::Safety => {}
            Phase::Healing { .. } => {
                self.fresh_from = u32::try_from(self.source.versions.len()).expect("few versions");
                self.phase = Phase::Fresh { since: now };
                self.trace.line(now, || "fresh work".to_owned());
                let mut first = 0;
                self.operations_left = FRESH;
                if let Some(fresh) = self.fresh.take() {
                    first = fresh.last().map_or(0, |operation| operation.at);
                    self.operations_left = u32::try_from(fresh.len()).expect("few operations");
                    self.workload = Workload::Listed(fresh);
                }
                self.after(first, Item::Client);
                self.after(LOOK, Item::Look);
            }
            Phase::Fresh { .. } => {
                self.marks.hit(Mark::FreshAfterHeal);
                self.finish();
            }
        }
    }

    fn finish(&mut self) {
        self.over = true;
        let end = Final {
            dead_sites: self.dead_sites.clone(),
            fresh_from: self.fresh_from,
            calm: self.is_calm(),
            unequal: self.unequal(),
        };
        self.checkers.finish(&end);
    }

    /// Versions that are COMPLETED at a site where they differ from the source: a comparison of the documents themselves, member
    /// by member, without those that belong to a copy.
    fn unequal(&self) -> Vec<(VerId, SiteId)> {
        const OWN: [&str; 4] = ["owner-id", "owner-display-name", "dataStoreName", "md-model-version"];
        let mut unequal = Vec::new();
        for (id, version) in (0_u32..).zip(&self.source.versions) {
            let Some(md) = &version.md else { continue };
            let mut own_members = None;
            for (site, target) in (0_u8..).zip(&self.targets) {
                let name = &self.shape.sites[usize::from(site)];
                if self.dead_sites.contains(&SiteId(site))
                    || md.replication().site_status(name) != Some(&SiteStatus::Completed)
                    || md.replication().status().as_str() == "REPLICA"
                {
                    continue;
                }
                if let Some(minting) = &target.minting {
                    if !minting.shows(version.key, VerId(id), md) {
                        unequal.push((VerId(id), SiteId(site)));
                    }
                    continue;
                }
                // A site gives null versions ids of its own.
                let own_id = |name: &&str| version.null.is_some() && *name == "versionId";
                let same = target.version(VerId(id)).is_some_and(|copy| {
                    let layouts = copy.locations().iter().zip(md.locations());
                    copy.locations().len() == md.locations().len()
                        && layouts.into_iter().all(|(a, b)| (a.size, a.md5()) == (b.size, b.md5()))
                        && {
                            let own = own_members.get_or_insert_with(|| md.members(MEMBERS));
                            let pairs = copy.members(MEMBERS).into_iter().zip(*own);
                            let named = MEMBERS.iter().zip(pairs);
                            named
                                .filter(|(name, _)| !OWN.contains(name) && !own_id(name))
                                .all(|(_, (copied, own))| copied == own)
                        }
                });
                if !same {
                    unequal.push((VerId(id), SiteId(site)));
                }
            }
        }
        unequal
    }
}
