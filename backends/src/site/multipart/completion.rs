//! Parts become an object: which ones, in which order, under which digest.

use super::parts::{PartRecord, discard, part_key, parts};
use super::{checksum_of, overview, overview_key};
use crate::site::access::signer;
use crate::site::attributes::{Acl, BucketInfo, Lock};
use crate::site::bucket::{self, uploads_of};
use crate::site::changes::Records;
use crate::site::checksums::{self, Algorithm, Stored, put_checksum};
use crate::site::conditions::WriteCondition;
use crate::site::error::{Outcome, Refusal};
use crate::site::headers::{ContentHeaders, header};
use crate::site::metadata::Site;
use crate::site::object::{NewObject, etag, shown_version};
use crate::site::random::random_hex;
use crate::site::revision;
use crate::site::versioning::{self, Wanted};
use backbeat_core::model::{Location, ObjectMd};
use md5::{Digest, Md5};
use s3s::dto::{CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, ETag};
use s3s::{S3Request, S3Response};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every part but the last has at least so many bytes.
const PART_BYTES_MIN: u64 = 5 << 20;

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

pub(in crate::site) async fn complete(
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
