//! Copies that the server makes: of whole objects, and of pieces of them as parts of an upload.

use super::access::signer;
use super::attributes::{Acl, Lock, Of, tags};
use super::bucket;
use super::checksums::{Algorithm, Stored, put_checksum, put_part_checksum};
use super::conditions::{ReadCondition, WriteCondition};
use super::config::Account;
use super::data::{SMALL_MAX, Stored as StoredData};
use super::error::{Outcome, Refusal};
use super::headers::{ContentHeaders, header};
use super::metadata::Site;
use super::multipart;
use super::object::{COPIED, NewObject, check_key, etag, shown_version};
use super::pieces::Pieces;
use super::random::random_hex;
use super::receive::{self, Expected, SIZE_MAX};
use super::revision;
use super::versioning::{self, Wanted};
use crate::timestamp::system_ms;
use crate::timestamp::timestamp;
use backbeat_core::model::{Location, ObjectMd};
use http::HeaderMap;
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, UploadPartCopyInput,
    UploadPartCopyOutput,
};
use s3s::{S3Request, S3Response};
use std::io::ErrorKind;
use std::sync::Arc;

/// How often a copy starts over because its source was replaced while it was being copied.
const TRIES_MAX: usize = 3;

/// What is copied.
struct Source {
    bucket: String,
    key: String,
    wanted: Wanted,
}

impl Source {
    fn parse(source: &CopySource) -> Outcome<Self> {
        match source {
            CopySource::Bucket { bucket, key, version_id } => Ok(Self {
                bucket: bucket.to_string(),
                key: key.to_string(),
                wanted: Wanted::parse(version_id.as_deref())?,
            }),
            CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => Err(Refusal::not_implemented()),
        }
    }

    /// Its metadata and the version id that clients see, if the account may read it and the conditions hold.
    fn find(
        &self,
        site: &Site,
        account: &Account,
        condition: &ReadCondition,
    ) -> Outcome<(ObjectMd, Option<String>)> {
        let (is_versioned, md) = site.read(|txn| {
            let bucket = bucket::open(txn, &self.bucket, account)?;
            let md = versioning::lookup(txn, &self.bucket, &self.key, &self.wanted)?;
            Ok((bucket.is_versioned(), md.ok_or_else(|| self.wanted.missing())?))
        })?;
        if md.is_delete_marker() {
            return Err(match self.wanted {
                Wanted::Current => Refusal::no_such_key(),
                Wanted::Null | Wanted::Version(_) => Refusal::invalid_request(
                    "The source of a copy request may not specifically refer to a delete marker by version id.",
                ),
            });
        }
        // Whichever condition fails, there is nothing to answer a copy with.
        condition.check(&md).map_err(|_| Refusal::precondition_failed())?;
        let shown = shown_version(is_versioned, &md);
        Ok((md, shown))
    }
}

/// Whether something of the source is copied or replaced by what the request says.
fn replaces(headers: &HeaderMap, name: &str, what: &str) -> Outcome<bool> {
    match header(headers, name) {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(Refusal::invalid_argument().with_message(format!("Unknown {what} directive."))),
    }
}

/// Data of a copy's own, and where in the copy it lies.
#[derive(Default)]
struct Duplicates {
    data: Vec<StoredData>,
    locations: Vec<Location>,
}

/// A duplicate of each of the pieces of an object; nothing if it was deleted after its metadata was read.
async fn duplicate(site: &Site, md: &ObjectMd) -> Outcome<Option<Duplicates>> {
    let store_name = &site.config().data_store_name;
    let may_lie_in_store = md.content_length() <= SMALL_MAX as u64;
    let mut copied = Duplicates::default();
    for (location, at) in md.locations().iter().zip(1..) {
        let duplicated = match site.data().duplicate(&location.key, may_lie_in_store).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            duplicated => duplicated?,
        };
        copied.locations.push(Location::new(
            duplicated.key(),
            location.start,
            location.size,
            store_name,
            location.part_number().unwrap_or(at),
            location.md5().unwrap_or(""),
        ));
        copied.data.push(duplicated);
    }
    Ok(Some(copied))
}

