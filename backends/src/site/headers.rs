//! The headers of an object that a client sets and reads back.

use super::error::{Outcome, Refusal};
use backbeat_core::model::ObjectMd;
use http::{HeaderMap, HeaderName, HeaderValue};

const USER_METADATA: &str = "x-amz-meta-";
/// User metadata of one object, names and values together, as S3 limits them.
const USER_METADATA_BYTES_MAX: usize = 2048;

/// The headers of an object that a client sets and reads back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContentHeaders {
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) expires: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) website_redirect: Option<String>,
    /// Full names, lower-case.
    pub(super) user: Vec<(String, String)>,
}

impl ContentHeaders {
    /// What a request says. The framing of a chunked upload is not part of the encoding of the object.
    pub(super) fn of(headers: &HeaderMap) -> Outcome<Self> {
        let text = |name: &str| {
            let value = headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let content_encoding = text("content-encoding").map(|value| {
            let kept: Vec<&str> =
                value.split(',').map(str::trim).filter(|part| *part != "aws-chunked").collect();
            kept.join(",")
        });
        let user: Vec<(String, String)> = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(USER_METADATA))
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let bytes: usize =
            user.iter().map(|(name, value)| name.len() - USER_METADATA.len() + value.len()).sum();
        if bytes > USER_METADATA_BYTES_MAX {
            return Err(Refusal { code: "MetadataTooLarge", ..Refusal::invalid_argument() }
                .with_message("Your metadata headers exceed the maximum allowed metadata size."));
        }
        Ok(Self {
            cache_control: text("cache-control"),
            content_disposition: text("content-disposition"),
            content_encoding: content_encoding.filter(|value| !value.is_empty()),
            expires: text("expires"),
            content_type: text("content-type").filter(|value| !value.is_empty()),
            content_language: text("content-language"),
            website_redirect: text("x-amz-website-redirect-location"),
            user,
        })
    }

    /// What stored metadata says.
    pub(super) fn stored(md: &ObjectMd) -> Self {
        let text = |name: &str| md.text(name).filter(|value| !value.is_empty());
        Self {
            cache_control: text("cache-control"),
            content_disposition: text("content-disposition"),
            content_encoding: text("content-encoding"),
            expires: text("expires"),
            content_type: text("content-type"),
            content_language: text("content-language"),
            website_redirect: text("x-amz-website-redirect-location"),
            user: md.user_metadata().map(|(name, value)| (format!("{USER_METADATA}{name}"), value)).collect(),
        }
    }
}

/// The text of a header; none if it has other characters than visible ASCII ones.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Adds a header to an answer, if there is a value for it that a header can have.
pub(super) fn insert(headers: &mut HeaderMap, name: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    if let (Ok(name), Ok(value)) =
        (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
    {
        headers.insert(name, value);
    }
}
