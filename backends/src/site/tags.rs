//! Tags of objects and of buckets.

use super::access::signer;
use super::bucket;
use super::config::Account;
use super::error::{Outcome, Refusal};
use super::headers::header;
use super::metadata::Site;
use super::object::{shown_version, tags_json};
use super::replication::Operation;
use super::revision;
use super::versioning::{self, Wanted};
use backbeat_core::model::RawJson;
use http::HeaderMap;
use s3s::dto::{
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput,
    GetBucketTaggingInput, GetBucketTaggingOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    PutBucketTaggingInput, PutBucketTaggingOutput, PutObjectTaggingInput, PutObjectTaggingOutput, Tag,
};
use s3s::{S3Request, S3Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

const TAGS_MAX: usize = 10;
const KEY_CHARACTERS_MAX: usize = 128;
const VALUE_CHARACTERS_MAX: usize = 256;
const BUCKET_TAGS_MAX: usize = 50;

/// Tags as S3 limits them.
pub(super) fn check(tags: Vec<(String, String)>) -> Outcome<Vec<(String, String)>> {
    check_at_most(TAGS_MAX, "Object tags cannot be greater than 10", tags)
}

fn check_at_most(
    max: usize,
    too_many: &'static str,
    tags: Vec<(String, String)>,
) -> Outcome<Vec<(String, String)>> {
    if tags.len() > max {
        return Err(Refusal::bad_request("").with_message(too_many));
    }
    let refuse = |message: &'static str| Err(Refusal::invalid_tag().with_message(message));
    for (at, (key, value)) in tags.iter().enumerate() {
        if key.is_empty() || !is_text_of_a_tag(key, KEY_CHARACTERS_MAX) {
            return refuse("The TagKey you have provided is invalid");
        }
        if !is_text_of_a_tag(value, VALUE_CHARACTERS_MAX) {
            return refuse("The TagValue you have provided is invalid");
        }
        if tags[..at].iter().any(|earlier| earlier.0 == *key) {
            return refuse("Cannot provide multiple Tags with the same key");
        }
    }
    Ok(tags)
}

/// Letters, digits, spaces and eight signs.
fn is_text_of_a_tag(text: &str, characters_max: usize) -> bool {
    let is_allowed =
        |character: char| character.is_alphanumeric() || character == ' ' || "+-=._:/@".contains(character);
    text.chars().count() <= characters_max && text.chars().all(is_allowed)
}

/// The tags in `x-amz-tagging`: a query string.
pub(super) fn asked(headers: &HeaderMap) -> Outcome<Vec<(String, String)>> {
    let Some(text) = header(headers, "x-amz-tagging") else { return Ok(Vec::new()) };
    let refusal = || {
        Refusal::invalid_argument().with_message(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag \
             name duplicates.",
        )
    };
    let uri = format!("/?{text}").parse().map_err(|_| refusal())?;
    let tags: Vec<(String, String)> = super::uri::query(&uri).collect();
    let names: BTreeSet<&String> = tags.iter().map(|(name, _)| name).collect();
    let is_plain = |text: &str| is_text_of_a_tag(text, usize::MAX);
    if names.len() < tags.len() || !tags.iter().all(|(name, value)| is_plain(name) && is_plain(value)) {
        return Err(refusal());
    }
    check(tags)
}

pub(super) fn of_object(
    site: &Site,
    request: &S3Request<GetObjectTaggingInput>,
) -> Outcome<S3Response<GetObjectTaggingOutput>> {
    let account = signer(site, request)?;
    let input = &request.input;
    let wanted = Wanted::parse(input.version_id.as_deref())?;
    let (is_versioned, md) = site.read(|txn| {
        let bucket = bucket::open(txn, &input.bucket, &account)?;
        Ok((bucket.is_versioned(), versioning::object(txn, &input.bucket, &input.key, &wanted)?))
    })?;
    let tag_set =
        md.tags().into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect();
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: shown_version(is_versioned, &md) }))
}

/// A change of tags: a new revision of a version, to be replicated as metadata.
async fn change(
    site: &Arc<Site>,
    account: Account,
    place: (String, String),
    version_id: Option<String>,
    tags: Option<Vec<(String, String)>>,
) -> Outcome<Option<String>> {
    let tags_text = RawJson::parse(&tags_json(tags.as_deref().unwrap_or_default()))
        .map_err(|_| Refusal::invalid_tag())?;
    let (operation, origin_op) = if tags.is_some() {
        (Operation::PutTagging, "s3:ObjectTagging:Put")
    } else {
        (Operation::DeleteTagging, "s3:ObjectTagging:Delete")
    };
    revision::change(site, account, place, version_id.as_deref(), operation, move |_, _, md| {
        Ok(md.with_member("tags", &tags_text)?.with_origin_op(origin_op))
    })
    .await
}