/// The checksum that a copy gets: its source's, or one of the kind that the request names, over the copy's own data.
async fn checksum_of(
    site: &Site,
    md: &ObjectMd,
    copied: &[StoredData],
    asked: Option<Algorithm>,
) -> Outcome<Option<Stored>> {
    let stored = Stored::of(md);
    let Some(algorithm) =
        asked.filter(|asked| stored.as_ref().is_none_or(|stored| stored.algorithm != *asked))
    else {
        return Ok(stored);
    };
    let mut hasher = algorithm.hasher();
    for data in copied {
        let mut reader = data.read(site.data()).await?;
        while let Some(bytes) = reader.next().await? {
            hasher.update(&bytes);
        }
    }
    Ok(algorithm.of(hasher.finalize()).map(|value| Stored::full(algorithm, value)))
}

pub(super) async fn object(
    site: &Arc<Site>,
    request: S3Request<CopyObjectInput>,
) -> Outcome<S3Response<CopyObjectOutput>> {
    let account = signer(site, &request)?;
    let headers = &request.headers;
    let (name, key) = (request.input.bucket, request.input.key);
    check_key(&key)?;
    let source = Source::parse(&request.input.copy_source)?;
    let replaces_metadata = replaces(headers, "x-amz-metadata-directive", "metadata")?;
    let replaces_tags = replaces(headers, "x-amz-tagging-directive", "tagging")?;
    let asked = ContentHeaders::of(headers)?;
    let is_itself = source.bucket == name && source.key == key && source.wanted == Wanted::Current;
    if is_itself && !replaces_metadata && asked.website_redirect.is_none() && !names_another_class(headers) {
        return Err(Refusal::invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the \
             object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let asked_tags = tags::asked(headers)?;
    let acl = Acl::asked(site, headers, Of::Object)?.unwrap_or_else(|| Acl::private(Of::Object));
    let lock = Lock::asked(headers, system_ms())?;
    let algorithm = header(headers, "x-amz-checksum-algorithm").map(Algorithm::parse).transpose()?;
    let condition = WriteCondition::of(headers)?;
    let source_condition = ReadCondition::of_source(headers);
    let bucket = site.read(|txn| bucket::open(txn, &name, &account))?;
    bucket.lock(lock, system_ms())?;

    let mut tries = 0;
    let (md, source_version, copied) = loop {
        let (md, shown) = source.find(site, &account, &source_condition)?;
        if md.content_length() > SIZE_MAX {
            return Err(Refusal::invalid_request(format!(
                "The specified copy source is larger than the maximum allowable size for a copy source: {SIZE_MAX}"
            )));
        }
        if let Some(copied) = duplicate(site, &md).await? {
            break (md, shown, copied);
        }
        tries += 1;
        if tries == TRIES_MAX {
            return Err(Refusal::service_unavailable());
        }
    };
    // The copy has data of its own: from here on the source may go.
    let Duplicates { data, locations } = copied;
    let checksum = checksum_of(site, &md, &data, algorithm).await?;
    let stored = ContentHeaders::stored(&md);
    let content = if replaces_metadata {
        asked
    } else {
        // Where a website redirects to belongs to the key, not to the content.
        ContentHeaders { website_redirect: asked.website_redirect, ..stored }
    };
    let object = NewObject {
        owner_id: account.canonical_id.clone(),
        owner_name: account.display_name.clone(),
        key,
        headers: content,
        size: md.content_length(),
        md5: md.content_md5().to_owned(),
        locations,
        tags: if replaces_tags { asked_tags } else { md.tags().into_iter().collect() },
        acl,
        lock,
        checksum: checksum.clone(),
        upload_id: None,
        is_delete_marker: false,
        origin_op: COPIED,
        data_store_name: site.config().data_store_name.clone(),
        micro_version_id: random_hex::<8>()?,
    };
    let written = revision::Write { bucket: name, account, condition, object, data }.commit(site).await?;
    let mut result = CopyObjectResult {
        e_tag: Some(etag(md.content_md5())),
        last_modified: timestamp(written.md.last_modified()),
        ..CopyObjectResult::default()
    };
    if let Some(checksum) = checksum {
        put_checksum!(result, checksum.shown());
    }
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: source_version,
        version_id: written.version_id,
        ..CopyObjectOutput::default()
    }))
}

