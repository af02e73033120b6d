//! Objects on the S3 surface: put, get, head, delete, tags.

use super::bucket;
use super::config::Account;
use super::data::random_hex;
use super::error::{Outcome, Refusal};
use super::metadata::Site;
use super::object::{ContentHeaders, EMPTY_MD5, NewObject, tags_json};
use super::receive::{self, Expected};
use super::replication::{self, Asked, Operation};
use super::versioning::{self, Wanted};
use backbeat_core::model::{Location, ObjectMd, RawJson};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use s3s::dto::{
    DeleteObjectOutput, DeleteObjectTaggingOutput, ETag, GetObjectInput, GetObjectOutput,
    GetObjectTaggingOutput, HeadObjectOutput, PutObjectInput, PutObjectOutput, PutObjectTaggingOutput, Range,
    ReplicationStatus, StreamingBlob, Tag, Timestamp, TimestampFormat,
};
use s3s::{S3Error, S3Request, S3Response};
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes read from a file at once.
const CHUNK: usize = 64 << 10;
const KEY_BYTES_MAX: usize = 1024;
const TAGS_MAX: usize = 10;

/// Who signed a request.
pub(super) fn signer<T>(site: &Site, request: &S3Request<T>) -> Outcome<Account> {
    let key = request.credentials.as_ref().map(|credentials| credentials.access_key.as_str());
    key.and_then(|key| site.account(key)).cloned().ok_or(Refusal::access_denied())
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

pub(super) fn etag(md5: &str) -> ETag {
    ETag::Strong(md5.to_owned())
}

/// A stored time for the protocol library.
pub(super) fn timestamp(iso: &str) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::DateTime, iso).ok()
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

/// Tags as S3 limits them.
pub(super) fn check_tags(tags: Vec<(String, String)>) -> Outcome<Vec<(String, String)>> {
    let is_fine = |(key, value): &(String, String)| {
        !key.is_empty() && key.chars().count() <= 128 && value.chars().count() <= 256
    };
    let is_double =
        tags.iter().enumerate().any(|(at, tag)| tags[..at].iter().any(|earlier| earlier.0 == tag.0));
    if tags.len() > TAGS_MAX || is_double || !tags.iter().all(is_fine) {
        return Err(Refusal::invalid_tag());
    }
    Ok(tags)
}

/// The tags in `x-amz-tagging`: a query string.
pub(super) fn tags_of(headers: &HeaderMap) -> Outcome<Vec<(String, String)>> {
    let Some(text) = header(headers, "x-amz-tagging") else { return Ok(Vec::new()) };
    let uri = format!("/?{text}").parse().map_err(|_| Refusal::invalid_argument())?;
    check_tags(super::internal::query(&uri).collect())
}

/// Conditions of a write on what is there: `If-None-Match: *` and `If-Match`.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteCondition {
    must_be_missing: bool,
    must_match: Option<String>,
}

impl WriteCondition {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            must_be_missing: header(headers, "if-none-match") == Some("*"),
            must_match: header(headers, "if-match").map(|value| value.trim_matches('"').to_owned()),
        }
    }

    pub(super) fn check(&self, current: Option<&ObjectMd>) -> Outcome<()> {
        let current = current.filter(|md| !md.is_delete_marker());
        if self.must_be_missing && current.is_some() {
            return Err(Refusal::precondition_failed());
        }
        match (&self.must_match, current) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Refusal::no_such_key()),
            (Some(wanted), Some(md)) if wanted == "*" || wanted == md.content_md5() => Ok(()),
            (Some(_), Some(_)) => Err(Refusal::precondition_failed()),
        }
    }
}

