//! The answers to listings of a bucket: objects in both versions of the call, and all versions.

use super::access::signer;
use super::bucket;
use super::checksums::Stored;
use super::error::{Outcome, Refusal};
use super::listing::{self, ENTRIES_MAX, Entry, Listing, Query};
use super::metadata::Site;
use super::object::{etag, shown_version};
use super::versioning::Wanted;
use crate::timestamp::timestamp;
use backbeat_core::model::ObjectMd;
use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, EncodingType, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectVersion,
    Owner,
};
use s3s::{S3Request, S3Response};

/// How keys are spelled in an answer: XML cannot hold every character, so that clients may ask for another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    Plain,
    Url,
}

impl Spelling {
    /// What `encoding-type` asks for.
    pub(super) fn parse(asked: Option<&EncodingType>) -> Outcome<Self> {
        match asked.map(EncodingType::as_str) {
            None | Some("") => Ok(Self::Plain),
            Some("url") => Ok(Self::Url),
            Some(_) => {
                Err(Refusal::invalid_argument().with_message("Invalid Encoding Method specified in Request"))
            }
        }
    }

    pub(super) fn shown(self) -> Option<EncodingType> {
        (self == Self::Url).then(|| EncodingType::from_static(EncodingType::URL))
    }

    pub(super) fn spell(self, text: &str) -> String {
        if self == Self::Plain {
            return text.to_owned();
        }
        let mut spelled = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                    spelled.push(char::from(byte));
                }
                _ => {
                    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                    spelled.push('%');
                    spelled.push(char::from(DIGITS[usize::from(byte >> 4)]));
                    spelled.push(char::from(DIGITS[usize::from(byte & 15)]));
                }
            }
        }
        spelled
    }

    pub(super) fn optional(self, text: Option<&String>) -> Option<String> {
        text.map(|text| self.spell(text))
    }

    pub(super) fn prefixes(self, prefixes: &[String]) -> Vec<CommonPrefix> {
        prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(self.spell(prefix)) }).collect()
    }
}

fn owner(md: &ObjectMd) -> Owner {
    Owner { id: Some(md.owner_id().to_owned()), display_name: md.text("owner-display-name") }
}

fn size(md: &ObjectMd) -> Option<i64> {
    i64::try_from(md.content_length()).ok()
}

fn max_keys(asked: Option<i32>) -> Outcome<usize> {
    let asked = asked.map(usize::try_from).transpose().map_err(|_| Refusal::invalid_argument())?;
    Ok(asked.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX))
}

fn object(entry: &Entry, spelling: Spelling, with_owner: bool) -> Object {
    let checksum = Stored::of(&entry.md);
    Object {
        e_tag: Some(etag(entry.md.content_md5())),
        key: Some(spelling.spell(&entry.key)),
        last_modified: timestamp(entry.md.last_modified()),
        owner: with_owner.then(|| owner(&entry.md)),
        size: size(&entry.md),
        storage_class: Some("STANDARD".to_owned().into()),
        checksum_algorithm: checksum.as_ref().map(|checksum| vec![checksum.algorithm.shown()]),
        checksum_type: checksum.map(|checksum| checksum.kind.shown()),
        ..Object::default()
    }
}

/// Where the next page starts: after the last key or common prefix.
fn next_after(listing: &Listing) -> Option<String> {
    let last = listing.entries.last().map(|entry| entry.key.as_str());
    listing
        .is_truncated
        .then(|| last.max(listing.prefixes.last().map(String::as_str)).unwrap_or("").to_owned())
}

fn of_objects<T>(site: &Site, request: &S3Request<T>, name: &str, query: &Query) -> Outcome<Listing> {
    let account = signer(site, request)?;
    site.read(|txn| {
        bucket::open(txn, name, &account)?;
        listing::objects(txn, name, query)
    })
}

pub(super) fn objects(
    site: &Site,
    request: &S3Request<ListObjectsInput>,
) -> Outcome<S3Response<ListObjectsOutput>> {
    let input = &request.input;
    let spelling = Spelling::parse(input.encoding_type.as_ref())?;
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        max: max_keys(input.max_keys)?,
        after: input.marker.clone().filter(|marker| !marker.is_empty()),
        after_version: None,
    };
    let listing = of_objects(site, request, &input.bucket, &query)?;
    // Without a delimiter the last key says where to go on.
    let next = next_after(&listing).filter(|_| query.delimiter.is_some());
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket.clone()),
        prefix: Some(spelling.spell(&query.prefix)),
        marker: Some(spelling.spell(input.marker.as_deref().unwrap_or_default())),
        max_keys: i32::try_from(query.max).ok(),
        is_truncated: Some(listing.is_truncated),
        contents: Some(listing.entries.iter().map(|entry| object(entry, spelling, true)).collect()),
        common_prefixes: Some(spelling.prefixes(&listing.prefixes)),
        delimiter: spelling.optional(query.delimiter.as_ref()),
        next_marker: spelling.optional(next.as_ref()),
        encoding_type: spelling.shown(),
        ..ListObjectsOutput::default()
    }))
}

