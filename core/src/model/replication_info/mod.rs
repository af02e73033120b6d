//! What a version's metadata says about its replication: which sites, how far each is, and what has to be carried over.

mod backend;
mod digests;
mod text;

pub use backend::Backend;

use std::sync::{Arc, OnceLock};

use crate::id::{Bucket, Site};
use crate::model::digest;
use crate::model::members::Form;
use crate::model::status::{ContentFlag, OverallStatus, SiteStatus, overall_of};

/// The suffix that marks one storage class as the site to read from.
pub const PREFERRED_READ: &str = ":preferred_read";

/// What does not change while sites report: shared between all revisions of the statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    content: Arc<[ContentFlag]>,
    destination: Arc<str>,
    storage_class: Arc<str>,
    role: Arc<str>,
    storage_type: Arc<str>,
    data_store_version_id: Arc<str>,
    is_nfs: Option<bool>,
    form: Option<Form>,
}

/// Settings with what follows from them, computed once.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    digest: OnceLock<digest::Stored>,
    names: OnceLock<Names>,
}

/// The names in settings that are lists or parts of a text.
#[derive(Debug)]
struct Names {
    sites: Vec<Site>,
    roles: Vec<String>,
    bucket: Bucket,
}

impl Names {
    fn of(settings: &Settings) -> Self {
        let sites = settings.storage_class.split(',');
        let sites = sites.map(|name| name.strip_suffix(PREFERRED_READ).unwrap_or(name).into()).collect();
        let roles = settings.role.split(',').filter(|_| !settings.role.is_empty());
        let arn = &*settings.destination;
        Self {
            sites,
            roles: roles.map(str::to_owned).collect(),
            bucket: arn.rsplit_once(':').map_or(arn, |(_, bucket)| bucket).into(),
        }
    }
}

impl Shared {
    fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self { settings, digest: OnceLock::new(), names: OnceLock::new() })
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Shared {}

/// The member `replicationInfo`. Cheap to clone; edits return a new value and keep unknown members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationInfo {
    status: OverallStatus,
    backends: Arc<[Backend]>,
    shared: Arc<Shared>,
}

impl Default for ReplicationInfo {
    fn default() -> Self {
        Self::new(OverallStatus::None, Vec::new(), Vec::new(), "", "", "", "")
    }
}

impl ReplicationInfo {
    /// A fresh value as a source writes it (replication reference 3.5). `destination` is the ARN of the target bucket,
    /// `storage_class` the comma-separated sites, `role` one or two role ARNs, `storage_type` the cloud types among the sites.
    pub fn new(
        status: OverallStatus,
        backends: Vec<Backend>,
        content: Vec<ContentFlag>,
        destination: &str,
        storage_class: &str,
        role: &str,
        storage_type: &str,
    ) -> Self {
        let settings = Settings {
            content: content.into(),
            destination: destination.into(),
            storage_class: storage_class.into(),
            role: role.into(),
            storage_type: storage_type.into(),
            data_store_version_id: "".into(),
            is_nfs: None,
            form: None,
        };
        Self { status, backends: backends.into(), shared: Shared::new(settings) }
    }

    fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn names(&self) -> &Names {
        self.shared.names.get_or_init(|| Names::of(&self.shared.settings))
    }

    /// The status over all sites.
    pub fn status(&self) -> &OverallStatus {
        &self.status
    }

