//! What the status processor does with a report about one site, given the source metadata as it is now
//! (replication reference 6.2 to 6.6, decision D2).

use std::collections::BTreeSet;

use crate::id::{Site, Topic};
use crate::time::WallTime;

use super::entry::origin_op;
use super::gc_action::GcAction;
use super::records::{FailureRecord, MetricKind, SiteMetric};
use super::{ContentFlag, ObjectEntry, ObjectMd, OverallStatus, ReplicationInfo, SiteStatus};

/// What the decision needs to know of the deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusConfig {
    /// The expanded list of replay topics (see [`expand_replay_topics`]): the index is the number of replays left. Empty: no replays.
    pub replay_topics: Vec<Topic>,
    /// Whether final failures are recorded.
    pub monitor_failures: bool,
    /// Locations whose data is deleted once every site has it.
    pub transient_locations: BTreeSet<String>,
}

/// The replay topics in the order of [`StatusConfig::replay_topics`]: configured order reversed, each as often as it may retry. So the first
/// configured topic serves the first replays (replication reference 6.4).
pub fn expand_replay_topics(configured: &[(Topic, u32)]) -> Vec<Topic> {
    let topics = configured.iter().rev();
    topics.flat_map(|(topic, retries)| std::iter::repeat_n(topic.clone(), *retries as usize)).collect()
}

/// Why a report is dropped, with a record of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The metadata names no role, or more than two.
    #[error("status message names {0} roles, one or two are needed")]
    BadRole(usize),
    /// The message is about no site.
    #[error("status message names no site")]
    NoSite,
    /// The reported status is none that a site may report.
    #[error("status message reports `{0}` for its site, which is not a status that sites report")]
    BadStatus(String),
}

/// What a status message reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The site.
    pub site: Site,
    /// COMPLETED, FAILED or PENDING.
    pub status: SiteStatus,
}

impl Report {
    /// The report in `message`, checked.
    pub fn of(message: &ObjectEntry) -> Result<Self, ReportError> {
        let roles = message.replication().roles().len();
        if roles == 0 || roles > 2 {
            return Err(ReportError::BadRole(roles));
        }
        let site = message.site.clone().ok_or(ReportError::NoSite)?;
        match message.replication().site_status(&site) {
            Some(status @ (SiteStatus::Completed | SiteStatus::Failed | SiteStatus::Pending)) => {
                Ok(Self { site, status: status.clone() })
            }
            Some(other) => Err(ReportError::BadStatus(other.to_string())),
            None => Err(ReportError::BadStatus("nothing".to_owned())),
        }
    }
}

/// Why nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChange {
    /// The site is COMPLETED already, which is final.
    AlreadyCompleted,
    /// The report speaks for another revision, and the site has nothing to do for the stored one.
    OtherRevision,
}

/// What becomes of the source metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusAction {
    /// Nothing.
    NoChange(NoChange),
    /// Write this document in the place of the one that was read.
    Write(ObjectMd),
    /// Write nothing; publish this entry to the replay topic.
    Replay {
        /// The replay topic.
        topic: Topic,
        /// The entry, with the replays left after this one.
        entry: Box<ObjectEntry>,
    },
    /// The report speaks for another revision than the stored one, for which the site is still to be done: write nothing, publish the stored
    /// version once more to the replication topic.
    Republish(Box<ObjectEntry>),
}

/// The whole decision. Everything but the action follows once the action is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusPlan {
    /// What becomes of the metadata.
    pub action: StatusAction,
    /// The record of a final failure.
    pub failure: Option<FailureRecord>,
    /// The data to delete from a transient location.
    pub gc: Option<GcAction>,
    /// The count for the site.
    pub metric: Option<SiteMetric>,
}

impl StatusPlan {
    fn only(action: StatusAction) -> Self {
        Self { action, failure: None, gc: None, metric: None }
    }
}

