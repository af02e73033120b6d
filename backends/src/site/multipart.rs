//! Multipart uploads: kept in an internal bucket of their own until they become an object (observed page).

use super::access::{signer, trailers};
use super::acl::{Acl, Of};
use super::bucket::{self, BucketInfo, uploads_of};
use super::changes::{Changes, Records};
use super::checksums::{self, Algorithm, Kind, Stored, put_checksum, put_part_checksum};
use super::conditions::WriteCondition;
use super::config::Account;
use super::data::{Incoming, random_hex};
use super::error::{Outcome, Refusal};
use super::headers::{ContentHeaders, header};
use super::lock::Lock;
use super::metadata::Site;
use super::object::{NewObject, Writer, check_key, etag, quoted, shown_version, tags_json};
use super::receive::{self, Expected};
use super::revision;
use super::tags;
use super::timestamp::system_ms;
use super::versioning::{self, Wanted};
use backbeat_core::model::{Location, ObjectMd};
use md5::{Digest, Md5};
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3Request, S3Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Between the parts of a key in the internal bucket.
pub(super) const SEPARATOR: &str = "..|..";
/// What the keys of uploads start with; parts start with the upload id.
pub(super) const OVERVIEW: &str = "overview";
pub(super) const PART_NUMBER_MAX: i32 = 10_000;
/// Every part but the last has at least so many bytes.
const PART_BYTES_MIN: u64 = 5 << 20;

fn overview_key(key: &str, upload_id: &str) -> String {
    format!("{OVERVIEW}{SEPARATOR}{key}{SEPARATOR}{upload_id}")
}

fn part_key(upload_id: &str, number: i32) -> String {
    format!("{upload_id}{SEPARATOR}{number:05}")
}

/// One uploaded part as upstream writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PartRecord {
    #[serde(rename = "md-model-version")]
    model_version: u32,
    #[serde(rename = "partLocations")]
    locations: Vec<PartLocation>,
    key: String,
    #[serde(rename = "last-modified")]
    pub(super) last_modified: String,
    #[serde(rename = "content-md5")]
    pub(super) md5: String,
    #[serde(rename = "content-length")]
    pub(super) size: u64,
    #[serde(rename = "owner-id")]
    owner_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<Stored>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PartLocation {
    key: String,
    #[serde(rename = "dataStoreName")]
    data_store_name: String,
}

/// An upload in progress: the same accessors as an object's metadata.
pub(super) fn overview(
    records: &impl Records,
    bucket: &str,
    key: &str,
    upload_id: &str,
) -> Outcome<Option<ObjectMd>> {
    let json = records.value(&uploads_of(bucket), &overview_key(key, upload_id))?;
    Ok(json.map(|json| ObjectMd::parse(&json)).transpose()?)
}

pub(super) fn parts(
    records: &impl Records,
    bucket: &str,
    upload_id: &str,
) -> Outcome<BTreeMap<i32, PartRecord>> {
    let prefix = format!("{upload_id}{SEPARATOR}");
    let rows = records.values(&uploads_of(bucket), &prefix, &prefix, usize::MAX)?;
    rows.into_iter()
        .map(|(key, json)| {
            let number = key[prefix.len()..].parse().map_err(|_| Refusal::internal())?;
            Ok((number, serde_json::from_str(&json).map_err(|_| Refusal::internal())?))
        })
        .collect()
}

pub(super) async fn create(
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
        let lock = lock.within(&bucket, changes.now_ms)?;
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
pub(super) fn checksum_of(started: &ObjectMd) -> Outcome<Option<(Algorithm, Kind)>> {
    let Some(algorithm) = started.text("checksumAlgorithm") else { return Ok(None) };
    let algorithm = Algorithm::parse(&algorithm)?;
    Ok(Some((algorithm, algorithm.kind(started.text("checksumType").as_deref())?)))
}

/// Where a part goes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    bucket: String,
    key: String,
    upload_id: String,
    number: i32,
}

