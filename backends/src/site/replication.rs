//! What a source writes into `replicationInfo`: which sites a write is for, and what has to be carried over
//! (wire reference 2.3).

use super::config::{Account, ReplicationEndpoint};
use super::error::{Outcome, Refusal};
use super::random::uuid;
use backbeat_core::id::Site;
use backbeat_core::model::{
    Backend, ConfigurationError, ConfigurationRules, ContentFlag, Endpoint, ObjectMd, OverallStatus,
    PREFERRED_READ, ReplicationConfiguration, ReplicationInfo, ReplicationRule, SiteStatus,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

/// The one service whose writes are replicated.
const INGESTION: &str = "md-ingestion";

/// A replication configuration as bucket attributes keep it (wire reference 2.9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplicationRules {
    pub(super) role: String,
    pub(super) destination: String,
    pub(super) rules: Vec<Rule>,
    pub(super) preferred_read_location: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    pub(super) prefix: String,
    pub(super) enabled: bool,
    pub(super) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage_class: Option<String>,
}

impl ReplicationRules {
    /// Reads and checks what a client sent (wire reference 5). One role stands for both sides, and is kept as two.
    pub(super) fn parse(xml: &[u8], endpoints: &[ReplicationEndpoint]) -> Outcome<Self> {
        let xml = std::str::from_utf8(xml).map_err(|_| Refusal::malformed_xml())?;
        let known = ConfigurationRules {
            endpoints: endpoints.iter().map(Endpoint::from).collect(),
            one_role_may_stand_for_both: true,
            ..ConfigurationRules::default()
        };
        let mut failed = None;
        // Upstream names rules with the base64 form of a UUID: any unique text will do.
        let generate = || {
            uuid().unwrap_or_else(|refusal| {
                failed = Some(refusal);
                String::new()
            })
        };
        let parsed = ReplicationConfiguration::parse(xml, &known, generate)?;
        if let Some(refusal) = failed {
            return Err(refusal);
        }
        let is_scality = |rule: &ReplicationRule| match &rule.storage_class {
            None => true,
            Some(sites) => sites.split(',').any(|site| {
                let site = site.strip_suffix(PREFERRED_READ).unwrap_or(site);
                endpoints.iter().all(|endpoint| endpoint.site != site || endpoint.cloud_type.is_none())
            }),
        };
        let role = if !parsed.role.contains(',') && parsed.rules.iter().any(is_scality) {
            format!("{0},{0}", parsed.role)
        } else {
            parsed.role
        };
        Ok(Self {
            role,
            destination: parsed.destination.unwrap_or_default(),
            rules: parsed.rules.into_iter().map(Rule::from).collect(),
            preferred_read_location: parsed.preferred_read_location,
        })
    }

    /// The document for clients.
    pub(super) fn to_xml(&self) -> String {
        let rules = self.rules.iter().map(|rule| ReplicationRule {
            id: rule.id.clone(),
            prefix: rule.prefix.clone(),
            enabled: rule.enabled,
            storage_class: rule.storage_class.clone(),
        });
        let configuration = ReplicationConfiguration {
            role: self.role.clone(),
            destination: Some(self.destination.clone()).filter(|arn| !arn.is_empty()),
            rules: rules.collect(),
            preferred_read_location: self.preferred_read_location.clone(),
        };
        configuration.to_xml()
    }
}

impl From<&ReplicationEndpoint> for Endpoint {
    fn from(endpoint: &ReplicationEndpoint) -> Self {
        Self {
            site: endpoint.site.clone(),
            kind: endpoint.cloud_type.clone(),
            is_default: endpoint.is_default,
        }
    }
}

impl From<ReplicationRule> for Rule {
    fn from(rule: ReplicationRule) -> Self {
        Self { prefix: rule.prefix, enabled: rule.enabled, id: rule.id, storage_class: rule.storage_class }
    }
}

impl From<ConfigurationError> for Refusal {
    fn from(error: ConfigurationError) -> Self {
        let status = StatusCode::from_u16(error.http_status).unwrap_or(StatusCode::BAD_REQUEST);
        Self { code: error.code, status, message: error.description.into() }
    }
}

/// The write that replication is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) key: &'a str,
    /// Only metadata changed, or there are no bytes.
    pub(super) is_metadata_only: bool,
    /// For cloud sites: what kind of operation.
    pub(super) operation: Option<Operation>,
    /// The version whose metadata changes; none for a new version.
    pub(super) existing: Option<&'a ObjectMd>,
    /// Who writes; none where upstream does not ask.
    pub(super) account: Option<&'a Account>,
}

/// The operations that cloud sites are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    PutTagging,
    DeleteTagging,
    Multipart,
    PutRetention,
    PutLegalHold,
}

impl From<Operation> for ContentFlag {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::PutTagging => Self::PutTagging,
            Operation::DeleteTagging => Self::DeleteTagging,
            Operation::Multipart => Self::Multipart,
            Operation::PutRetention => Self::from("PUT_RETENTION"),
            Operation::PutLegalHold => Self::from("PUT_LEGAL_HOLD"),
        }
    }
}

