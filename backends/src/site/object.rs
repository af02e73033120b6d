//! The metadata document of an object as CloudServer writes it: which members, and in which order.

use super::attributes::{Acl, Lock, Of};
use super::checksums::{self, Stored};
use super::config::Account;
use super::error::{Outcome, Refusal};
use super::headers::ContentHeaders;
use super::json::{Writer, quoted};
use super::random::random_hex;
use crate::timestamp::iso;
use backbeat_core::model::{Location, ObjectMd, ReplicationInfo};
use s3s::dto::ETag;

/// MD5 of nothing.
const EMPTY_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";
/// The origin of copies.
pub(super) const COPIED: &str = "s3:ObjectCreated:Copy";
const KEY_BYTES_MAX: usize = 1024;

/// Everything that decides a new version's document but its version id.
#[derive(Clone, Debug)]
pub(super) struct NewObject {
    pub(super) owner_id: String,
    pub(super) owner_name: String,
    pub(super) key: String,
    pub(super) headers: ContentHeaders,
    pub(super) size: u64,
    pub(super) md5: String,
    pub(super) locations: Vec<Location>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) acl: Acl,
    pub(super) lock: Lock,
    pub(super) checksum: Option<Stored>,
    pub(super) upload_id: Option<String>,
    pub(super) is_delete_marker: bool,
    pub(super) origin_op: &'static str,
    pub(super) data_store_name: String,
    pub(super) micro_version_id: String,
}

/// What versioning adds to a new version's document.
#[derive(Clone, Debug, Default)]
pub(super) struct Placement {
    pub(super) creation_time: Option<String>,
    pub(super) is_null: bool,
    pub(super) null_version_id: Option<String>,
    pub(super) last_modified: String,
    pub(super) replication: ReplicationInfo,
}

impl Writer {
    /// The members of object lock, where there are some.
    pub(super) fn lock(&mut self, lock: Lock) {
        if let Some(is_held) = lock.legal_hold {
            self.member("legalHold", if is_held { "true" } else { "false" });
        }
        if let Some(retention) = lock.retention {
            self.text("retentionMode", retention.mode.as_str());
            self.text("retentionDate", &iso(retention.until_ms));
        }
    }
}

/// The JSON object of some tags.
pub(super) fn tags_json(tags: &[(String, String)]) -> String {
    let mut json = Writer("{".into());
    for (name, value) in tags {
        json.text(name, value);
    }
    json.0 + "}"
}

impl NewObject {
    /// A delete marker that belongs to `account`.
    pub(super) fn marker(
        account: &Account,
        key: String,
        origin_op: &'static str,
        data_store_name: &str,
    ) -> Outcome<Self> {
        Ok(Self {
            owner_id: account.canonical_id.clone(),
            owner_name: account.display_name.clone(),
            key,
            headers: ContentHeaders::default(),
            size: 0,
            md5: EMPTY_MD5.into(),
            locations: Vec::new(),
            tags: Vec::new(),
            acl: Acl::private(Of::Object),
            lock: Lock::default(),
            checksum: None,
            upload_id: None,
            is_delete_marker: true,
            origin_op,
            data_store_name: data_store_name.into(),
            micro_version_id: random_hex::<8>()?,
        })
    }

    /// Whether it is made of data that the site had before: a copy, or an upload in parts. Upstream treats both alike.
    pub(super) fn is_made_of_stored(&self) -> bool {
        self.upload_id.is_some() || self.origin_op == COPIED
    }

    /// The document, without `versionId`, which the request processor appends.
    pub(super) fn document(&self, placement: &Placement) -> Outcome<ObjectMd> {
        let headers = &self.headers;
        let mut json = Writer("{".into());
        json.text("owner-display-name", &self.owner_name);
        json.text("owner-id", &self.owner_id);
        json.optional("cache-control", headers.cache_control.as_deref());
        json.optional("content-disposition", headers.content_disposition.as_deref());
        json.optional("content-encoding", headers.content_encoding.as_deref());
        json.optional("expires", headers.expires.as_deref());
        json.member("content-length", &self.size.to_string());
        json.optional("content-type", headers.content_type.as_deref());
        json.text("content-md5", &self.md5);
        json.text("content-language", headers.content_language.as_deref().unwrap_or(""));
        json.optional("creation-time", placement.creation_time.as_deref());
        json.text("x-amz-version-id", "null");
        json.text("x-amz-server-version-id", "");
        json.text("x-amz-storage-class", "STANDARD");
        json.text("x-amz-server-side-encryption", "");
        json.text("x-amz-server-side-encryption-aws-kms-key-id", "");
        json.text("x-amz-server-side-encryption-customer-algorithm", "");
        json.text("x-amz-website-redirect-location", headers.website_redirect.as_deref().unwrap_or(""));
        json.member("x-amz-scal-transition-in-progress", "false");
        json.member("acl", &self.acl.to_json()?);
        json.text("key", &self.key);
        if self.locations.is_empty() {
            json.member("location", "null");
        } else {
            let is_copy = self.origin_op == COPIED;
            let list: Vec<String> =
                self.locations.iter().map(|location| location_json(location, is_copy)).collect();
            json.member("location", &format!("[{}]", list.join(",")));
        }
        if placement.is_null {
            json.member("isNull", "true");
        }
        json.optional("nullVersionId", placement.null_version_id.as_deref());
        // Upstream leaves the member out of copies.
        if self.origin_op != COPIED {
            json.member("isDeleteMarker", if self.is_delete_marker { "true" } else { "false" });
        }
        json.optional("uploadId", self.upload_id.as_deref());
        json.lock(self.lock);
        json.member("tags", &tags_json(&self.tags));
        json.member("replicationInfo", placement.replication.to_json().as_str());
        json.text("dataStoreName", &self.data_store_name);
        json.text("originOp", self.origin_op);
        json.text("microVersionId", &self.micro_version_id);
        json.member("deleted", "false");
        json.member("isPHD", "false");
        json.text("last-modified", &placement.last_modified);
        json.member("md-model-version", "6");
        if let Some(checksum) = &self.checksum {
            json.member(checksums::MEMBER, &checksum.to_json());
        }
        for (name, value) in &headers.user {
            json.text(name, value);
        }
        Ok(ObjectMd::parse(&(json.0 + "}"))?)
    }
}

/// A location with its members in the order of a put, or of a copy (observed page).
fn location_json(location: &Location, is_copy: bool) -> String {
    let (size, start) = (format!("\"size\":{}", location.size), format!("\"start\":{}", location.start));
    let store = format!("\"dataStoreName\":{}", quoted(&location.data_store_name));
    let middle = if is_copy { [store, start, size] } else { [size, start, store] };
    format!(
        "{{\"key\":{},{},\"dataStoreETag\":{}}}",
        quoted(&location.key),
        middle.join(","),
        quoted(location.etag.as_deref().unwrap_or("")),
    )
}

pub(super) fn etag(md5: &str) -> ETag {
    ETag::Strong(md5.to_owned())
}

/// The version id that clients see: none in a bucket that never had versions.
pub(super) fn shown_version(is_versioned: bool, md: &ObjectMd) -> Option<String> {
    is_versioned.then(|| match md.version_id() {
        Some(id) if !md.is_null() => id.encode(),
        Some(_) | None => "null".to_owned(),
    })
}

/// Keys that upstream takes: no control characters.
pub(super) fn check_key(key: &str) -> Outcome<()> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Refusal::key_too_long());
    }
    if key.is_empty() || key.chars().any(|character| character < ' ') {
        return Err(Refusal::invalid_argument());
    }
    Ok(())
}
