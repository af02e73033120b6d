//! What a version's metadata says about its replication: which sites, how far each is, and what has to be carried over.

use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::xxh3_64;

use smol_str::SmolStr;

use crate::id::{Bucket, Site};

use super::digest;
use super::json_text::{Cursor, JsonError, RawJson, Scalar, write_string};
use super::members::{self, Form, Slot};
use super::object_md::MetadataError;
use super::status::{ContentFlag, OverallStatus, SiteStatus, overall_of};

/// The suffix that marks one storage class as the site to read from.
pub const PREFERRED_READ: &str = ":preferred_read";

/// One destination of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The site.
    pub site: Site,
    /// How far it is.
    pub status: SiteStatus,
    /// The version id that a cloud site gave to its copy; empty for sites that keep ids.
    pub data_store_version_id: SmolStr,
    /// How the document spelled this entry, if it is not the usual three members.
    form: Option<Form>,
}

const BACKEND_MEMBERS: [&str; 3] = ["site", "status", "dataStoreVersionId"];

impl Backend {
    /// The destination `site` with the given status and no version id.
    pub fn new(site: Site, status: SiteStatus) -> Self {
        Self { site, status, data_store_version_id: SmolStr::default(), form: None }
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Result<Self, MetadataError>, JsonError> {
        let (mut site, mut status, mut version) = (None, None, None);
        let known = |name: &str| BACKEND_MEMBERS.into_iter().find(|known| *known == name);
        let slots = members::read(cursor, 3, known, |name, cursor| {
            let content = match cursor.scalar()? {
                Scalar::Text(content) => Some(content),
                Scalar::Other(_) => None,
            };
            let fits = content.is_some();
            match name {
                "site" => site = content,
                "status" => status = content,
                _ => version = content,
            }
            Ok(fits)
        })?;
        let Some(slots) = slots else {
            cursor.skip()?;
            return Ok(Err(MetadataError::member("replicationInfo.backends", "an array of objects")));
        };
        let usual = slots.iter().map(Slot::name).eq(BACKEND_MEMBERS)
            && slots.iter().all(|slot| matches!(slot, Slot::Typed(_)));
        Ok(Ok(Self {
            site: site.unwrap_or_default().as_ref().into(),
            status: SiteStatus::from(status.unwrap_or_default().as_ref()),
            data_store_version_id: version.unwrap_or_default().as_ref().into(),
            form: (!usual).then(|| slots.into()),
        }))
    }

    fn write(&self, out: &mut String) {
        let typed = |out: &mut String, name: &str| match name {
            "site" => write_string(out, self.site.as_str()),
            "status" => write_string(out, self.status.as_str()),
            _ => write_string(out, &self.data_store_version_id),
        };
        let Some(form) = &self.form else {
            return members::write(out, &[], &BACKEND_MEMBERS, typed);
        };
        // A member that the document did not have is added only once it says something.
        let says = |name: &&'static str| match *name {
            "site" => !self.site.as_str().is_empty(),
            "status" => !self.status.as_str().is_empty(),
            _ => !self.data_store_version_id.is_empty(),
        };
        let extra: Vec<&'static str> = BACKEND_MEMBERS.into_iter().filter(says).collect();
        members::write(out, form, &extra, typed);
    }
}

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