/// Decides about `report`, read from `message`, when the source holds `stored`.
pub fn decide_status(
    report: &Report,
    message: &ObjectEntry,
    stored: &ObjectMd,
    config: &StatusConfig,
    now: WallTime,
) -> StatusPlan {
    let Report { site, status } = report;
    if stored.replication().site_status(site) == Some(&SiteStatus::Completed) {
        return StatusPlan::only(StatusAction::NoChange(NoChange::AlreadyCompleted));
    }
    let rewritten_nfs = *status == SiteStatus::Completed && nfs_content_differs(message.md(), stored);
    // A retry asked for through the API speaks for no revision: the next attempt reads whatever is there.
    if *status != SiteStatus::Pending && !rewritten_nfs && message.md().revision() != stored.revision() {
        return other_revision(site, message, stored);
    }
    if *status == SiteStatus::Failed
        && let Some(replay) = replay(site, message, config)
    {
        return StatusPlan::only(replay);
    }
    let status = if rewritten_nfs { &SiteStatus::Pending } else { status };
    let written = apply(stored, site, status, message.replication());
    let metric = match report.status {
        SiteStatus::Completed => Some(MetricKind::Completed),
        SiteStatus::Failed => Some(MetricKind::Failed),
        SiteStatus::Pending | SiteStatus::Replica | SiteStatus::Other(_) => None,
    };
    let metric = metric.map(|kind| {
        let bytes =
            if message.replication().has(&ContentFlag::Data) { message.md().content_length() } else { 0 };
        SiteMetric::of_site(kind, site.clone(), 1, bytes)
    });
    let failed = *status == SiteStatus::Failed && config.monitor_failures;
    let transient = *written.replication().status() == OverallStatus::Completed
        && config.transient_locations.contains(written.data_store_name());
    StatusPlan {
        failure: failed.then(|| FailureRecord::new(&message.object_ref(), site, now)),
        gc: transient.then(|| GcAction::transient_source(&message.with_md(written.clone()))),
        metric,
        action: StatusAction::Write(written),
    }
}

/// The stored document with the site's new status and the version id that the message reports for it. A site that is no longer a
/// destination changes nothing but the computed overall status.
fn apply(stored: &ObjectMd, site: &Site, status: &SiteStatus, reported: &ReplicationInfo) -> ObjectMd {
    let info = stored.replication().with_site_status(site, status.clone());
    let (info, op) = match status {
        SiteStatus::Failed => (info.with_status(OverallStatus::Failed), origin_op::FAILED),
        SiteStatus::Completed => (info.with_computed_status(), origin_op::COMPLETED),
        SiteStatus::Pending | SiteStatus::Replica | SiteStatus::Other(_) => {
            (info.with_computed_status(), origin_op::PENDING)
        }
    };
    let version_id = reported.backend(site).map_or("", |backend| &*backend.data_store_version_id);
    stored.with_replication_by(info.with_site_version_id(site, version_id), op)
}

/// An NFS object has no versions, so a newer content may have taken the place of what was copied.
fn nfs_content_differs(copied: &ObjectMd, stored: &ObjectMd) -> bool {
    stored.is_nfs() && (copied.content_md5() != stored.content_md5() || copied.tags() != stored.tags())
}

fn other_revision(site: &Site, message: &ObjectEntry, stored: &ObjectMd) -> StatusPlan {
    if stored.replication().site_status(site) != Some(&SiteStatus::Pending) {
        return StatusPlan::only(StatusAction::NoChange(NoChange::OtherRevision));
    }
    let again = message.with_md(stored.clone()).with_replay_count(None).to_retry(site);
    StatusPlan::only(StatusAction::Republish(Box::new(again)))
}

