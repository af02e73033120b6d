//! Reading objects on the S3 surface: get, head, attributes.

use super::access::signer;
use super::attributes::Lock;
use super::bucket;
use super::checksums::{Stored, put_checksum};
use super::conditions::{Failed, ReadCondition};
use super::error::{Outcome, Refusal};
use super::headers::{ContentHeaders, header, insert};
use super::metadata::Site;
use super::multipart::PART_NUMBER_MAX;
use super::object::{etag, shown_version};
use super::pieces::Pieces;
use super::versioning::{self, Wanted};
use crate::timestamp::timestamp;
use backbeat_core::model::ObjectMd;
use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::dto::{
    GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts, GetObjectInput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, ObjectLockMode, ObjectPart, Range, ReplicationStatus,
    Timestamp, TimestampFormat,
};
use s3s::{S3Error, S3Request, S3Response};
use std::sync::Arc;

/// Parts of one answer at most.
const PARTS_MAX: usize = 1000;

/// Marks the answer to a `HEAD` about a part of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial;

/// What an object is that was stored without a type, as S3 says it.
const CONTENT_TYPE: &str = "binary/octet-stream";

/// A version that a read asked for, and what belongs to its answer.
struct Found {
    md: ObjectMd,
    is_versioned: bool,
}

fn find<T>(
    site: &Site,
    request: &S3Request<T>,
    name: &str,
    key: &str,
    wanted: &Wanted,
) -> Result<Found, S3Error> {
    let account = signer(site, request)?;
    let (bucket, md) = site.read(|txn| {
        let bucket = bucket::open(txn, name, &account)?;
        let md = versioning::lookup(txn, name, key, wanted)?;
        Ok((bucket, md))
    })?;
    let Some(md) = md else { return Err(wanted.missing().into()) };
    let found = Found { md, is_versioned: bucket.is_versioned() };
    if found.md.is_delete_marker() {
        let refusal =
            if *wanted == Wanted::Current { Refusal::no_such_key() } else { Refusal::method_not_allowed() };
        let mut error = S3Error::from(refusal);
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
        insert(&mut headers, "x-amz-version-id", found.version_id().as_deref());
        error.set_headers(headers);
        return Err(error);
    }
    Ok(found)
}

/// The part of an object that a read answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    start: u64,
    length: u64,
    is_partial: bool,
    parts: Option<i32>,
}

impl Found {
    fn version_id(&self) -> Option<String> {
        shown_version(self.is_versioned, &self.md)
    }

    /// Refuses a read whose conditions do not hold, with what a cache needs to know.
    fn check(&self, headers: &HeaderMap) -> Result<(), S3Error> {
        let refusal = match ReadCondition::of(headers).check(&self.md) {
            Ok(()) => return Ok(()),
            Err(Failed::NotModified) => Refusal::not_modified(),
            Err(Failed::Precondition) => Refusal::precondition_failed(),
        };
        let mut error = S3Error::from(refusal);
        let mut headers = HeaderMap::new();
        insert(&mut headers, "etag", Some(&format!("\"{}\"", self.md.content_md5())));
        insert(&mut headers, "last-modified", self.last_modified().as_deref());
        insert(&mut headers, "x-amz-version-id", self.version_id().as_deref());
        error.set_headers(headers);
        Err(error)
    }

    fn last_modified(&self) -> Option<String> {
        http_date(&timestamp(self.md.last_modified())?)
    }