pub(super) async fn put(
    site: &Arc<Site>,
    request: S3Request<PutObjectInput>,
) -> Outcome<S3Response<PutObjectOutput>> {
    let account = signer(site, &request)?;
    let (name, key) = (request.input.bucket, request.input.key);
    check_key(&key)?;
    site.read(|txn| bucket::open(txn, &name, &account))?;
    let content = ContentHeaders::of(&request.headers)?;
    let tags = tags_of(&request.headers)?;
    let condition = WriteCondition::of(&request.headers);
    let expected = Expected::of(&request.headers, request.trailing_headers)?;
    let (incoming, checksums) = receive::receive(site.files(), request.input.body, &expected).await?;
    let (size, md5) = (incoming.size(), incoming.md5());
    let data_store_name = site.config().data_store_name.clone();
    let locations = if size == 0 {
        Vec::new()
    } else {
        let stored = incoming.finish().await?;
        vec![Location::new(&stored.key, 0, size, &data_store_name, 1, &md5)]
    };
    let data: Vec<String> = locations.iter().map(|location| location.key.to_string()).collect();
    let object = NewObject {
        owner_id: account.canonical_id.clone(),
        owner_name: account.display_name.clone(),
        key,
        headers: content,
        size,
        md5: md5.clone(),
        locations,
        tags,
        upload_id: None,
        is_delete_marker: false,
        origin_op: "s3:ObjectCreated:Put",
        data_store_name,
        micro_version_id: random_hex::<8>()?,
    };
    let endpoints = site.config().replication_endpoints.clone();
    let written = site
        .write(move |changes| {
            let bucket = bucket::open(changes, &name, &account)?;
            condition.check(versioning::current(changes, &name, &object.key)?.as_ref())?;
            let asked = Asked {
                key: &object.key,
                is_metadata_only: object.size == 0,
                operation: None,
                existing: None,
                account: Some(&account),
            };
            let info = replication::info(bucket.replication_configuration.as_ref(), &endpoints, asked);
            let md = versioning::store(changes, &bucket, &object, info)?;
            Ok(shown_version(bucket.is_versioned(), &md))
        })
        .await;
    let version_id = keep_or_remove(site, written, data).await?;
    Ok(S3Response::new(PutObjectOutput {
        e_tag: Some(etag(&md5)),
        version_id,
        checksum_crc32: checksums.checksum_crc32,
        checksum_crc32c: checksums.checksum_crc32c,
        checksum_crc64nvme: checksums.checksum_crc64nvme,
        checksum_sha1: checksums.checksum_sha1,
        checksum_sha256: checksums.checksum_sha256,
        ..PutObjectOutput::default()
    }))
}

/// After a refused commit the data it was for goes at once; after one with an unknown outcome it stays until the site
/// opens next and knows.
pub(super) async fn keep_or_remove<T>(site: &Site, written: Outcome<T>, data: Vec<String>) -> Outcome<T> {
    if let Err(refusal) = &written
        && refusal.status != StatusCode::SERVICE_UNAVAILABLE
    {
        site.files().remove(data).await;
    }
    written
}

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
    let Some(md) = md else { return Err(missing(wanted).into()) };
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

fn missing(wanted: &Wanted) -> Refusal {
    if *wanted == Wanted::Current { Refusal::no_such_key() } else { Refusal::no_such_version() }
}

fn insert(headers: &mut HeaderMap, name: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    if let (Ok(name), Ok(value)) =
        (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
    {
        headers.insert(name, value);
    }
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

    /// Conditions on the stored version (RFC 9110, section 13.2.2).
    fn check(&self, headers: &HeaderMap) -> Outcome<()> {
        let matches = |list: &str| {
            list.split(',')
                .map(|one| one.trim().trim_start_matches("W/").trim_matches('"'))
                .any(|one| one == "*" || one == self.md.content_md5())
        };
        // Times in headers have no fraction.
        let modified = timestamp(&format!("{}Z", self.md.last_modified().get(..19).unwrap_or("")));
        let since = |name: &str| {
            header(headers, name).and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, text).ok())
        };
        if let Some(list) = header(headers, "if-match") {
            if !matches(list) {
                return Err(Refusal::precondition_failed());
            }
        } else if let (Some(limit), Some(modified)) = (since("if-unmodified-since"), &modified)
            && *modified > limit
        {
            return Err(Refusal::precondition_failed());
        }
        if let Some(list) = header(headers, "if-none-match") {
            if matches(list) {
                return Err(Refusal::not_modified());
            }
        } else if let (Some(limit), Some(modified)) = (since("if-modified-since"), &modified)
            && *modified <= limit
        {
            return Err(Refusal::not_modified());
        }
        Ok(())
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

    fn head(&self, slice: Slice) -> (HeadObjectOutput, HeaderMap) {
        let content = ContentHeaders::stored(&self.md);
        let headers = self.headers(&content);
        let storage_class = self.md.text("x-amz-storage-class").filter(|class| class != "STANDARD");
        let output = HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            cache_control: content.cache_control,
            content_disposition: content.content_disposition,
            content_encoding: content.content_encoding,
            content_language: content.content_language,
            content_length: i64::try_from(slice.length).ok(),
            content_range: self.content_range(slice),
            content_type: content.content_type,
            e_tag: Some(etag(self.md.content_md5())),
            last_modified: timestamp(self.md.last_modified()),
            parts_count: slice.parts,
            replication_status: self.replication_status(),
            storage_class: storage_class.map(Into::into),
            version_id: self.version_id(),
            website_redirect_location: content.website_redirect,
            ..HeadObjectOutput::default()
        };
        (output, headers)
    }
}