    /// One entry per site.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The entry of `site`.
    #[inline]
    pub fn backend(&self, site: &Site) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.site == *site)
    }

    /// The status of `site`, if it is one of the destinations.
    #[inline]
    pub fn site_status(&self, site: &Site) -> Option<&SiteStatus> {
        self.backend(site).map(|backend| &backend.status)
    }

    /// What has to be carried over.
    pub fn content(&self) -> &[ContentFlag] {
        &self.settings().content
    }

    /// Whether `flag` is among [`Self::content`].
    pub fn has(&self, flag: &ContentFlag) -> bool {
        self.settings().content.contains(flag)
    }

    /// The ARN of the destination bucket.
    pub fn destination(&self) -> &str {
        &self.settings().destination
    }

    /// The bucket at the destination: what follows the last colon of the ARN.
    pub fn destination_bucket(&self) -> &Bucket {
        &self.names().bucket
    }

    /// The storage classes as the rule gave them, comma-separated and with any `:preferred_read`.
    pub fn storage_class(&self) -> &str {
        &self.settings().storage_class
    }

    /// The comma-separated cloud types among the sites; empty if all sites are of the Scality type.
    pub fn storage_type(&self) -> &str {
        &self.settings().storage_type
    }

    /// The sites that the storage class names, without the preferred-read mark. This, not the list of backends, is what routing
    /// goes by (replication reference 5.2).
    pub fn sites(&self) -> &[Site] {
        &self.names().sites
    }

    /// Whether [`Self::sites`] has `site`.
    pub fn names_site(&self, site: &Site) -> bool {
        self.sites().contains(site)
    }

    /// The role ARNs: the source's, and for Scality sites the target's.
    pub fn roles(&self) -> &[String] {
        &self.names().roles
    }

    /// The roles as written.
    pub fn role(&self) -> &str {
        &self.settings().role
    }

    /// Whether the source bucket is fed by NFS, hence not versioned.
    pub fn is_nfs(&self) -> bool {
        self.settings().is_nfs == Some(true)
    }

    /// With another overall status.
    pub fn with_status(&self, status: OverallStatus) -> Self {
        Self { status, backends: Arc::clone(&self.backends), shared: Arc::clone(&self.shared) }
    }

    /// With another list of sites.
    pub fn with_backends(&self, backends: Vec<Backend>) -> Self {
        self.with_list(backends.into())
    }

    /// With another status for `site`. A site that is not a destination is silently not added.
    pub fn with_site_status(&self, site: &Site, status: SiteStatus) -> Self {
        self.with_backend(site, |backend| backend.status = status)
    }

    /// With the version id that `site` gave to its copy. A site that is not a destination is silently not added.
    pub fn with_site_version_id(&self, site: &Site, version_id: &str) -> Self {
        match self.backend(site) {
            Some(backend) if &*backend.data_store_version_id == version_id => self.clone(),
            _ => self.with_backend(site, |backend| backend.data_store_version_id = version_id.into()),
        }
    }

    fn with_backend(&self, site: &Site, edit: impl FnOnce(&mut Backend)) -> Self {
        let Some(index) = self.backends.iter().position(|backend| backend.site == *site) else {
            return self.clone();
        };
        let mut backends: Arc<[Backend]> = Arc::from(&*self.backends);
        edit(&mut Arc::get_mut(&mut backends).expect("a copy just made is not shared")[index]);
        self.with_list(backends)
    }

    /// What is exchanged is not copied first: copies are counted.
    fn with_list(&self, backends: Arc<[Backend]>) -> Self {
        Self { status: self.status.clone(), backends, shared: Arc::clone(&self.shared) }
    }

    /// With the overall status recomputed from the sites.
    pub fn with_computed_status(&self) -> Self {
        self.with_status(overall_of(&self.backends))
    }

    /// With other content flags.
    pub fn with_content(&self, content: Vec<ContentFlag>) -> Self {
        self.with_settings(|settings| settings.content = content.into())
    }

    /// With another storage class.
    pub fn with_storage_class(&self, storage_class: &str) -> Self {
        self.with_settings(|settings| settings.storage_class = storage_class.into())
    }

    /// With the mark of an NFS bucket.
    pub fn with_nfs(&self, is_nfs: Option<bool>) -> Self {
        self.with_settings(|settings| settings.is_nfs = is_nfs)
    }

    fn with_settings(&self, edit: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings().clone();
        edit(&mut settings);
        let (status, backends) = (self.status.clone(), Arc::clone(&self.backends));
        Self { status, backends, shared: Shared::new(settings) }
    }

    /// The form that asks for one more attempt at one site: only that site, PENDING, as the only storage class
    /// (replication reference 4.3).
    pub fn retry(&self, site: &Site) -> Self {
        let backends = self.backends.iter().filter(|backend| backend.site == *site).cloned();
        let backends = backends.map(|backend| Backend { status: SiteStatus::Pending, ..backend }).collect();
        self.with_backends(backends).with_storage_class(site.as_str()).with_status(OverallStatus::Pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ReplicationInfo {
        ReplicationInfo::parse(text).expect("test text is valid")
    }

    #[test]
    fn a_status_of_another_kind_makes_no_other_revision() {
        for info in [r#"{"status":[]}"#, r#"{"status":null}"#, r#"{"storageClass":[]}"#] {
            let md = format!(r#"{{"versionId":"v1","replicationInfo":{info}}}"#);
            let md = crate::model::ObjectMd::parse(&md).expect("a document");
            let filled = crate::model::ObjectMd::parse(&md.to_model_json()).expect("a document");
            assert_eq!(filled.revision(), md.revision(), "{info}");
        }
    }

    #[test]
    fn unknown_members_and_odd_types_survive_an_edit() {
        let text = r#"{"x":1.0,"status":"PENDING","backends":[{"site":"a","status":"PENDING","y":[]},{"status":null}],"content":3}"#;
        let info = parse(text);
        assert_eq!(info.to_json().as_str(), text);
        let done = info.with_site_status(&"a".into(), SiteStatus::Completed).with_computed_status();
        let expected = text.replacen("\"PENDING\"", "\"COMPLETED\"", 2);
        assert_eq!(done.to_json().as_str(), expected);
    }

    #[test]
    fn a_site_that_is_no_destination_is_not_added() {
        let info = parse(r#"{"status":"PENDING","backends":[]}"#);
        assert_eq!(info.with_site_status(&"a".into(), SiteStatus::Failed), info);
    }

    #[test]
    fn retry_keeps_one_site_and_its_version_id() {
        let info = ReplicationInfo::new(
            OverallStatus::Failed,
            vec![
                Backend::new("a".into(), SiteStatus::Completed),
                Backend { data_store_version_id: "v".into(), ..Backend::new("b".into(), SiteStatus::Failed) },
            ],
            vec![ContentFlag::Data],
            "arn:aws:s3:::d.x",
            "a,b:preferred_read",
            "r1,r2",
            "",
        );
        let retry = info.retry(&"b".into());
        assert_eq!(retry.backends().len(), 1);
        assert_eq!(retry.site_status(&"b".into()), Some(&SiteStatus::Pending));
        assert_eq!(&*retry.backends()[0].data_store_version_id, "v");
        assert_eq!((retry.storage_class(), retry.status()), ("b", &OverallStatus::Pending));
        assert_eq!(info.sites().iter().map(Site::to_string).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(info.destination_bucket().as_str(), "d.x");
        assert_eq!(info.roles(), ["r1", "r2"]);
    }
}