/// The `replicationInfo` of a write, or nothing if it is not to be replicated: then a new version has the default and a
/// changed one keeps what it has.
pub(super) fn info(
    configuration: Option<&ReplicationRules>,
    endpoints: &[ReplicationEndpoint],
    asked: Asked<'_>,
) -> Option<ReplicationInfo> {
    let configuration = configuration?;
    if asked.account.is_some_and(|account| account.is_service() && !account.canonical_id.ends_with(INGESTION))
    {
        return None;
    }
    let rule = configuration.rules.iter().find(|rule| rule.enabled && asked.key.starts_with(&rule.prefix))?;
    let default = || {
        let flagged = endpoints.iter().find(|endpoint| endpoint.is_default);
        flagged.or(endpoints.first()).map(|endpoint| endpoint.site.clone())
    };
    let storage_class = rule.storage_class.clone().or_else(default)?;
    let mut backends = Vec::new();
    let mut cloud_types = Vec::new();
    for site in storage_class.split(',') {
        let site = site.strip_suffix(PREFERRED_READ).unwrap_or(site);
        let endpoint = endpoints.iter().find(|endpoint| endpoint.site == site);
        if let Some(cloud_type) = endpoint.and_then(|endpoint| endpoint.cloud_type.as_deref()) {
            cloud_types.push(cloud_type);
        }
        let site = Site::from(site);
        let existing = asked.existing.and_then(|md| md.replication().backend(&site));
        let mut backend = Backend::new(site.clone(), SiteStatus::Pending);
        if let Some(existing) = existing {
            backend.data_store_version_id = existing.data_store_version_id.clone();
        }
        backends.push(backend);
    }
    let mut content = if asked.is_metadata_only {
        vec![ContentFlag::Metadata]
    } else {
        vec![ContentFlag::Data, ContentFlag::Metadata]
    };
    if let Some(operation) = asked.operation
        && !cloud_types.is_empty()
    {
        content.push(operation.into());
    }
    Some(ReplicationInfo::new(
        OverallStatus::Pending,
        backends,
        content,
        &configuration.destination,
        &storage_class,
        &configuration.role,
        &cloud_types.join(","),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(site: &str, cloud_type: Option<&str>) -> ReplicationEndpoint {
        ReplicationEndpoint { site: site.into(), cloud_type: cloud_type.map(Into::into), is_default: false }
    }

    fn rules(prefix: &str, storage_class: Option<&str>) -> ReplicationRules {
        ReplicationRules {
            role: "arn:aws:iam::111111111111:role/src,arn:aws:iam::222222222222:role/dst".into(),
            destination: "arn:aws:s3:::dst".into(),
            rules: vec![Rule {
                prefix: prefix.into(),
                enabled: true,
                id: "r".into(),
                storage_class: storage_class.map(Into::into),
            }],
            preferred_read_location: None,
        }
    }

    fn put(key: &str) -> Asked<'_> {
        Asked { key, is_metadata_only: false, operation: None, existing: None, account: None }
    }

    #[test]
    fn a_put_for_two_sites_is_written_as_upstream_writes_it() {
        let endpoints = [endpoint("site-b", None), endpoint("aws-1", Some("aws_s3"))];
        let written = info(Some(&rules("", Some("site-b,aws-1"))), &endpoints, put("k")).unwrap();
        assert_eq!(
            written.to_json().as_str(),
            r#"{"status":"PENDING","backends":[{"site":"site-b","status":"PENDING","dataStoreVersionId":""},{"site":"aws-1","status":"PENDING","dataStoreVersionId":""}],"content":["DATA","METADATA"],"destination":"arn:aws:s3:::dst","storageClass":"site-b,aws-1","role":"arn:aws:iam::111111111111:role/src,arn:aws:iam::222222222222:role/dst","storageType":"aws_s3","dataStoreVersionId":"","isNFS":null}"#
        );
    }

    #[test]
    fn no_rule_no_endpoint_or_a_service_means_no_replication() {
        let endpoints = [endpoint("b", None)];
        assert!(info(None, &endpoints, put("k")).is_none());
        assert!(info(Some(&rules("logs/", None)), &endpoints, put("k")).is_none());
        assert!(info(Some(&rules("", None)), &[], put("k")).is_none());
        let service = Account {
            access_key: String::new(),
            secret_key: String::new(),
            canonical_id: "http://acs.zenko.io/accounts/service/lifecycle".into(),
            display_name: String::new(),
        };
        let asked = Asked { account: Some(&service), ..put("k") };
        assert!(info(Some(&rules("", None)), &endpoints, asked).is_none());
    }

    #[test]
    fn a_rule_without_sites_goes_to_the_default_and_operations_only_to_clouds() {
        let endpoints = [
            endpoint("first", None),
            ReplicationEndpoint { is_default: true, ..endpoint("cloud", Some("azure")) },
        ];
        let asked = Asked { is_metadata_only: true, operation: Some(Operation::PutTagging), ..put("k") };
        let to_cloud = info(Some(&rules("", None)), &endpoints, asked).unwrap();
        assert_eq!(to_cloud.content(), [ContentFlag::Metadata, ContentFlag::PutTagging]);
        let to_first = info(Some(&rules("", Some("first:preferred_read"))), &endpoints, asked).unwrap();
        assert_eq!(to_first.content(), [ContentFlag::Metadata]);
        assert_eq!(to_first.storage_class(), "first:preferred_read");
        assert!(to_first.backend(&Site::from("first")).is_some());
    }
}