/// The replay that a failure still has, if any. A negative count, which upstream loses, is a count of zero.
fn replay(site: &Site, message: &ObjectEntry, config: &StatusConfig) -> Option<StatusAction> {
    let total = i64::try_from(config.replay_topics.len()).expect("a list of topics is short");
    let left = message.replay_count.map_or(total, |count| count.clamp(0, total)) - 1;
    let topic = config.replay_topics.get(usize::try_from(left).ok()?)?;
    let entry = message.to_retry(site).with_replay_count(Some(left));
    Some(StatusAction::Replay { topic: topic.clone(), entry: Box::new(entry) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn md(site_status: &str, tags: &str) -> ObjectMd {
        let text = format!(
            r#"{{"versionId":"v","content-length":7,"tags":{{"t":"{tags}"}},"replicationInfo":{{"status":"PROCESSING","backends":[{{"site":"a","status":"{site_status}","dataStoreVersionId":""}}],"content":["DATA"],"destination":"arn:aws:s3:::d","storageClass":"a","role":"r1,r2","storageType":"","dataStoreVersionId":"","isNFS":null}}}}"#
        );
        ObjectMd::parse(&text).expect("valid")
    }

    fn message(status: &str, tags: &str) -> ObjectEntry {
        let mut entry = ObjectEntry::of("b", &"k".into(), md(status, tags));
        entry.site = Some("a".into());
        entry
    }

    fn decide(message: &ObjectEntry, stored: &ObjectMd, config: &StatusConfig) -> StatusPlan {
        let report = Report::of(message).expect("a valid report");
        decide_status(&report, message, stored, config, WallTime::from_millis(0))
    }

    #[test]
    fn a_report_about_another_revision_is_never_written() {
        for status in ["COMPLETED", "FAILED"] {
            let stored = md("PENDING", "new");
            let plan = decide(&message(status, "old"), &stored, &StatusConfig::default());
            let StatusAction::Republish(again) = plan.action else { panic!("{status}: {:?}", plan.action) };
            assert_eq!(again.md().tags(), stored.tags());
            assert_eq!(again.replication().status(), &OverallStatus::Pending);
            assert_eq!(again.versioned_key().as_deref(), Some("k\0v"));
            assert_eq!((plan.failure, plan.gc, plan.metric), (None, None, None));
            let settled = decide(&message(status, "old"), &md("FAILED", "new"), &StatusConfig::default());
            assert_eq!(settled.action, StatusAction::NoChange(NoChange::OtherRevision));
        }
    }

    #[test]
    fn completed_is_final_for_its_revision_and_every_other() {
        for tags in ["old", "new"] {
            let plan = decide(&message("FAILED", "old"), &md("COMPLETED", tags), &StatusConfig::default());
            assert_eq!(plan.action, StatusAction::NoChange(NoChange::AlreadyCompleted));
        }
    }

    #[test]
    fn replays_count_down_through_the_topics_and_end_in_failure() {
        let topics = expand_replay_topics(&[("t0".into(), 2), ("t1".into(), 1)]);
        let config =
            StatusConfig { replay_topics: topics, monitor_failures: true, ..StatusConfig::default() };
        let mut report = message("FAILED", "x");
        let mut seen = Vec::new();
        loop {
            let plan = decide(&report, &md("PENDING", "x"), &config);
            match plan.action {
                StatusAction::Replay { topic, entry } => {
                    seen.push((topic.to_string(), entry.replay_count));
                    report = report.with_replay_count(entry.replay_count);
                }
                StatusAction::Write(written) => {
                    assert_eq!(written.replication().status(), &OverallStatus::Failed);
                    assert!(plan.failure.is_some());
                    break;
                }
                other @ (StatusAction::NoChange(_) | StatusAction::Republish(_)) => panic!("{other:?}"),
            }
        }
        let expected = [("t0", 2), ("t0", 1), ("t1", 0)].map(|(topic, left)| (topic.to_owned(), Some(left)));
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_negative_replay_count_is_a_final_failure() {
        let config = StatusConfig { replay_topics: vec!["t".into()], ..StatusConfig::default() };
        let plan = decide(&message("FAILED", "x").with_replay_count(Some(-1)), &md("PENDING", "x"), &config);
        assert!(matches!(plan.action, StatusAction::Write(_)));
    }

    #[test]
    fn an_explicit_retry_does_not_depend_on_the_revision() {
        let plan = decide(&message("PENDING", "old"), &md("FAILED", "new"), &StatusConfig::default());
        let StatusAction::Write(written) = plan.action else { panic!("{:?}", plan.action) };
        assert_eq!(written.replication().site_status(&"a".into()), Some(&SiteStatus::Pending));
        assert_eq!(written.replication().status(), &OverallStatus::Processing);
        assert_eq!(written.revision(), md("FAILED", "new").revision());
    }

    #[test]
    fn reports_that_say_nothing_usable_are_refused() {
        assert!(matches!(Report::of(&message("REPLICA", "x")), Err(ReportError::BadStatus(_))));
        let mut other = message("COMPLETED", "x");
        other.site = Some("z".into());
        assert!(matches!(Report::of(&other), Err(ReportError::BadStatus(_))));
        other.site = None;
        assert_eq!(Report::of(&other), Err(ReportError::NoSite));
    }
}