pub(super) fn head(
    site: &Arc<Site>,
    request: &S3Request<s3s::dto::HeadObjectInput>,
) -> Result<S3Response<HeadObjectOutput>, S3Error> {
    let input = &request.input;
    let wanted = Wanted::parse(input.version_id.as_deref())?;
    let found = find(site, request, &input.bucket, &input.key, &wanted)?;
    found.check(&request.headers)?;
    let slice = found.slice(input.range.as_ref(), input.part_number, true)?;
    let (output, headers) = found.head(slice);
    let mut response = S3Response::with_headers(output, headers);
    response.status = slice.is_partial.then_some(StatusCode::PARTIAL_CONTENT);
    Ok(response)
}

pub(super) async fn get(
    site: &Arc<Site>,
    request: &S3Request<GetObjectInput>,
) -> Result<S3Response<GetObjectOutput>, S3Error> {
    let input = &request.input;
    let wanted = Wanted::parse(input.version_id.as_deref())?;
    let found = find(site, request, &input.bucket, &input.key, &wanted)?;
    found.check(&request.headers)?;
    let slice = found.slice(input.range.as_ref(), input.part_number, false)?;
    let (head, headers) = found.head(slice);
    let tags = i32::try_from(found.md.tags().len()).ok().filter(|count| *count > 0);
    let mut pieces = Pieces::of(found.md.locations(), slice);
    // The first file is opened before the answer starts, so that missing data is an error and no broken body.
    pieces.open(site).await.map_err(Refusal::from)?;
    let output = GetObjectOutput {
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
        parts_count: head.parts_count,
        replication_status: head.replication_status,
        storage_class: head.storage_class,
        tag_count: tags,
        version_id: head.version_id,
        website_redirect_location: head.website_redirect_location,
        ..GetObjectOutput::default()
    };
    let mut response = S3Response::with_headers(output, headers);
    response.status = slice.is_partial.then_some(StatusCode::PARTIAL_CONTENT);
    Ok(response)
}

/// The pieces of files that make up an answer, read one after the other.
struct Pieces {
    /// Data key, first byte, bytes; the next one last.
    waiting: Vec<(String, u64, u64)>,
    open: Option<(File, u64)>,
}

impl Pieces {
    fn of(locations: &[Location], slice: Slice) -> Self {
        let end = slice.start + slice.length;
        let mut waiting: Vec<_> = locations
            .iter()
            .filter_map(|location| {
                let from = slice.start.max(location.start);
                let to = end.min(location.start.saturating_add(location.size));
                (from < to).then(|| (location.key.to_string(), from - location.start, to - from))
            })
            .collect();
        waiting.reverse();
        Self { waiting, open: None }
    }

    /// Opens the next file if none is open; answers whether there is more to read.
    async fn open(&mut self, site: &Site) -> std::io::Result<bool> {
        if self.open.is_none()
            && let Some((key, from, length)) = self.waiting.pop()
        {
            let mut file = site.files().read(&key).await?;
            file.seek(std::io::SeekFrom::Start(from)).await?;
            self.open = Some((file, length));
        }
        Ok(self.open.is_some())
    }

    async fn next(&mut self, site: &Site) -> std::io::Result<Option<Bytes>> {
        if !self.open(site).await? {
            return Ok(None);
        }
        let Some((file, left)) = &mut self.open else { return Ok(None) };
        let wanted = usize::try_from((*left).min(CHUNK as u64)).unwrap_or(CHUNK);
        let mut chunk = BytesMut::with_capacity(wanted);
        let read = (&mut *file).take(wanted as u64).read_buf(&mut chunk).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        if *left == 0 {
            self.open = None;
        }
        Ok(Some(chunk.freeze()))
    }

    fn stream(self, site: &Arc<Site>) -> StreamingBlob {
        let state = (self, Arc::clone(site));
        StreamingBlob::wrap(stream::try_unfold(state, |(mut pieces, site)| async move {
            let chunk: Option<Bytes> = pieces.next(&site).await?;
            Ok::<_, std::io::Error>(chunk.map(|chunk| (chunk, (pieces, site))))
        }))
    }
}