impl Place {
    pub(super) fn new(bucket: String, key: String, upload_id: String, number: i32) -> Outcome<Self> {
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return Err(Refusal::invalid_argument()
                .with_message("Part number must be an integer between 1 and 10000, inclusive"));
        }
        Ok(Self { bucket, key, upload_id, number })
    }
}

/// The kind of checksum that parts of an upload in progress have.
pub(super) fn algorithm(site: &Site, account: &Account, place: &Place) -> Outcome<Option<Algorithm>> {
    site.read(|txn| {
        bucket::open(txn, &place.bucket, account)?;
        let started = overview(txn, &place.bucket, &place.key, &place.upload_id)?;
        Ok(checksum_of(&started.ok_or(Refusal::no_such_upload())?)?.map(|(algorithm, _)| algorithm))
    })
}

pub(super) async fn upload_part(
    site: &Arc<Site>,
    request: S3Request<UploadPartInput>,
) -> Outcome<S3Response<UploadPartOutput>> {
    let account = signer(site, &request)?;
    let mut expected = Expected::of(&request.headers, trailers(&request))?;
    let input = request.input;
    let place = Place::new(input.bucket, input.key, input.upload_id, input.part_number)?;
    if let Some(algorithm) = algorithm(site, &account, &place)? {
        if let Some(given) = expected.algorithm().filter(|given| *given != algorithm) {
            return Err(Refusal::invalid_request(format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                algorithm.as_str().to_ascii_lowercase(),
                given.as_str().to_ascii_lowercase()
            )));
        }
        expected = expected.computing(algorithm);
    }
    let (incoming, checksum) = receive::receive(site.data(), input.body, &expected).await?;
    let part = store_part(site, account, place, incoming, checksum.clone()).await?;
    let mut output = UploadPartOutput { e_tag: Some(etag(&part.md5)), ..UploadPartOutput::default() };
    if let Some(checksum) = checksum {
        put_part_checksum!(output, checksum.shown_of_part());
    }
    Ok(S3Response::new(output))
}

/// A part that was stored.
pub(super) struct StoredPart {
    pub(super) md5: String,
    pub(super) last_modified: String,
}

/// Makes received bytes a part, in place of an earlier one with its number.
pub(super) async fn store_part(
    site: &Arc<Site>,
    account: Account,
    place: Place,
    incoming: Incoming,
    checksum: Option<Stored>,
) -> Outcome<StoredPart> {
    let (size, md5) = (incoming.size(), incoming.md5());
    let stored = incoming.finish().await?;
    let store_name = site.config().data_store_name.clone();
    site.write(move |changes| {
        let Place { bucket: name, key, upload_id, number } = place;
        overview(changes, &name, &key, &upload_id)?.ok_or(Refusal::no_such_upload())?;
        let uploads = uploads_of(&name);
        let part = part_key(&upload_id, number);
        if let Some(old) = changes.value(&uploads, &part)? {
            let old: PartRecord = serde_json::from_str(&old).map_err(|_| Refusal::internal())?;
            discard(changes, &old);
        }
        let data_key = stored.key().to_owned();
        changes.add_data(stored);
        changes.attach(&data_key, &name, &key)?;
        let record = PartRecord {
            model_version: 3,
            locations: vec![PartLocation { key: data_key, data_store_name: store_name }],
            key: part.clone(),
            last_modified: changes.now(),
            md5,
            size,
            owner_id: account.canonical_id,
            checksum,
        };
        changes.put(&uploads, &part, serde_json::to_string(&record).map_err(|_| Refusal::internal())?)?;
        Ok(StoredPart { md5: record.md5, last_modified: record.last_modified })
    })
    .await
}

fn discard(changes: &mut Changes<'_, '_>, part: &PartRecord) {
    for location in &part.locations {
        changes.discard(&location.key);
    }
}