pub(super) async fn put(
    site: &Arc<Site>,
    request: S3Request<PutObjectTaggingInput>,
) -> Outcome<S3Response<PutObjectTaggingOutput>> {
    let account = signer(site, &request)?;
    let input = request.input;
    let tags = input.tagging.tag_set.into_iter();
    let tags = tags.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect();
    let tags = check(tags)?;
    let version_id = change(site, account, (input.bucket, input.key), input.version_id, Some(tags)).await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

pub(super) async fn delete(
    site: &Arc<Site>,
    request: S3Request<DeleteObjectTaggingInput>,
) -> Outcome<S3Response<DeleteObjectTaggingOutput>> {
    let account = signer(site, &request)?;
    let input = request.input;
    let version_id = change(site, account, (input.bucket, input.key), input.version_id, None).await?;
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
}

/// A tag of a bucket as its attributes keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BucketTag {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Value")]
    value: String,
}

pub(super) fn of_bucket(
    site: &Site,
    request: &S3Request<GetBucketTaggingInput>,
) -> Outcome<S3Response<GetBucketTaggingOutput>> {
    let account = signer(site, request)?;
    let bucket = site.read(|txn| bucket::open(txn, &request.input.bucket, &account))?;
    if bucket.tags.is_empty() {
        return Err(Refusal::no_such_tags());
    }
    let shown = |tag: BucketTag| Tag { key: Some(tag.key), value: Some(tag.value) };
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: bucket.tags.into_iter().map(shown).collect() }))
}

pub(super) async fn put_of_bucket(
    site: &Arc<Site>,
    request: S3Request<PutBucketTaggingInput>,
) -> Outcome<S3Response<PutBucketTaggingOutput>> {
    let account = signer(site, &request)?;
    let tags = request.input.tagging.tag_set.into_iter();
    let tags = tags.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect();
    let tags = check_at_most(BUCKET_TAGS_MAX, "Bucket tag count cannot be greater than 50", tags)?;
    bucket::change(site, account, request.input.bucket, move |bucket| {
        bucket.tags = tags.into_iter().map(|(key, value)| BucketTag { key, value }).collect();
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketTaggingOutput::default()))
}

pub(super) async fn delete_of_bucket(
    site: &Arc<Site>,
    request: S3Request<DeleteBucketTaggingInput>,
) -> Outcome<S3Response<DeleteBucketTaggingOutput>> {
    let account = signer(site, &request)?;
    bucket::change(site, account, request.input.bucket, |bucket| {
        bucket.tags.clear();
        Ok(())
    })
    .await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(tags: &[(&str, &str)]) -> &'static str {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        check(tags).map_or_else(|refusal| refusal.code, |_| "")
    }

    #[test]
    fn tags_are_few_short_different_and_of_plain_characters() {
        assert_eq!(refused(&[("é =", "1/2: +3@4"), ("b", "")]), "");
        assert_eq!(refused(&[("a", "1"), ("a", "2")]), "InvalidTag");
        assert_eq!(refused(&[("", "1")]), "InvalidTag");
        for text in ["a,b", "a;b", "a?", "a*", "a#", "a\tb", "{}"] {
            assert_eq!(refused(&[(text, "1")]), "InvalidTag", "{text}");
            assert_eq!(refused(&[("k", text)]), "InvalidTag", "{text}");
        }
        let eleven: Vec<String> = (0..11).map(|number| number.to_string()).collect();
        let eleven: Vec<(&str, &str)> = eleven.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(refused(&eleven), "BadRequest");
        assert_eq!(refused(&[("k", &"v".repeat(257))]), "InvalidTag");
    }

    #[test]
    fn a_tagging_header_names_no_tag_twice() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-tagging", text.parse().unwrap());
            asked(&headers).map_err(|refusal| refusal.code)
        };
        assert_eq!(asked("a=1&b=2").unwrap().len(), 2);
        assert_eq!(asked("a=1&a=2"), Err("InvalidArgument"));
        assert_eq!(asked("a=%2A"), Err("InvalidArgument"));
        assert_eq!(asked(&format!("a={}", "v".repeat(257))), Err("InvalidTag"));
    }
}
