//! Tags of objects and of buckets: what they may be.

use crate::site::error::{Outcome, Refusal};
use crate::site::headers::header;
use crate::site::uri::query;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const TAGS_MAX: usize = 10;
const KEY_CHARACTERS_MAX: usize = 128;
const VALUE_CHARACTERS_MAX: usize = 256;
const BUCKET_TAGS_MAX: usize = 50;

/// Tags as S3 limits them.
pub(in crate::site) fn check(tags: Vec<(String, String)>) -> Outcome<Vec<(String, String)>> {
    check_at_most(TAGS_MAX, "Object tags cannot be greater than 10", tags)
}

/// Tags of a bucket as S3 limits them.
pub(in crate::site) fn check_of_bucket(tags: Vec<(String, String)>) -> Outcome<Vec<(String, String)>> {
    check_at_most(BUCKET_TAGS_MAX, "Bucket tag count cannot be greater than 50", tags)
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
pub(in crate::site) fn asked(headers: &HeaderMap) -> Outcome<Vec<(String, String)>> {
    let Some(text) = header(headers, "x-amz-tagging") else { return Ok(Vec::new()) };
    let refusal = || {
        Refusal::invalid_argument().with_message(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag \
             name duplicates.",
        )
    };
    let uri = format!("/?{text}").parse().map_err(|_| refusal())?;
    let tags: Vec<(String, String)> = query(&uri).collect();
    let names: BTreeSet<&String> = tags.iter().map(|(name, _)| name).collect();
    let is_plain = |text: &str| is_text_of_a_tag(text, usize::MAX);
    if names.len() < tags.len() || !tags.iter().all(|(name, value)| is_plain(name) && is_plain(value)) {
        return Err(refusal());
    }
    check(tags)
}

/// A tag of a bucket as its attributes keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::site) struct BucketTag {
    #[serde(rename = "Key")]
    pub(in crate::site) key: String,
    #[serde(rename = "Value")]
    pub(in crate::site) value: String,
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