    fn slice(&self, range: Option<&Range>, part: Option<i32>, is_head: bool) -> Outcome<Slice> {
        let size = self.md.content_length();
        let whole = Slice { start: 0, length: size, is_partial: false, parts: None };
        match (range, part) {
            (Some(_), Some(_)) => Err(Refusal::invalid_request(
                "Cannot specify both Range header and partNumber query parameter",
            )),
            (None, None) => Ok(whole),
            (Some(range), None) => {
                let (start, end) = match *range {
                    Range::Int { first, last } => (first, last.map_or(size, |last| size.min(last + 1))),
                    Range::Suffix { length } => (size.saturating_sub(length), size),
                };
                if start >= end {
                    return Err(Refusal::invalid_range());
                }
                Ok(Slice { start, length: end - start, is_partial: true, parts: None })
            }
            (None, Some(number)) => {
                if !(1..=10_000).contains(&number) {
                    return Err(Refusal::invalid_argument()
                        .with_message("Part number must be an integer between 1 and 10000, inclusive"));
                }
                let pieces = self.md.reduced_locations();
                let parts = self.md.is_multipart().then(|| i32::try_from(pieces.len()).unwrap_or(i32::MAX));
                let piece = pieces.iter().enumerate().find(|(at, piece)| {
                    usize::try_from(number).ok()
                        == Some(piece.part_number().map_or(*at + 1, |part| part as usize))
                });
                match piece {
                    Some((_, piece)) => {
                        Ok(Slice { start: piece.start, length: piece.size, is_partial: true, parts })
                    }
                    None if number == 1 && pieces.is_empty() => Ok(Slice { is_partial: true, ..whole }),
                    None if is_head => Err(Refusal::invalid_range()),
                    None => Err(Refusal::invalid_part_number()),
                }
            }
        }
    }

    fn content_range(&self, slice: Slice) -> Option<String> {
        (slice.is_partial && slice.length > 0).then(|| {
            format!("bytes {}-{}/{}", slice.start, slice.start + slice.length - 1, self.md.content_length())
        })
    }

    /// The headers that the protocol library has no field for, or would rewrite (wire reference 6).
    fn headers(&self, content: &ContentHeaders) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &content.user {
            insert(&mut headers, name, Some(value));
        }
        insert(&mut headers, "expires", content.expires.as_deref());
        let replication = self.md.replication();
        if !replication.storage_type().is_empty() {
            for backend in replication.backends() {
                let name = format!("x-amz-meta-{}-replication-status", backend.site);
                insert(&mut headers, &name, Some(backend.status.as_str()));
                if backend.status.as_str() == "COMPLETED" && !backend.data_store_version_id.is_empty() {
                    let name = format!("x-amz-meta-{}-version-id", backend.site);
                    insert(&mut headers, &name, Some(&backend.data_store_version_id));
                }
            }
        }
        headers
    }

    fn replication_status(&self) -> Option<ReplicationStatus> {
        let status = self.md.replication().status().as_str();
        (!status.is_empty()).then(|| ReplicationStatus::from(status.to_owned()))
    }

    fn head(&self, slice: Slice, wants_checksum: bool) -> (HeadObjectOutput, HeaderMap) {
        let content = ContentHeaders::stored(&self.md);
        let headers = self.headers(&content);
        let storage_class = self.md.text("x-amz-storage-class").filter(|class| class != "STANDARD");
        let mut output = HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            cache_control: content.cache_control,
            content_disposition: content.content_disposition,
            content_encoding: content.content_encoding,
            content_language: content.content_language,
            content_length: i64::try_from(slice.length).ok(),
            content_range: self.content_range(slice),
            content_type: content.content_type.or_else(|| Some(CONTENT_TYPE.to_owned())),
            e_tag: Some(etag(self.md.content_md5())),
            last_modified: timestamp(self.md.last_modified()),
            parts_count: slice.parts,
            replication_status: self.replication_status(),
            storage_class: storage_class.map(Into::into),
            version_id: self.version_id(),
            website_redirect_location: content.website_redirect,
            ..HeadObjectOutput::default()
        };
        let (mode, until, hold) = Lock::of(&self.md).shown();
        output.object_lock_mode = mode.map(ObjectLockMode::from_static);
        output.object_lock_retain_until_date = until;
        output.object_lock_legal_hold_status = hold;
        // The stored checksum is of the whole object.
        if wants_checksum
            && !slice.is_partial
            && let Some(stored) = Stored::of(&self.md)
        {
            put_checksum!(output, stored.shown());
        }
        (output, headers)
    }
}

