//! What the demo ends with: what was done, what was proven, where it lies.

use super::progress::Snapshot;
use super::units::{bytes, seconds};
use super::verify::{Difference, Verdict};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Differences told one by one; the rest is a number.
const DIFFERENCES_TOLD_MAX: usize = 20;

/// How one site came out.
#[derive(Debug, Serialize)]
struct SiteOutcome {
    site: String,
    completed: usize,
    failed: usize,
    pending: usize,
    bytes: u64,
}

/// The receipt, as a text for people or as one line of JSON.
#[derive(Debug, Serialize)]
pub(super) struct Receipt {
    /// Version of this document.
    version: u32,
    kind: &'static str,
    verified: bool,
    keys: usize,
    versions: usize,
    markers: usize,
    tag_changes: u64,
    bytes: u64,
    sites: Vec<SiteOutcome>,
    copies: usize,
    copies_equal: usize,
    delay_median_ms: u128,
    delay_p99_ms: u128,
    settled_ms: u128,
    verified_ms: u128,
    data_dir: PathBuf,
    data_kept: bool,
    differences: Vec<Difference>,
}

/// What a receipt is made of, besides the verdict.
pub(super) struct Facts {
    /// How far everything was at the end.
    pub(super) snapshot: Snapshot,
    /// Sorted times from a write to the end of its replication.
    pub(super) delays: Vec<Duration>,
    /// How long the comparison took.
    pub(super) verify_time: Duration,
    /// Where the data lies.
    pub(super) data_dir: PathBuf,
    /// False if it is removed at the end of a good run.
    pub(super) is_data_kept: bool,
}

impl Receipt {
    /// Puts it together.
    pub(super) fn new(facts: Facts, verdict: Verdict) -> Self {
        let Facts { snapshot, delays, verify_time, data_dir, is_data_kept } = facts;
        let delay = |percent: usize| {
            let at = (delays.len() * percent / 100).min(delays.len().saturating_sub(1));
            delays.get(at).copied().unwrap_or_default().as_millis()
        };
        let is_settled = snapshot.sites.iter().all(|site| site.pending == 0 && site.failed == 0);
        // What went wrong can be looked at afterwards.
        let verified = is_settled && verdict.differences.is_empty() && verdict.equal == verdict.copies;
        let outcome = |site: super::progress::SiteProgress| SiteOutcome {
            site: site.name,
            completed: site.completed,
            failed: site.failed,
            pending: site.pending,
            bytes: site.bytes,
        };
        Self {
            version: 1,
            kind: "receipt",
            verified,
            keys: verdict.keys,
            versions: verdict.versions,
            markers: verdict.markers,
            tag_changes: snapshot.changes,
            bytes: verdict.bytes,
            copies: verdict.copies,
            copies_equal: verdict.equal,
            delay_median_ms: delay(50),
            delay_p99_ms: delay(99),
            settled_ms: snapshot.elapsed.as_millis(),
            verified_ms: verify_time.as_millis(),
            sites: snapshot.sites.into_iter().map(outcome).collect(),
            data_dir,
            data_kept: is_data_kept || !verified,
            differences: verdict.differences,
        }
    }

    /// True if everything arrived and is equal.
    pub(super) fn is_verified(&self) -> bool {
        self.verified
    }

    /// Whether the data directory is still needed.
    pub(super) fn is_data_kept(&self) -> bool {
        self.data_kept
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title =
            if self.verified { "replicated and verified" } else { "NOT EVERYTHING IS AS IT SHOULD BE" };
        let objects = self.versions - self.markers;
        writeln!(formatter, "{title}")?;
        writeln!(
            formatter,
            "  written    {objects} objects and {} delete markers under {} keys, {} tag changes, {}",
            self.markers,
            self.keys,
            self.tag_changes,
            bytes(self.bytes)
        )?;
        for site in &self.sites {
            writeln!(
                formatter,
                "  {:<10} {} completed, {} failed, {} pending, {}",
                site.site,
                site.completed,
                site.failed,
                site.pending,
                bytes(site.bytes)
            )?;
        }
        let share = 100.0 * self.copies_equal as f64 / self.copies.max(1) as f64;
        writeln!(
            formatter,
            "  verified   {} of {} copies equal in bytes, headers, user metadata and tags; every current version too \
             ({share:.1} %)",
            self.copies_equal, self.copies
        )?;
        let time = |millis: u128| seconds(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)));
        writeln!(
            formatter,
            "  delay      half within {}, 99 % within {} of being written",
            time(self.delay_median_ms),
            time(self.delay_p99_ms)
        )?;
        let (settled, verified) = (time(self.settled_ms), time(self.verified_ms));
        writeln!(formatter, "  took       {settled} to write and replicate, {verified} to compare")?;
        let fate = if self.data_kept { "kept" } else { "removed now; --data-dir DIR keeps it" };
        writeln!(formatter, "  data       {} ({fate})", self.data_dir.display())?;
        for difference in self.differences.iter().take(DIFFERENCES_TOLD_MAX) {
            writeln!(formatter, "  difference {difference}")?;
        }
        if self.differences.len() > DIFFERENCES_TOLD_MAX {
            let more = self.differences.len() - DIFFERENCES_TOLD_MAX;
            writeln!(formatter, "  difference and {more} more; --json lists them all")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::SiteProgress;
    use super::*;

    fn receipt(failed: usize, differences: Vec<Difference>) -> Receipt {
        let site = SiteProgress { name: "paris".to_owned(), completed: 3, failed, ..SiteProgress::default() };
        let facts = Facts {
            snapshot: Snapshot { sites: vec![site], ..Snapshot::default() },
            delays: (1..=100).map(Duration::from_millis).collect(),
            verify_time: Duration::from_secs(1),
            data_dir: PathBuf::from("data"),
            is_data_kept: false,
        };
        Receipt::new(facts, Verdict { versions: 3, equal: 3, copies: 3, differences, ..Verdict::default() })
    }

    #[test]
    fn only_a_run_without_failure_and_difference_is_verified() {
        assert!(receipt(0, Vec::new()).is_verified());
        assert!(!receipt(1, Vec::new()).is_verified());
        let difference = |number: usize| Difference {
            site: "paris".to_owned(),
            key: number.to_string(),
            version: None,
            what: "missing".to_owned(),
        };
        let bad = receipt(0, (0..30).map(difference).collect());
        assert!(!bad.is_verified());
        let text = bad.to_string();
        assert!(text.contains("paris: \"7\": missing") && text.contains("and 10 more"), "{text}");
    }

    #[test]
    fn delays_are_percentiles() {
        let receipt = receipt(0, Vec::new());
        assert_eq!((receipt.delay_median_ms, receipt.delay_p99_ms), (51, 100));
    }
}