/// The parts that a client lists, checked against those that were uploaded.
fn chosen(listed: &[CompletedPart], uploaded: &mut BTreeMap<i32, PartRecord>) -> Outcome<Vec<PartRecord>> {
    if listed.is_empty() {
        return Err(Refusal::malformed_xml());
    }
    let numbers: Option<Vec<i32>> = listed.iter().map(|part| part.part_number).collect();
    let numbers = numbers.ok_or(Refusal::malformed_xml())?;
    if listed.iter().any(|part| part.e_tag.is_none()) {
        return Err(Refusal::malformed_xml());
    }
    if !numbers.is_sorted_by(|earlier, later| earlier < later) {
        return Err(Refusal::invalid_part_order());
    }
    let mut chosen: Vec<PartRecord> = Vec::with_capacity(listed.len());
    for (at, (part, number)) in listed.iter().zip(numbers).enumerate() {
        let record = uploaded.remove(&number).ok_or(Refusal::invalid_part())?;
        if part.e_tag.as_ref().map(ETag::value) != Some(record.md5.as_str()) {
            return Err(Refusal::invalid_part());
        }
        let given = given_for(part);
        if given.is_some()
            && given != record.checksum.as_ref().map(|stored| (stored.algorithm, stored.value.as_str()))
        {
            return Err(Refusal::invalid_part());
        }
        if at + 1 < listed.len() && record.size < PART_BYTES_MIN {
            return Err(Refusal::entity_too_small());
        }
        chosen.push(record);
    }
    Ok(chosen)
}

/// The checksum that a client lists for a part.
fn given_for(part: &CompletedPart) -> Option<(Algorithm, &str)> {
    [
        (Algorithm::Crc32, &part.checksum_crc32),
        (Algorithm::Crc32c, &part.checksum_crc32c),
        (Algorithm::Crc64Nvme, &part.checksum_crc64nvme),
        (Algorithm::Sha1, &part.checksum_sha1),
        (Algorithm::Sha256, &part.checksum_sha256),
    ]
    .into_iter()
    .find_map(|(algorithm, value)| Some((algorithm, value.as_deref()?)))
}

/// The checksum of the whole object, held against the one that the client gave for it.
fn checksum_of_parts(
    started: &ObjectMd,
    chosen: &[PartRecord],
    given: Option<&(Algorithm, String)>,
) -> Outcome<Option<Stored>> {
    let parts: Vec<_> = chosen.iter().map(|part| (part.checksum.as_ref(), part.size)).collect();
    let Some((algorithm, kind)) = checksum_of(started)? else { return Ok(None) };
    let computed = checksums::of_parts(algorithm, kind, &parts)?;
    if let (Some(computed), Some((algorithm, given))) = (&computed, given)
        && (computed.algorithm != *algorithm || computed.value != *given)
    {
        return Err(algorithm.mismatch());
    }
    Ok(computed)
}

/// The MD5 of the MD5s of the parts, and their number.
fn aggregate_md5(parts: &[PartRecord]) -> Outcome<String> {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(hex::decode(&part.md5).map_err(|_| Refusal::internal())?);
    }
    Ok(format!("{}-{}", hex::encode(md5.finalize()), parts.len()))
}