pub(super) async fn delete(
    site: &Arc<Site>,
    account: Account,
    name: String,
    key: String,
    version_id: Option<String>,
) -> Outcome<DeleteObjectOutput> {
    check_key(&key)?;
    let wanted = Wanted::parse(version_id.as_deref())?;
    let marker = NewObject {
        owner_id: account.canonical_id.clone(),
        owner_name: account.display_name.clone(),
        key,
        headers: ContentHeaders::default(),
        size: 0,
        md5: EMPTY_MD5.into(),
        locations: Vec::new(),
        tags: Vec::new(),
        upload_id: None,
        is_delete_marker: true,
        origin_op: "s3:ObjectRemoved:DeleteMarkerCreated",
        data_store_name: site.config().data_store_name.clone(),
        micro_version_id: random_hex::<8>()?,
    };
    let endpoints = site.config().replication_endpoints.clone();
    site.write(move |changes| {
        let bucket = bucket::open(changes, &name, &account)?;
        let key = marker.key.as_str();
        if wanted == Wanted::Current && bucket.is_versioned() {
            let asked = Asked {
                key,
                is_metadata_only: true,
                operation: None,
                existing: None,
                account: Some(&account),
            };
            let info = replication::info(bucket.replication_configuration.as_ref(), &endpoints, asked);
            let md = versioning::store(changes, &bucket, &marker, info)?;
            return Ok(DeleteObjectOutput {
                delete_marker: Some(true),
                version_id: shown_version(true, &md),
                ..DeleteObjectOutput::default()
            });
        }
        let removed = versioning::remove(changes, &name, key, &wanted)?;
        let was_marker = removed.is_some_and(|md| md.is_delete_marker());
        Ok(DeleteObjectOutput {
            delete_marker: was_marker.then_some(true),
            version_id,
            ..DeleteObjectOutput::default()
        })
    })
    .await
}

pub(super) fn tags(
    site: &Arc<Site>,
    request: &S3Request<s3s::dto::GetObjectTaggingInput>,
) -> Result<S3Response<GetObjectTaggingOutput>, S3Error> {
    let input = &request.input;
    let wanted = Wanted::parse(input.version_id.as_deref())?;
    let found = find(site, request, &input.bucket, &input.key, &wanted)?;
    let tag_set =
        found.md.tags().into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect();
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: found.version_id() }))
}

/// A change of tags: a new revision of a version, to be replicated as metadata.
async fn change_tags(
    site: &Arc<Site>,
    account: Account,
    (name, key): (String, String),
    version_id: Option<String>,
    tags: Option<Vec<(String, String)>>,
) -> Outcome<Option<String>> {
    let wanted = Wanted::parse(version_id.as_deref())?;
    let tags_text = RawJson::parse(&tags_json(tags.as_deref().unwrap_or_default()))
        .map_err(|_| Refusal::invalid_tag())?;
    let (operation, origin_op) = if tags.is_some() {
        (Operation::PutTagging, "s3:ObjectTagging:Put")
    } else {
        (Operation::DeleteTagging, "s3:ObjectTagging:Delete")
    };
    let micro_version_id = RawJson::string(&random_hex::<8>()?);
    let endpoints = site.config().replication_endpoints.clone();
    site.write(move |changes| {
        let bucket = bucket::open(changes, &name, &account)?;
        let md = versioning::lookup(changes, &name, &key, &wanted)?.ok_or(missing(&wanted))?;
        if md.is_delete_marker() {
            return Err(Refusal::method_not_allowed());
        }
        let asked = Asked {
            key: &key,
            is_metadata_only: true,
            operation: Some(operation),
            existing: Some(&md),
            account: None,
        };
        let info = replication::info(bucket.replication_configuration.as_ref(), &endpoints, asked);
        let mut changed = md
            .with_member("tags", &tags_text)?
            .with_member("microVersionId", &micro_version_id)?
            .with_origin_op(origin_op);
        if let Some(info) = info {
            changed = changed.with_replication(info);
        }
        versioning::rewrite(changes, &name, &key, &changed)?;
        Ok(shown_version(bucket.is_versioned(), &changed))
    })
    .await
}

pub(super) async fn put_tags(
    site: &Arc<Site>,
    request: S3Request<s3s::dto::PutObjectTaggingInput>,
) -> Outcome<S3Response<PutObjectTaggingOutput>> {
    let account = signer(site, &request)?;
    let input = request.input;
    let tags = input.tagging.tag_set.into_iter();
    let tags = tags.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect();
    let tags = check_tags(tags)?;
    let version_id =
        change_tags(site, account, (input.bucket, input.key), input.version_id, Some(tags)).await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

pub(super) async fn delete_tags(
    site: &Arc<Site>,
    request: S3Request<s3s::dto::DeleteObjectTaggingInput>,
) -> Outcome<S3Response<DeleteObjectTaggingOutput>> {
    let account = signer(site, &request)?;
    let input = request.input;
    let version_id = change_tags(site, account, (input.bucket, input.key), input.version_id, None).await?;
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
}