/// True if a request names a storage class. There is one, so that naming it changes nothing; S3 takes it for a change.
fn names_another_class(headers: &HeaderMap) -> bool {
    header(headers, "x-amz-storage-class").is_some()
}

/// The first byte and the number of bytes that `x-amz-copy-source-range` names.
fn piece(range: Option<&str>, size: u64) -> Outcome<(u64, u64)> {
    let Some(range) = range else { return Ok((0, size)) };
    let ends = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let ends = ends.and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let Some((first, last)) = ends.filter(|(first, last)| first <= last) else {
        return Err(Refusal::invalid_argument().with_message(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy",
        ));
    };
    if last >= size {
        let message = format!("Range specified is not valid for source object of size: {size}");
        return Err(Refusal::invalid_argument().with_message(message));
    }
    Ok((first, last - first + 1))
}

pub(super) async fn part(
    site: &Arc<Site>,
    request: S3Request<UploadPartCopyInput>,
) -> Outcome<S3Response<UploadPartCopyOutput>> {
    let account = signer(site, &request)?;
    let input = request.input;
    let source = Source::parse(&input.copy_source)?;
    let place = multipart::Place::new(input.bucket, input.key, input.upload_id, input.part_number)?;
    let algorithm = multipart::algorithm(site, &account, &place)?;
    let (md, source_version) = source.find(site, &account, &ReadCondition::of_source(&request.headers))?;
    let (start, length) = piece(input.copy_source_range.as_deref(), md.content_length())?;
    if length > SIZE_MAX {
        return Err(Refusal::invalid_request(format!(
            "The specified copy source is larger than the maximum allowable size for a copy source: {SIZE_MAX}"
        )));
    }
    let mut pieces = Pieces::of(md.locations(), start, length);
    pieces.open(site).await?;
    let mut expected = Expected::length(length);
    if let Some(algorithm) = algorithm {
        expected = expected.computing(algorithm);
    }
    let (incoming, checksum) = receive::receive(site.data(), Some(pieces.stream(site)), &expected).await?;
    let part = multipart::store_part(site, account, place, incoming, checksum.clone()).await?;
    let mut result = CopyPartResult {
        e_tag: Some(etag(&part.md5)),
        last_modified: timestamp(&part.last_modified),
        ..CopyPartResult::default()
    };
    if let Some(checksum) = checksum {
        put_part_checksum!(result, checksum.shown_of_part());
    }
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: source_version,
        ..UploadPartCopyOutput::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_sources_name_both_ends_within_the_source() {
        assert_eq!(piece(None, 10).unwrap(), (0, 10));
        assert_eq!(piece(Some("bytes=0-9"), 10).unwrap(), (0, 10));
        assert_eq!(piece(Some("bytes=3-3"), 10).unwrap(), (3, 1));
        for wrong in ["bytes=0-10", "bytes=4-3", "bytes=4-", "bytes=-4", "0-3", "bytes=+1-3", "bytes=a-b", ""]
        {
            assert_eq!(piece(Some(wrong), 10).unwrap_err().code, "InvalidArgument", "{wrong}");
        }
        assert_eq!(piece(Some("bytes=0-0"), 0).unwrap_err().code, "InvalidArgument");
    }
}