pub(super) fn objects_v2(
    site: &Site,
    request: &S3Request<ListObjectsV2Input>,
) -> Outcome<S3Response<ListObjectsV2Output>> {
    let input = &request.input;
    let spelling = Spelling::parse(input.encoding_type.as_ref())?;
    // A continuation token is the last key, in hexadecimal so that it survives any client.
    let token = input.continuation_token.as_deref().map(|token| {
        let key = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        key.filter(|key| !key.is_empty())
            .ok_or(Refusal::invalid_argument().with_message("The continuation token provided is incorrect"))
    });
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        max: max_keys(input.max_keys)?,
        after: token.transpose()?.or(input.start_after.clone()).filter(|after| !after.is_empty()),
        after_version: None,
    };
    let listing = of_objects(site, request, &input.bucket, &query)?;
    let with_owner = input.fetch_owner == Some(true);
    let count = listing.entries.len() + listing.prefixes.len();
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket.clone()),
        prefix: Some(spelling.spell(&query.prefix)),
        max_keys: i32::try_from(query.max).ok(),
        key_count: i32::try_from(count).ok(),
        continuation_token: input.continuation_token.clone(),
        is_truncated: Some(listing.is_truncated),
        next_continuation_token: next_after(&listing).map(hex::encode),
        contents: Some(listing.entries.iter().map(|entry| object(entry, spelling, with_owner)).collect()),
        common_prefixes: Some(spelling.prefixes(&listing.prefixes)),
        delimiter: spelling.optional(query.delimiter.as_ref()),
        start_after: spelling.optional(input.start_after.as_ref()),
        encoding_type: spelling.shown(),
        ..ListObjectsV2Output::default()
    }))
}

pub(super) fn versions(
    site: &Site,
    request: &S3Request<ListObjectVersionsInput>,
) -> Outcome<S3Response<ListObjectVersionsOutput>> {
    let account = signer(site, request)?;
    let input = &request.input;
    let spelling = Spelling::parse(input.encoding_type.as_ref())?;
    let marker = input.version_id_marker.as_deref().filter(|marker| !marker.is_empty());
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        max: max_keys(input.max_keys)?,
        after: input.key_marker.clone().filter(|marker| !marker.is_empty()),
        after_version: marker.map(|marker| Wanted::parse(Some(marker))).transpose()?,
    };
    if query.after.is_none() && query.after_version.is_some() {
        return Err(Refusal::invalid_argument()
            .with_message("A version-id marker cannot be specified without a key marker."));
    }
    let listing = site.read(|txn| {
        bucket::open(txn, &input.bucket, &account)?;
        listing::versions(txn, &input.bucket, &query)
    })?;
    let shown = |entry: &Entry| shown_version(true, &entry.md);
    let (markers, versions): (Vec<_>, Vec<_>) =
        listing.entries.iter().partition(|entry| entry.md.is_delete_marker());
    let versions = versions.into_iter().map(|entry| {
        let checksum = Stored::of(&entry.md);
        ObjectVersion {
            e_tag: Some(etag(entry.md.content_md5())),
            is_latest: Some(entry.is_latest),
            key: Some(spelling.spell(&entry.key)),
            last_modified: timestamp(entry.md.last_modified()),
            owner: Some(owner(&entry.md)),
            size: size(&entry.md),
            storage_class: Some("STANDARD".to_owned().into()),
            version_id: shown(entry),
            checksum_algorithm: checksum.as_ref().map(|checksum| vec![checksum.algorithm.shown()]),
            checksum_type: checksum.map(|checksum| checksum.kind.shown()),
            ..ObjectVersion::default()
        }
    });
    let markers = markers.into_iter().map(|entry| DeleteMarkerEntry {
        is_latest: Some(entry.is_latest),
        key: Some(spelling.spell(&entry.key)),
        last_modified: timestamp(entry.md.last_modified()),
        owner: Some(owner(&entry.md)),
        version_id: shown(entry),
    });
    let next_key = next_after(&listing);
    // After a common prefix there is no version to go on from.
    let last = listing.entries.last().filter(|entry| next_key.as_ref() == Some(&entry.key));
    Ok(S3Response::new(ListObjectVersionsOutput {
        name: Some(input.bucket.clone()),
        prefix: Some(spelling.spell(&query.prefix)),
        key_marker: Some(spelling.spell(input.key_marker.as_deref().unwrap_or_default())),
        version_id_marker: Some(input.version_id_marker.clone().unwrap_or_default()),
        max_keys: i32::try_from(query.max).ok(),
        is_truncated: Some(listing.is_truncated),
        next_version_id_marker: last.and_then(shown),
        next_key_marker: spelling.optional(next_key.as_ref()),
        versions: Some(versions.collect()),
        delete_markers: Some(markers.collect()),
        common_prefixes: Some(spelling.prefixes(&listing.prefixes)),
        delimiter: spelling.optional(query.delimiter.as_ref()),
        encoding_type: spelling.shown(),
        ..ListObjectVersionsOutput::default()
    }))
}