fn http_date(time: &Timestamp) -> Option<String> {
    let mut text = Vec::new();
    time.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// True if a request asks for checksums in the answer.
fn wants_checksum(headers: &HeaderMap) -> bool {
    header(headers, "x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case("enabled"))
}

/// The number of a part that a read asks for.
fn part_number(asked: Option<i32>) -> Outcome<Option<i32>> {
    if asked.is_some_and(|number| !(1..=PART_NUMBER_MAX).contains(&number)) {
        return Err(Refusal::invalid_argument()
            .with_message("Part number must be an integer between 1 and 10000, inclusive"));
    }
    Ok(asked)
}

pub(super) fn head(
    site: &Arc<Site>,
    request: &S3Request<HeadObjectInput>,
) -> Result<S3Response<HeadObjectOutput>, S3Error> {
    let input = &request.input;
    let wanted = Wanted::parse(input.version_id.as_deref())?;
    let part = part_number(input.part_number)?;
    let found = find(site, request, &input.bucket, &input.key, &wanted)?;
    found.check(&request.headers)?;
    let slice = found.slice(input.range.as_ref(), part, true)?;
    let (output, headers) = found.head(slice, wants_checksum(&request.headers));
    let output = HeadObjectOutput {
        cache_control: input.response_cache_control.clone().or(output.cache_control),
        content_disposition: input.response_content_disposition.clone().or(output.content_disposition),
        content_encoding: input.response_content_encoding.clone().or(output.content_encoding),
        content_language: input.response_content_language.clone().or(output.content_language),
        content_type: input.response_content_type.clone().or(output.content_type),
        ..output
    };
    let mut response = S3Response::with_headers(output, headers);
    if slice.is_partial {
        // The protocol library takes no status for this operation.
        response.extensions.insert(Partial);
    }
    if let Some(expires) = input.response_expires.as_ref().and_then(http_date) {
        insert(&mut response.headers, "expires", Some(&expires));
    }
    Ok(response)
}

pub(super) async fn get(
    site: &Arc<Site>,
    request: &S3Request<GetObjectInput>,
) -> Result<S3Response<GetObjectOutput>, S3Error> {
    let input = &request.input;
    let wanted = Wanted::parse(input.version_id.as_deref())?;
    let part = part_number(input.part_number)?;
    let found = find(site, request, &input.bucket, &input.key, &wanted)?;
    found.check(&request.headers)?;
    let slice = found.slice(input.range.as_ref(), part, false)?;
    let (head, headers) = found.head(slice, wants_checksum(&request.headers));
    let tags = i32::try_from(found.md.tags().len()).ok().filter(|count| *count > 0);
    let mut pieces = Pieces::of(found.md.locations(), slice.start, slice.length);
    // The first file is opened before the answer starts, so that missing data is an error and no broken body.
    pieces.open(site).await.map_err(Refusal::from)?;
    let mut output = GetObjectOutput {
        accept_ranges: head.accept_ranges,
        body: Some(pieces.stream(site)),
        cache_control: input.response_cache_control.clone().or(head.cache_control),
        content_disposition: input.response_content_disposition.clone().or(head.content_disposition),
        content_encoding: input.response_content_encoding.clone().or(head.content_encoding),
        content_language: input.response_content_language.clone().or(head.content_language),
        content_length: head.content_length,
        content_range: head.content_range,
        content_type: input.response_content_type.clone().or(head.content_type),
        e_tag: head.e_tag,
        last_modified: head.last_modified,
        object_lock_legal_hold_status: head.object_lock_legal_hold_status,
        object_lock_mode: head.object_lock_mode,
        object_lock_retain_until_date: head.object_lock_retain_until_date,
        parts_count: head.parts_count,
        replication_status: head.replication_status,
        storage_class: head.storage_class,
        tag_count: tags,
        version_id: head.version_id,
        website_redirect_location: head.website_redirect_location,
        ..GetObjectOutput::default()
    };
    output.checksum_type = head.checksum_type;
    output.checksum_crc32 = head.checksum_crc32;
    output.checksum_crc32c = head.checksum_crc32c;
    output.checksum_crc64nvme = head.checksum_crc64nvme;
    output.checksum_sha1 = head.checksum_sha1;
    output.checksum_sha256 = head.checksum_sha256;
    let mut response = S3Response::with_headers(output, headers);
    response.status = slice.is_partial.then_some(StatusCode::PARTIAL_CONTENT);
    if let Some(expires) = input.response_expires.as_ref().and_then(http_date) {
        insert(&mut response.headers, "expires", Some(&expires));
    }
    Ok(response)
}

/// What `GetObjectAttributes` may be asked for.
const ATTRIBUTES: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

pub(super) fn attributes(
    site: &Site,
    request: &S3Request<GetObjectAttributesInput>,
) -> Result<S3Response<GetObjectAttributesOutput>, S3Error> {
    let input = &request.input;
    let wanted = Wanted::parse(input.version_id.as_deref())?;
    let account = signer(site, request)?;
    site.read(|txn| bucket::open(txn, &input.bucket, &account))?;
    // The header may come several times, and with several names in it.
    let asked: Vec<String> = request
        .headers
        .get_all("x-amz-object-attributes")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    if asked.is_empty() || asked.iter().any(|name| !ATTRIBUTES.contains(&name.as_str())) {
        return Err(Refusal::invalid_argument().with_message("Invalid attribute name specified.").into());
    }
    let asks = |name: &str| asked.iter().any(|asked| asked == name);
    let found = find(site, request, &input.bucket, &input.key, &wanted)?;
    let md = &found.md;
    let parts = if asks("ObjectParts") && md.is_multipart() {
        Some(found.parts(input.part_number_marker, input.max_parts)?)
    } else {
        None
    };
    let output = GetObjectAttributesOutput {
        checksum: asks("Checksum").then(|| Stored::of(md).map(|stored| stored.shown())).flatten(),
        e_tag: asks("ETag").then(|| etag(md.content_md5())),
        last_modified: timestamp(md.last_modified()),
        object_parts: parts,
        object_size: asks("ObjectSize").then(|| i64::try_from(md.content_length()).ok()).flatten(),
        storage_class: asks("StorageClass").then(|| "STANDARD".to_owned().into()),
        version_id: found.version_id(),
        ..GetObjectAttributesOutput::default()
    };
    Ok(S3Response::new(output))
}

impl Found {
    /// The parts after `marker`, with their sizes.
    fn parts(&self, marker: Option<i32>, max: Option<i32>) -> Outcome<GetObjectAttributesParts> {
        let number = |asked: Option<i32>| asked.map(usize::try_from).transpose();
        let marker = number(marker).map_err(|_| Refusal::invalid_argument())?.unwrap_or(0);
        let max = number(max).map_err(|_| Refusal::invalid_argument())?.unwrap_or(PARTS_MAX).min(PARTS_MAX);
        let layout = self.md.part_layout();
        let left: Vec<_> = layout.iter().filter(|part| part.number as usize > marker).collect();
        let shown: Vec<ObjectPart> = left
            .iter()
            .take(max)
            .map(|part| ObjectPart {
                part_number: i32::try_from(part.number).ok(),
                size: i64::try_from(part.size).ok(),
                ..ObjectPart::default()
            })
            .collect();
        let is_truncated = left.len() > shown.len();
        Ok(GetObjectAttributesParts {
            is_truncated: Some(is_truncated),
            max_parts: i32::try_from(max).ok(),
            next_part_number_marker: shown.last().and_then(|part| part.part_number),
            part_number_marker: i32::try_from(marker).ok(),
            parts: Some(shown),
            total_parts_count: i32::try_from(layout.len()).ok(),
        })
    }
}
