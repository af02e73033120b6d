//! Multipart uploads: kept in an internal bucket of their own until they become an object (observed page).

mod completion;
mod listing;
mod parts;

pub(in crate::site) use completion::complete;
pub(in crate::site) use listing::{list_parts, list_uploads};
pub(in crate::site) use parts::{Place, algorithm, parts, store_part, upload_part};

use crate::site::access::signer;
use crate::site::attributes::{Acl, Lock, Of, tags};
use crate::site::bucket::{self, uploads_of};
use crate::site::changes::{Changes, Records};
use crate::site::checksums::{Algorithm, Kind};
use crate::site::config::Account;
use crate::site::error::{Outcome, Refusal};
use crate::site::headers::{ContentHeaders, header};
use crate::site::json::{Writer, quoted};
use crate::site::metadata::Site;
use crate::site::object::{check_key, tags_json};
use crate::site::random::random_hex;
use crate::timestamp::system_ms;
use backbeat_core::model::ObjectMd;
use parts::{discard, part_key};
use s3s::dto::{ChecksumAlgorithm, ChecksumType, CreateMultipartUploadInput, CreateMultipartUploadOutput};
use s3s::{S3Request, S3Response};
use std::sync::Arc;

/// Between the parts of a key in the internal bucket.
pub(in crate::site) const SEPARATOR: &str = "..|..";
/// What the keys of uploads start with; parts start with the upload id.
pub(in crate::site) const OVERVIEW: &str = "overview";
pub(in crate::site) const PART_NUMBER_MAX: i32 = 10_000;

fn overview_key(key: &str, upload_id: &str) -> String {
    format!("{OVERVIEW}{SEPARATOR}{key}{SEPARATOR}{upload_id}")
}

/// An upload in progress: the same accessors as an object's metadata.
pub(in crate::site) fn overview(
    records: &impl Records,
    bucket: &str,
    key: &str,
    upload_id: &str,
) -> Outcome<Option<ObjectMd>> {
    let json = records.value(&uploads_of(bucket), &overview_key(key, upload_id))?;
    Ok(json.map(|json| ObjectMd::parse(&json)).transpose()?)
}

pub(in crate::site) async fn create(
    site: &Arc<Site>,
    request: S3Request<CreateMultipartUploadInput>,
) -> Outcome<S3Response<CreateMultipartUploadOutput>> {
    let account = signer(site, &request)?;
    let headers = &request.headers;
    let content = ContentHeaders::of(headers)?;
    let tags = tags::asked(headers)?;
    let acl = Acl::asked(site, headers, Of::Object)?.unwrap_or_else(|| Acl::private(Of::Object)).to_json()?;
    let lock = Lock::asked(headers, system_ms())?;
    let checksum_type = header(headers, "x-amz-checksum-type");
    let checksum = match header(headers, "x-amz-checksum-algorithm").map(Algorithm::parse).transpose()? {
        Some(algorithm) => Some((algorithm, algorithm.kind(checksum_type)?)),
        None if checksum_type.is_some() => {
            return Err(Refusal::invalid_request(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            ));
        }
        None => None,
    };
    let (name, key) = (request.input.bucket, request.input.key);
    check_key(&key)?;
    let upload_id = random_hex::<16>()?;
    let output = CreateMultipartUploadOutput {
        bucket: Some(name.clone()),
        checksum_algorithm: checksum.map(|(algorithm, _)| ChecksumAlgorithm::from_static(algorithm.as_str())),
        checksum_type: checksum.map(|(_, kind)| ChecksumType::from_static(kind.as_str())),
        key: Some(key.clone()),
        upload_id: Some(upload_id.clone()),
        ..CreateMultipartUploadOutput::default()
    };
    let store_name = site.config().data_store_name.clone();
    site.write(move |changes| {
        let bucket = bucket::open(changes, &name, &account)?;
        let lock = bucket.lock(lock, changes.now_ms)?;
        bucket::ensure_uploads(changes, &bucket)?;
        let mut json = Writer("{".into());
        json.text("id", &upload_id);
        json.text("eventualStorageBucket", &name);
        json.text("initiated", &changes.now());
        json.text("owner-display-name", &account.display_name);
        json.text("owner-id", &account.canonical_id);
        let initiator = format!(
            "{{\"DisplayName\":{},\"ID\":{}}}",
            quoted(&account.display_name),
            quoted(&account.canonical_id)
        );
        json.member("initiator", &initiator);
        json.text("key", &key);
        json.text("uploadId", &upload_id);
        json.optional("cache-control", content.cache_control.as_deref());
        json.optional("content-disposition", content.content_disposition.as_deref());
        json.optional("content-encoding", content.content_encoding.as_deref());
        json.optional("content-language", content.content_language.as_deref());
        json.optional("content-type", content.content_type.as_deref());
        json.optional("expires", content.expires.as_deref());
        json.optional("x-amz-website-redirect-location", content.website_redirect.as_deref());
        json.text("x-amz-storage-class", "STANDARD");
        json.text("controllingLocationConstraint", &store_name);
        json.text("dataStoreName", &store_name);
        for (name, value) in &content.user {
            json.text(name, value);
        }
        if !tags.is_empty() {
            json.member("tags", &tags_json(&tags));
        }
        json.lock(lock);
        json.optional("checksumAlgorithm", checksum.map(|(algorithm, _)| algorithm.as_str()));
        json.optional("checksumType", checksum.map(|(_, kind)| kind.as_str()));
        json.member("acl", &acl);
        changes.put(&uploads_of(&name), &overview_key(&key, &upload_id), json.0 + "}")
    })
    .await?;
    Ok(S3Response::new(output))
}

/// The checksum that an upload was begun with.
pub(in crate::site) fn checksum_of(started: &ObjectMd) -> Outcome<Option<(Algorithm, Kind)>> {
    let Some(algorithm) = started.text("checksumAlgorithm") else { return Ok(None) };
    let algorithm = Algorithm::parse(&algorithm)?;
    Ok(Some((algorithm, algorithm.kind(started.text("checksumType").as_deref())?)))
}

/// Forgets everything about an upload.
fn forget(changes: &mut Changes<'_, '_>, name: &str, key: &str, upload_id: &str) -> Outcome<()> {
    let uploads = uploads_of(name);
    for (number, part) in parts(changes, name, upload_id)? {
        discard(changes, &part);
        changes.delete(&uploads, &part_key(upload_id, number))?;
    }
    changes.delete(&uploads, &overview_key(key, upload_id))
}

/// Aborts every upload in progress of a bucket.
pub(in crate::site) fn abort_all(changes: &mut Changes<'_, '_>, name: &str) -> Outcome<()> {
    let prefix = format!("{OVERVIEW}{SEPARATOR}");
    for (_, json) in changes.values(&uploads_of(name), &prefix, &prefix, usize::MAX)? {
        let started = ObjectMd::parse(&json)?;
        let (Some(key), Some(upload_id)) = (started.text("key"), started.text("uploadId")) else { continue };
        forget(changes, name, &key, &upload_id)?;
    }
    Ok(())
}

pub(in crate::site) async fn abort(
    site: &Arc<Site>,
    account: Account,
    name: String,
    key: String,
    upload_id: String,
) -> Outcome<()> {
    site.write(move |changes| {
        bucket::open(changes, &name, &account)?;
        overview(changes, &name, &key, &upload_id)?.ok_or(Refusal::no_such_upload())?;
        forget(changes, &name, &key, &upload_id)
    })
    .await
}