const INFO_MEMBERS: [&str; 9] = [
    "status",
    "backends",
    "content",
    "destination",
    "storageClass",
    "role",
    "storageType",
    "dataStoreVersionId",
    "isNFS",
];

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

    pub(super) fn parse(text: &str) -> Result<Self, MetadataError> {
        let mut cursor = Cursor::new(text);
        let info = Self::read(&mut cursor)?;
        cursor.end()?;
        info
    }

    /// Passes over the value at `cursor` and returns what it says.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Result<Self, MetadataError>, JsonError> {
        let mut status = OverallStatus::None;
        let mut backends = Ok(Vec::new());
        let mut settings = Settings::default();
        let known = |name: &str| INFO_MEMBERS.into_iter().find(|known| *known == name);
        let slots = members::read(cursor, INFO_MEMBERS.len(), known, |name, cursor| {
            match name {
                "backends" => {
                    let mut list = Ok(Vec::new());
                    let is_array = cursor.elements(|cursor| {
                        let backend = Backend::read(cursor)?;
                        members::collect(&mut list, backend);
                        Ok(())
                    })?;
                    if is_array {
                        backends = list;
                    } else {
                        cursor.skip()?;
                    }
                    return Ok(is_array);
                }
                "content" => {
                    let mut flags = Some(Vec::new());
                    let is_array = cursor.elements(|cursor| {
                        flags = match (flags.take(), cursor.scalar()?) {
                            (Some(mut flags), Scalar::Text(flag)) => {
                                flags.push(ContentFlag::from(&*flag));
                                Some(flags)
                            }
                            (_, _) => None,
                        };
                        Ok(())
                    })?;
                    if !is_array {
                        cursor.skip()?;
                        return Ok(false);
                    }
                    let fits = flags.is_some();
                    settings.content = flags.unwrap_or_default().into();
                    return Ok(fits);
                }
                "isNFS" => {
                    let value = cursor.value()?;
                    settings.is_nfs = match value {
                        "true" => Some(true),
                        "false" => Some(false),
                        _ => None,
                    };
                    return Ok(matches!(value, "true" | "false" | "null"));
                }
                _ => {}
            }
            let content = match cursor.scalar()? {
                Scalar::Text(content) => Some(content),
                Scalar::Other(_) => None,
            };
            if name == "status" {
                status = OverallStatus::from(content.as_deref().unwrap_or(""));
                return Ok(content.is_some());
            }
            let Some(content) = content else { return Ok(false) };
            let field = match name {
                "destination" => &mut settings.destination,
                "storageClass" => &mut settings.storage_class,
                "role" => &mut settings.role,
                "storageType" => &mut settings.storage_type,
                _ => &mut settings.data_store_version_id,
            };
            // No text at all is shared by everybody.
            *field = if content.is_empty() { Arc::default() } else { content.as_ref().into() };
            Ok(true)
        })?;
        let Some(slots) = slots else {
            cursor.skip()?;
            return Ok(Err(MetadataError::member("replicationInfo", "an object")));
        };
        let usual = slots.iter().map(Slot::name).eq(INFO_MEMBERS)
            && slots.iter().all(|slot| matches!(slot, Slot::Typed(_)));
        settings.form = (!usual).then(|| slots.into());
        let info = |backends: Vec<Backend>| Self {
            status,
            backends: backends.into(),
            shared: Shared::new(settings),
        };
        Ok(backends.map(info))
    }

    fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn names(&self) -> &Names {
        self.shared.names.get_or_init(|| Names::of(&self.shared.settings))
    }

    pub(super) fn write(&self, out: &mut String) {
        let extra: Vec<&'static str> = match &self.settings().form {
            None => INFO_MEMBERS.to_vec(),
            Some(_) => INFO_MEMBERS.into_iter().filter(|name| self.says(name)).collect(),
        };
        let form = self.settings().form.as_deref().unwrap_or(&[]);
        members::write(out, form, &extra, |out, name| self.write_member(out, name));
    }

    /// The digest of what belongs to a revision: everything but the statuses and the list of sites.
    pub(super) fn settings_digest(&self) -> u128 {
        (*self.shared.digest.get_or_init(|| self.compute_settings_digest().into())).into()
    }

    fn compute_settings_digest(&self) -> u128 {
        let settings = self.settings();
        let mut content = String::with_capacity(32);
        for flag in settings.content.iter() {
            content.push_str(flag.as_str());
            content.push('\0');
        }
        let texts: [(&str, &str); 5] = [
            ("content", &content),
            ("destination", &settings.destination),
            ("role", &settings.role),
            ("storageType", &settings.storage_type),
            ("dataStoreVersionId", &settings.data_store_version_id),
        ];
        let texts = texts.into_iter().map(|(name, text)| digest::text(name, text));
        let nfs = digest::number("isNFS", settings.is_nfs.map_or(0, |is| 1 + u64::from(is)));
        let raw = settings.form.iter().flat_map(|form| form.iter()).filter_map(|slot| match slot {
            // What does not belong to a revision does not in another form either.
            Slot::Raw(name, _) if matches!(name.as_str(), "status" | "storageClass") => None,
            Slot::Raw(name, value) => Some(digest::member(name.as_str(), value.as_str())),
            Slot::Typed(_) => None,
        });
        let sum = texts.chain(raw).fold(nfs, u128::wrapping_add);
        // Keeps a member in here apart from one of the same name outside.
        sum.rotate_left(64)
    }

    /// The digest of what belongs to the status part of a state tag: the rest.
    pub(super) fn status_digest(&self) -> u64 {
        let mut text = String::with_capacity(128);
        let mut add = |part: &str| {
            text.push_str(part);
            text.push('\0');
        };
        add(self.status.as_str());
        add(self.storage_class());
        for backend in self.backends() {
            add(backend.site.as_str());
            add(backend.status.as_str());
            add(&backend.data_store_version_id);
            for slot in backend.form.iter().flat_map(|form| form.iter()) {
                if let Slot::Raw(name, value) = slot {
                    add(name.as_str());
                    add(value.as_str());
                }
            }
        }
        xxh3_64(text.as_bytes())
    }

    fn says(&self, name: &str) -> bool {
        let settings = self.settings();
        match name {
            "status" => self.status != OverallStatus::None,
            "backends" => !self.backends.is_empty(),
            "content" => !settings.content.is_empty(),
            "destination" => !settings.destination.is_empty(),
            "storageClass" => !settings.storage_class.is_empty(),
            "role" => !settings.role.is_empty(),
            "storageType" => !settings.storage_type.is_empty(),
            "isNFS" => settings.is_nfs.is_some(),
            _ => !settings.data_store_version_id.is_empty(),
        }
    }

    fn write_member(&self, out: &mut String, name: &str) {
        let settings = self.settings();
        match name {
            "status" => write_string(out, self.status.as_str()),
            "backends" => write_list(out, &self.backends, |out, backend| backend.write(out)),
            "content" => write_list(out, &settings.content, |out, flag| write_string(out, flag.as_str())),
            "destination" => write_string(out, &settings.destination),
            "storageClass" => write_string(out, &settings.storage_class),
            "role" => write_string(out, &settings.role),
            "storageType" => write_string(out, &settings.storage_type),
            "isNFS" => out.push_str(match settings.is_nfs {
                Some(true) => "true",
                Some(false) => "false",
                None => "null",
            }),
            _ => write_string(out, &settings.data_store_version_id),
        }
    }

    /// The JSON text of this value.
    pub fn to_json(&self) -> RawJson {
        let mut out = String::with_capacity(512);
        self.write(&mut out);
        RawJson::scanned(&out)
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

fn write_list<T>(out: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
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
