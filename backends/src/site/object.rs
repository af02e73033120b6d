//! The metadata document of an object as CloudServer writes it: which members, and in which order.

use super::error::{Outcome, Refusal};
use backbeat_core::model::{Location, ObjectMd, ReplicationInfo};
use http::HeaderMap;
use std::fmt::Write as _;

/// MD5 of nothing.
pub(super) const EMPTY_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";
const USER_METADATA: &str = "x-amz-meta-";
/// User metadata of one object, names and values together, as S3 limits them.
const USER_METADATA_BYTES_MAX: usize = 2048;

/// The headers of an object that a client sets and reads back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContentHeaders {
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) expires: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) website_redirect: Option<String>,
    /// Full names, lower-case.
    pub(super) user: Vec<(String, String)>,
}

impl ContentHeaders {
    /// What a request says. The framing of a chunked upload is not part of the encoding of the object.
    pub(super) fn of(headers: &HeaderMap) -> Outcome<Self> {
        let text = |name: &str| {
            let value = headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let content_encoding = text("content-encoding").map(|value| {
            let kept: Vec<&str> =
                value.split(',').map(str::trim).filter(|part| *part != "aws-chunked").collect();
            kept.join(",")
        });
        let user: Vec<(String, String)> = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(USER_METADATA))
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let bytes: usize =
            user.iter().map(|(name, value)| name.len() - USER_METADATA.len() + value.len()).sum();
        if bytes > USER_METADATA_BYTES_MAX {
            return Err(Refusal { code: "MetadataTooLarge", ..Refusal::invalid_argument() }
                .with_message("Your metadata headers exceed the maximum allowed metadata size."));
        }
        Ok(Self {
            cache_control: text("cache-control"),
            content_disposition: text("content-disposition"),
            content_encoding: content_encoding.filter(|value| !value.is_empty()),
            expires: text("expires"),
            content_type: text("content-type").filter(|value| !value.is_empty()),
            content_language: text("content-language"),
            website_redirect: text("x-amz-website-redirect-location"),
            user,
        })
    }

    /// What stored metadata says.
    pub(super) fn stored(md: &ObjectMd) -> Self {
        let text = |name: &str| md.text(name).filter(|value| !value.is_empty());
        Self {
            cache_control: text("cache-control"),
            content_disposition: text("content-disposition"),
            content_encoding: text("content-encoding"),
            expires: text("expires"),
            content_type: text("content-type"),
            content_language: text("content-language"),
            website_redirect: text("x-amz-website-redirect-location"),
            user: md.user_metadata().map(|(name, value)| (format!("{USER_METADATA}{name}"), value)).collect(),
        }
    }
}

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

pub(super) struct Writer(pub(super) String);

impl Writer {
    pub(super) fn member(&mut self, name: &str, json: &str) {
        let separator = if self.0.len() == 1 { "" } else { "," };
        write!(self.0, "{separator}{}:{json}", quoted(name)).expect("writing to a string cannot fail");
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.member(name, &quoted(value));
    }

    pub(super) fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
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
        json.member(
            "acl",
            r#"{"Canned":"private","FULL_CONTROL":[],"WRITE_ACP":[],"READ":[],"READ_ACP":[]}"#,
        );
        json.text("key", &self.key);
        if self.locations.is_empty() {
            json.member("location", "null");
        } else {
            let list: Vec<String> = self.locations.iter().map(location_json).collect();
            json.member("location", &format!("[{}]", list.join(",")));
        }
        if placement.is_null {
            json.member("isNull", "true");
        }
        json.optional("nullVersionId", placement.null_version_id.as_deref());
        json.member("isDeleteMarker", if self.is_delete_marker { "true" } else { "false" });
        json.optional("uploadId", self.upload_id.as_deref());
        json.member("tags", &tags_json(&self.tags));
        json.member("replicationInfo", placement.replication.to_json().as_str());
        json.text("dataStoreName", &self.data_store_name);
        json.text("originOp", self.origin_op);
        json.text("microVersionId", &self.micro_version_id);
        json.member("deleted", "false");
        json.member("isPHD", "false");
        json.text("last-modified", &placement.last_modified);
        json.member("md-model-version", "6");
        for (name, value) in &headers.user {
            json.text(name, value);
        }
        Ok(ObjectMd::parse(&(json.0 + "}"))?)
    }
}

/// A location with its members in the order of a put (observed page).
fn location_json(location: &Location) -> String {
    format!(
        r#"{{"key":{},"size":{},"start":{},"dataStoreName":{},"dataStoreETag":{}}}"#,
        quoted(&location.key),
        location.size,
        location.start,
        quoted(&location.data_store_name),
        quoted(location.etag.as_deref().unwrap_or("")),
    )
}