pub(super) async fn complete(
    site: &Arc<Site>,
    request: S3Request<CompleteMultipartUploadInput>,
) -> Outcome<S3Response<CompleteMultipartUploadOutput>> {
    let account = signer(site, &request)?;
    let condition = WriteCondition::of(&request.headers)?;
    let given = checksums::in_headers(&request.headers)?;
    let size = header(&request.headers, "x-amz-mp-object-size").map(str::parse::<u64>).transpose();
    let size = size.map_err(|_| Refusal::invalid_argument())?;
    let input = request.input;
    let (name, key, upload_id) = (input.bucket, input.key, input.upload_id);
    let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!(
            "http://{}/{name}/{key}",
            header(&request.headers, "host").unwrap_or_default()
        )),
        bucket: Some(name.clone()),
        key: Some(key.clone()),
        ..CompleteMultipartUploadOutput::default()
    };
    let store_name = site.config().data_store_name.clone();
    let micro_version_id = random_hex::<8>()?;
    let (md5, checksum, version_id) = site
        .write(move |changes| {
            let bucket = bucket::open(changes, &name, &account)?;
            let Some(started) = overview(changes, &name, &key, &upload_id)? else {
                return completed_before(changes, &bucket, &key, &upload_id);
            };
            condition.check(versioning::current(changes, &name, &key)?.as_ref())?;
            let uploads = uploads_of(&name);
            let all = parts(changes, &name, &upload_id)?;
            let mut left = all.clone();
            let chosen = chosen(&listed, &mut left)?;
            let md5 = aggregate_md5(&chosen)?;
            if size.is_some_and(|size| size != chosen.iter().map(|part| part.size).sum::<u64>()) {
                return Err(Refusal::invalid_request(
                    "The provided 'x-amz-mp-object-size' header value does not match what was computed.",
                ));
            }
            let checksum = checksum_of_parts(&started, &chosen, given.as_ref())?;
            let overview_key = overview_key(&key, &upload_id);
            let progress = versioning::with_flag(&started, "completeInProgress")?;
            changes.put(&uploads, &overview_key, progress.to_json())?;
            let mut start = 0;
            let mut locations = Vec::with_capacity(chosen.len());
            // Parts are numbered anew from 1, as upstream does it.
            for (part, number) in chosen.iter().zip(1..) {
                for location in &part.locations {
                    locations.push(Location::new(
                        &location.key,
                        start,
                        part.size,
                        &store_name,
                        number,
                        &part.md5,
                    ));
                }
                start += part.size;
            }
            let object = NewObject {
                owner_id: account.canonical_id.clone(),
                owner_name: account.display_name.clone(),
                key: key.clone(),
                headers: ContentHeaders::stored(&started),
                size: start,
                md5: md5.clone(),
                locations: if start == 0 { Vec::new() } else { locations },
                tags: started.tags().into_iter().collect(),
                acl: Acl::of(&started),
                lock: Lock::of(&started),
                checksum: checksum.clone(),
                upload_id: Some(upload_id.clone()),
                is_delete_marker: false,
                origin_op: "s3:ObjectCreated:CompleteMultipartUpload",
                data_store_name: store_name,
                micro_version_id,
            };
            let md = revision::store(changes, &bucket, &object, &account)?;
            for number in all.keys() {
                changes.delete(&uploads, &part_key(&upload_id, *number))?;
            }
            for part in left.values() {
                discard(changes, part);
            }
            changes.delete(&uploads, &overview_key)?;
            Ok((md5, checksum, shown_version(bucket.is_versioned(), &md)))
        })
        .await?;
    output.e_tag = Some(etag(&md5));
    if let Some(checksum) = checksum {
        put_checksum!(output, checksum.shown());
    }
    output.version_id = version_id;
    Ok(S3Response::new(output))
}

/// A completion that is repeated because its answer was lost gets the same answer.
fn completed_before(
    records: &impl Records,
    bucket: &BucketInfo,
    key: &str,
    upload_id: &str,
) -> Outcome<(String, Option<Stored>, Option<String>)> {
    let md = versioning::lookup(records, &bucket.name, key, &Wanted::Current)?;
    match md {
        Some(md) if md.text("uploadId").as_deref() == Some(upload_id) => {
            Ok((md.content_md5().to_owned(), Stored::of(&md), shown_version(bucket.is_versioned(), &md)))
        }
        Some(_) | None => Err(Refusal::no_such_upload()),
    }
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
pub(super) fn abort_all(changes: &mut Changes<'_, '_>, name: &str) -> Outcome<()> {
    let prefix = format!("{OVERVIEW}{SEPARATOR}");
    for (_, json) in changes.values(&uploads_of(name), &prefix, &prefix, usize::MAX)? {
        let started = ObjectMd::parse(&json)?;
        let (Some(key), Some(upload_id)) = (started.text("key"), started.text("uploadId")) else { continue };
        forget(changes, name, &key, &upload_id)?;
    }
    Ok(())
}

pub(super) async fn abort(
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
