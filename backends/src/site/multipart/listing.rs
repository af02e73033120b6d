//! Listings of multipart uploads in progress, and of their parts.

use super::{OVERVIEW, SEPARATOR, checksum_of, overview, parts};
use crate::site::access::signer;
use crate::site::bucket::{self, uploads_of};
use crate::site::changes::Records;
use crate::site::checksums::put_part_checksum;
use crate::site::error::{Outcome, Refusal};
use crate::site::lists::Spelling;
use crate::site::metadata::Site;
use crate::site::object::etag;
use crate::timestamp::timestamp;
use backbeat_core::model::ObjectMd;
use s3s::dto::{
    Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput,
    MultipartUpload, Owner, Part,
};
use s3s::{S3Request, S3Response};

/// Uploads or parts of one answer at most.
const LISTED_MAX: usize = 1000;

fn limit(asked: Option<i32>) -> Outcome<usize> {
    let asked = asked.map(usize::try_from).transpose().map_err(|_| Refusal::invalid_argument())?;
    Ok(asked.unwrap_or(LISTED_MAX).min(LISTED_MAX))
}

fn owner(md: &ObjectMd) -> Owner {
    Owner { id: Some(md.owner_id().to_owned()), display_name: md.text("owner-display-name") }
}

fn initiator(md: &ObjectMd) -> Initiator {
    Initiator { id: Some(md.owner_id().to_owned()), display_name: md.text("owner-display-name") }
}

pub(in crate::site) fn list_parts(
    site: &Site,
    request: &S3Request<ListPartsInput>,
) -> Outcome<S3Response<ListPartsOutput>> {
    let account = signer(site, request)?;
    let input = &request.input;
    let (started, all) = site.read(|txn| {
        bucket::open(txn, &input.bucket, &account)?;
        let started =
            overview(txn, &input.bucket, &input.key, &input.upload_id)?.ok_or(Refusal::no_such_upload())?;
        Ok((started, parts(txn, &input.bucket, &input.upload_id)?))
    })?;
    let marker = input.part_number_marker.unwrap_or(0);
    let max = limit(input.max_parts)?;
    let mut listed: Vec<Part> = all
        .into_iter()
        .filter(|(number, _)| *number > marker)
        .take(max + 1)
        .map(|(number, part)| {
            let mut shown = Part {
                e_tag: Some(etag(&part.md5)),
                last_modified: timestamp(&part.last_modified),
                part_number: Some(number),
                size: i64::try_from(part.size).ok(),
                ..Part::default()
            };
            if let Some(checksum) = part.checksum {
                put_part_checksum!(shown, checksum.shown_of_part());
            }
            shown
        })
        .collect();
    let is_truncated = listed.len() > max;
    listed.truncate(max);
    let checksum = checksum_of(&started)?;
    Ok(S3Response::new(ListPartsOutput {
        checksum_algorithm: checksum.map(|(algorithm, _)| algorithm.shown()),
        checksum_type: checksum.map(|(_, kind)| kind.shown()),
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        upload_id: Some(input.upload_id.clone()),
        initiator: Some(initiator(&started)),
        owner: Some(owner(&started)),
        is_truncated: Some(is_truncated),
        max_parts: i32::try_from(max).ok(),
        next_part_number_marker: listed.last().and_then(|part| part.part_number),
        part_number_marker: Some(marker),
        parts: Some(listed),
        storage_class: Some("STANDARD".to_owned().into()),
        ..ListPartsOutput::default()
    }))
}

pub(in crate::site) fn list_uploads(
    site: &Site,
    request: &S3Request<ListMultipartUploadsInput>,
) -> Outcome<S3Response<ListMultipartUploadsOutput>> {
    let account = signer(site, request)?;
    let input = &request.input;
    let max = limit(input.max_uploads)?;
    let after_key = input.key_marker.clone().unwrap_or_default();
    let after_id = input.upload_id_marker.clone().unwrap_or_default();
    let spelling = Spelling::parse(input.encoding_type.as_ref())?;
    let asked_prefix = input.prefix.as_deref().unwrap_or("");
    let prefix = format!("{OVERVIEW}{SEPARATOR}{asked_prefix}");
    let rows = site.read(|txn| {
        bucket::open(txn, &input.bucket, &account)?;
        Ok(txn.values(&uploads_of(&input.bucket), &prefix, &prefix, usize::MAX)?)
    })?;
    let mut uploads = Vec::new();
    for (_, json) in rows {
        let md = ObjectMd::parse(&json)?;
        let (Some(key), Some(id)) = (md.text("key"), md.text("uploadId")) else { continue };
        uploads.push(((key, id), md));
    }
    uploads.sort_by(|a, b| a.0.cmp(&b.0));
    let is_after = |(key, id): &(String, String)| {
        if after_id.is_empty() { *key > after_key } else { (key, id) > (&after_key, &after_id) }
    };
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let mut listed = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    let mut last = None;
    let mut is_truncated = false;
    for ((key, id), md) in uploads {
        let hidden = delimiter.and_then(|delimiter| {
            let at = key[asked_prefix.len()..].find(delimiter)?;
            Some(key[..asked_prefix.len() + at + delimiter.len()].to_owned())
        });
        // A common prefix that an earlier page showed hides its keys on this one, too.
        let is_shown = match &hidden {
            Some(prefix) => {
                prefixes.last() == Some(prefix) || (!after_key.is_empty() && *prefix <= after_key)
            }
            None => !after_key.is_empty() && !is_after(&(key.clone(), id.clone())),
        };
        if is_shown {
            continue;
        }
        if listed.len() + prefixes.len() == max {
            is_truncated = max > 0;
            break;
        }
        last = Some((hidden.clone().unwrap_or_else(|| key.clone()), id.clone()));
        if let Some(prefix) = hidden {
            prefixes.push(prefix);
            continue;
        }
        let checksum = checksum_of(&md)?;
        listed.push(MultipartUpload {
            checksum_algorithm: checksum.map(|(algorithm, _)| algorithm.shown()),
            checksum_type: checksum.map(|(_, kind)| kind.shown()),
            initiated: md.text("initiated").as_deref().and_then(timestamp),
            initiator: Some(initiator(&md)),
            owner: Some(owner(&md)),
            key: Some(spelling.spell(&key)),
            upload_id: Some(id),
            storage_class: Some("STANDARD".to_owned().into()),
        });
    }
    let last = last.filter(|_| is_truncated);
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket.clone()),
        common_prefixes: Some(spelling.prefixes(&prefixes)),
        delimiter: spelling.optional(input.delimiter.as_ref()),
        encoding_type: spelling.shown(),
        is_truncated: Some(is_truncated),
        key_marker: Some(spelling.spell(&after_key)),
        upload_id_marker: Some(after_id),
        max_uploads: i32::try_from(max).ok(),
        next_key_marker: last.as_ref().map(|(key, _)| spelling.spell(key)),
        next_upload_id_marker: last.map(|(_, id)| id),
        prefix: spelling.optional(input.prefix.as_ref()),
        uploads: Some(listed),
        ..ListMultipartUploadsOutput::default()
    }))
}
