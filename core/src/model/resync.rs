//! Which existing versions are to be replicated to a site once more, and what their metadata says then.
//!
//! What is written makes a record in the source's journal, as any write of a client does: such a version goes the way of all
//! others and overtakes nothing.

use std::collections::BTreeSet;

use super::object_md::ObjectMd;
use super::replication_info::{Backend, ReplicationInfo};
use super::status::{ContentFlag, OverallStatus, SiteStatus};
use super::stored_replication::{StoredReplication, StoredRule};
use crate::id::Site;

/// How far a version is at a site, as its metadata says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// The site is none of its destinations: it is older than the rule, or than the site in it.
    New,
    /// It waits for the site; a queue that lost it does not know.
    Pending,
    /// The site was given up.
    Failed,
    /// The site has it, or had it.
    Completed,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::New, Self::Pending, Self::Failed, Self::Completed];

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Completed => "completed",
        }
    }

    fn of(replication: &ReplicationInfo, site: &Site) -> Self {
        if !replication.names_site(site) {
            return Self::New;
        }
        match replication.site_status(site) {
            None => Self::New,
            Some(SiteStatus::Completed | SiteStatus::Replica) => Self::Completed,
            Some(SiteStatus::Failed) => Self::Failed,
            // PROCESSING, and whatever else is not an end.
            Some(SiteStatus::Pending | SiteStatus::Other(_)) => Self::Pending,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resync {
    /// The site.
    pub site: Site,
    /// The versions that are meant.
    pub standings: BTreeSet<Standing>,
    /// The site that rules mean which name none, if it is known.
    pub default_site: Option<Site>,
    /// Locations from which nothing is replicated.
    pub cold_locations: BTreeSet<String>,
}

/// What becomes of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResyncDecision {
    /// Its metadata gets this.
    Queue(Standing, ReplicationInfo),
    /// It is not meant.
    Leave(Standing),
    /// It is a copy of a version elsewhere, which is never replicated.
    Replica,
    /// No rule asks for it to be at the site.
    NoRule,
    /// Its data is in a cold location: no populator would queue it.
    Cold,
}

impl Resync {
    /// Whether it takes the default site to say what these rules mean, and that is not known.
    pub fn lacks_default(&self, rules: &StoredReplication) -> bool {
        self.default_site.is_none() && rules.rules.iter().any(|rule| rule.is_enabled && rule.sites.is_empty())
    }

    /// Decides about the version of `key` that `md` describes, in a bucket with these rules.
    pub fn decide(&self, key: &str, md: &ObjectMd, rules: &StoredReplication) -> ResyncDecision {
        let stored = md.replication();
        if *stored.status() == OverallStatus::Replica {
            return ResyncDecision::Replica;
        }
        // As CloudServer does, of several rules the first enabled one whose prefix fits counts (wire reference 2.3).
        let rule = rules.rules.iter().find(|rule| rule.is_enabled && key.starts_with(&rule.prefix));
        let Some(rule) = rule.filter(|rule| self.is_named_by(rule)) else {
            return ResyncDecision::NoRule;
        };
        let standing = Standing::of(stored, &self.site);
        if !self.standings.contains(&standing) {
            return ResyncDecision::Leave(standing);
        }
        if self.cold_locations.contains(md.data_store_name()) {
            return ResyncDecision::Cold;
        }
        let content = if md.content_length() > 0 {
            vec![ContentFlag::Data, ContentFlag::Metadata]
        } else {
            vec![ContentFlag::Metadata]
        };
        let wanted = ReplicationInfo::new(
            OverallStatus::Pending,
            self.backends(stored),
            content,
            rule.bucket.as_deref().unwrap_or_else(|| stored.destination()),
            &self.storage_class(stored),
            &rules.roles.join(","),
            stored.storage_type(),
        );
        ResyncDecision::Queue(standing, wanted.with_nfs(stored.is_nfs().then_some(true)))
    }

    fn is_named_by(&self, rule: &StoredRule) -> bool {
        let is_default = rule.sites.is_empty() && self.default_site.as_ref() == Some(&self.site);
        is_default || rule.sites.iter().any(|name| name == self.site.as_str())
    }

    /// What other sites have stays as it is.
    fn backends(&self, stored: &ReplicationInfo) -> Vec<Backend> {
        let mut backends = stored.backends().to_vec();
        match backends.iter_mut().find(|backend| backend.site == self.site) {
            Some(backend) => backend.status = SiteStatus::Pending,
            None => backends.push(Backend::new(self.site.clone(), SiteStatus::Pending)),
        }
        backends
    }

    fn storage_class(&self, stored: &ReplicationInfo) -> String {
        let named = stored.storage_class();
        if stored.names_site(&self.site) {
            named.to_owned()
        } else if named.is_empty() {
            self.site.as_str().to_owned()
        } else {
            format!("{named},{}", self.site)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: &str = "arn:aws:iam::1:role/here,arn:aws:iam::2:role/there";

    fn rules(listed: &[(&str, &[&str])]) -> StoredReplication {
        let rule = |(prefix, sites): &(&str, &[&str])| StoredRule {
            id: "rule".to_owned(),
            prefix: (*prefix).to_owned(),
            is_enabled: true,
            bucket: Some("arn:aws:s3:::copies".to_owned()),
            sites: sites.iter().map(|&site| site.to_owned()).collect(),
        };
        StoredReplication {
            roles: ROLES.split(',').map(str::to_owned).collect(),
            rules: listed.iter().map(rule).collect(),
        }
    }

    fn resync(standings: &[Standing]) -> Resync {
        Resync {
            site: "tokyo".into(),
            standings: standings.iter().copied().collect(),
            default_site: Some("paris".into()),
            cold_locations: ["attic".to_owned()].into(),
        }
    }

    fn md(length: u64, replication: &str) -> ObjectMd {
        let text =
            format!(r#"{{"content-length":{length},"versionId":"v1","replicationInfo":{replication}}}"#);
        ObjectMd::parse(&text).expect("a document")
    }

    const DONE_AT_PARIS: &str = r#"{"status":"COMPLETED","backends":[{"site":"paris","status":"COMPLETED","dataStoreVersionId":"p"}],"content":["METADATA"],"destination":"arn:aws:s3:::copies","storageClass":"paris:preferred_read","role":"old","storageType":"","dataStoreVersionId":"","isNFS":null}"#;

    #[test]
    fn a_version_that_is_older_than_its_rule_is_queued_whole() {
        let asked = resync(&[Standing::New]);
        let none =
            md(5, r#"{"status":"","backends":[],"content":[],"destination":"","storageClass":"","role":""}"#);
        let ResyncDecision::Queue(Standing::New, info) =
            asked.decide("a/b", &none, &rules(&[("a/", &["tokyo"])]))
        else {
            panic!("it is queued")
        };
        assert_eq!(
            info.to_json().as_str(),
            format!(
                r#"{{"status":"PENDING","backends":[{{"site":"tokyo","status":"PENDING","dataStoreVersionId":""}}],"content":["DATA","METADATA"],"destination":"arn:aws:s3:::copies","storageClass":"tokyo","role":"{ROLES}","storageType":"","dataStoreVersionId":"","isNFS":null}}"#
            )
        );
        let empty = md(0, r#"{"status":""}"#);
        let ResyncDecision::Queue(_, info) = asked.decide("a/", &empty, &rules(&[("a/", &["tokyo"])])) else {
            panic!("it is queued")
        };
        assert_eq!(info.content(), [ContentFlag::Metadata], "there are no bytes");
    }

    #[test]
    fn a_site_comes_to_those_that_there_are_which_stay_as_they_were() {
        let asked = resync(&[Standing::New]);
        let rules = rules(&[("", &["paris", "tokyo"])]);
        let ResyncDecision::Queue(_, info) = asked.decide("k", &md(5, DONE_AT_PARIS), &rules) else {
            panic!("it is queued")
        };
        assert_eq!(info.site_status(&"paris".into()), Some(&SiteStatus::Completed));
        assert_eq!(info.backend(&"paris".into()).map(|backend| &*backend.data_store_version_id), Some("p"));
        assert_eq!(info.site_status(&"tokyo".into()), Some(&SiteStatus::Pending));
        assert_eq!(info.storage_class(), "paris:preferred_read,tokyo");
        assert_eq!((info.status(), info.role()), (&OverallStatus::Pending, ROLES), "the roles of today");
    }

    #[test]
    fn only_what_is_meant_is_queued() {
        let site = |status: &str| {
            let text = DONE_AT_PARIS.replace("paris", "tokyo").replace("\"COMPLETED\"", status);
            md(5, &text)
        };
        let standings = [
            ("\"PENDING\"", Standing::Pending),
            ("\"PROCESSING\"", Standing::Pending),
            ("\"FAILED\"", Standing::Failed),
            ("\"COMPLETED\"", Standing::Completed),
        ];
        let rules = rules(&[("", &["tokyo"])]);
        for (status, standing) in standings {
            for meant in Standing::ALL {
                let decision = resync(&[meant]).decide("k", &site(status), &rules);
                if meant == standing {
                    let ResyncDecision::Queue(was, info) = decision else { panic!("{status}: {decision:?}") };
                    assert_eq!((was, info.status()), (standing, &OverallStatus::Pending));
                    assert_eq!(info.content(), [ContentFlag::Data, ContentFlag::Metadata], "all of it");
                } else {
                    assert_eq!(decision, ResyncDecision::Leave(standing), "{status}");
                }
            }
        }
    }

    #[test]
    fn what_is_in_a_cold_location_stays() {
        let cold = ObjectMd::parse(
            r#"{"content-length":5,"dataStoreName":"attic","replicationInfo":{"status":""}}"#,
        );
        let decision =
            resync(&Standing::ALL).decide("k", &cold.expect("a document"), &rules(&[("", &["tokyo"])]));
        assert_eq!(decision, ResyncDecision::Cold);
    }

    #[test]
    fn replicas_and_what_no_rule_asks_for_stay() {
        let all = resync(&Standing::ALL);
        let replica = md(5, r#"{"status":"REPLICA"}"#);
        assert_eq!(all.decide("k", &replica, &rules(&[("", &["tokyo"])])), ResyncDecision::Replica);
        let plain = md(5, r#"{"status":""}"#);
        for listed in [
            &[("other/", ["tokyo"].as_slice())] as &[(&str, &[&str])],
            &[("", ["paris"].as_slice())],
            &[("", ["paris"].as_slice()), ("", ["tokyo"].as_slice())],
            // Those of the default site, which is another one.
            &[("", [].as_slice())],
            &[],
        ] {
            assert_eq!(all.decide("k", &plain, &rules(listed)), ResyncDecision::NoRule, "{listed:?}");
        }
        let mut disabled = rules(&[("", &["tokyo"])]);
        disabled.rules[0].is_enabled = false;
        assert_eq!(all.decide("k", &plain, &disabled), ResyncDecision::NoRule);
        let default = Resync { default_site: Some("tokyo".into()), ..all };
        assert!(matches!(default.decide("k", &plain, &rules(&[("", &[])])), ResyncDecision::Queue(..)));
        let unknown = Resync { default_site: None, ..default };
        assert_eq!(unknown.decide("k", &plain, &rules(&[("", &[])])), ResyncDecision::NoRule);
        assert!(unknown.lacks_default(&rules(&[("", &["tokyo"]), ("", &[])])));
        assert!(!unknown.lacks_default(&rules(&[("", &["tokyo"])])));
    }
}
