//! FIFO-1, FIFO-2 and FIFO-3 (I2): per site and key, versions start and are applied in order, and one at a time.

use super::history::History;
use super::seen::Violation;
use crate::ids::{ProcId, SiteId, VerId};

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    /// Per process and key: the version whose requests are under way, and how many.
    running: Vec<Vec<Option<(VerId, u32)>>>,
    keys: usize,
    /// Per key and site: versions at the head of the queue order that are settled for good.
    settled: Vec<Vec<usize>>,
    /// Versions that started, per site.
    started: Vec<Vec<bool>>,
}

impl Fifo {
    pub(super) fn new(keys: usize, sites: usize) -> Self {
        Self {
            running: Vec::new(),
            keys,
            settled: vec![vec![0; sites]; keys],
            started: vec![Vec::new(); sites],
        }
    }

    /// A process asks a target to change.
    pub(super) fn asked(
        &mut self,
        history: &History,
        by: ProcId,
        site: SiteId,
        version: VerId,
    ) -> Result<(), Violation> {
        let key = history.version(version).key;
        if self.running.len() <= by.index() {
            self.running.resize(by.index() + 1, vec![None; self.keys]);
        }
        let running = &mut self.running[by.index()][key.index()];
        let mut count = 0;
        if let Some((other, others)) = *running
            && others > 0
            && other != version
        {
            let message = format!(
                "process {} works on versions {} and {} of key {} at once",
                by.0, other.0, version.0, key.0
            );
            return Err(Violation::new("FIFO-3", message));
        }
        if let Some((other, known)) = *running
            && other == version
        {
            count = known;
        }
        *running = Some((version, count + 1));
        let started = &mut self.started[site.index()];
        if started.len() <= version.index() {
            started.resize(version.index() + 1, false);
        }
        if std::mem::replace(&mut started[version.index()], true) {
            return Ok(());
        }
        self.predecessors(history, site, version, "FIFO-2", "started")
    }

    /// A process heard how such a request ended.
    pub(super) fn answered(&mut self, history: &History, by: ProcId, version: VerId) {
        let key = history.version(version).key;
        let running = self.running.get_mut(by.index()).and_then(|keys| keys[key.index()].as_mut());
        if let Some((other, count)) = running
            && *other == version
        {
            *count = count.saturating_sub(1);
        }
    }

    /// A process died.
    pub(super) fn died(&mut self, by: ProcId) {
        if let Some(keys) = self.running.get_mut(by.index()) {
            keys.fill(None);
        }
    }

    /// A version became visible at a target for the first time.
    pub(super) fn applied(
        &mut self,
        history: &History,
        site: SiteId,
        version: VerId,
    ) -> Result<(), Violation> {
        self.predecessors(history, site, version, "FIFO-1", "was applied")
    }

    /// Every version of the key that was queued earlier must be settled.
    fn predecessors(
        &mut self,
        history: &History,
        site: SiteId,
        version: VerId,
        id: &'static str,
        did: &str,
    ) -> Result<(), Violation> {
        let key = history.version(version).key;
        let queue = &history.queue_order[key.index()];
        let head = &mut self.settled[key.index()][site.index()];
        if queue[..*head].contains(&version) {
            return Ok(());
        }
        for (place, earlier) in queue.iter().enumerate().skip(*head) {
            if *earlier == version {
                return Ok(());
            }
            let wanted = history.at(*earlier, site).first_queued;
            let settled =
                wanted.is_none_or(|(revision, since)| history.is_settled(*earlier, site, revision, since));
            if !settled {
                let message = format!(
                    "at {} version {} of key {} {did} while version {}, queued before it, is not settled",
                    history.site_names[site.index()],
                    version.0,
                    key.0,
                    earlier.0
                );
                return Err(Violation::new(id, message));
            }
            if place == *head {
                *head += 1;
            }
        }
        Ok(())
    }
}
