//! Uploads by a form of a browser: what such a form says about the object, in the words of a `PUT`.

use super::error::{Outcome, Refusal};
use super::headers::insert;
use super::metadata::Site;
use super::write;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{
    ETagCondition, ObjectCannedACL, ObjectLockLegalHoldStatus, ObjectLockMode, PostObjectInput,
    PostObjectOutput, PutObjectInput, Timestamp, TimestampFormat,
};
use s3s::{S3Request, S3Response};
use std::sync::Arc;

/// An entity tag, or any, as a header says it.
fn condition(condition: &ETagCondition) -> String {
    condition.as_etag().map_or_else(|| "*".to_owned(), |tag| format!("\"{}\"", tag.value()))
}

/// The headers that a `PUT` of the same object would have.
fn headers(form: &PostObjectInput) -> Outcome<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: Option<&str>| -> Outcome<()> {
        let Some(value) = value else { return Ok(()) };
        let refusal =
            || Refusal::invalid_argument().with_message(format!("The field {name} cannot be a header."));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refusal())?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refusal())?);
        Ok(())
    };
    let spell = |time: &Timestamp, format: TimestampFormat| {
        let mut text = Vec::new();
        time.format(format, &mut text).ok()?;
        String::from_utf8(text).ok()
    };
    let expires = form.expires.as_ref().and_then(|time| spell(time, TimestampFormat::HttpDate));
    let until = form.object_lock_retain_until_date.as_ref();
    let until = until.and_then(|time| spell(time, TimestampFormat::DateTime));
    for (name, value) in [
        ("cache-control", form.cache_control.as_deref()),
        ("content-disposition", form.content_disposition.as_deref()),
        ("content-encoding", form.content_encoding.as_deref()),
        ("content-language", form.content_language.as_deref()),
        ("content-type", form.content_type.as_deref()),
        ("content-md5", form.content_md5.as_deref()),
        ("expires", expires.as_deref()),
        ("x-amz-acl", form.acl.as_ref().map(ObjectCannedACL::as_str)),
        ("x-amz-object-lock-mode", form.object_lock_mode.as_ref().map(ObjectLockMode::as_str)),
        ("x-amz-object-lock-retain-until-date", until.as_deref()),
        (
            "x-amz-object-lock-legal-hold",
            form.object_lock_legal_hold_status.as_ref().map(ObjectLockLegalHoldStatus::as_str),
        ),
        ("x-amz-tagging", form.tagging.as_deref()),
        ("if-match", form.if_match.as_ref().map(condition).as_deref()),
        ("if-none-match", form.if_none_match.as_ref().map(condition).as_deref()),
        ("x-amz-website-redirect-location", form.website_redirect_location.as_deref()),
        ("x-amz-checksum-crc32", form.checksum_crc32.as_deref()),
        ("x-amz-checksum-crc32c", form.checksum_crc32c.as_deref()),
        ("x-amz-checksum-crc64nvme", form.checksum_crc64nvme.as_deref()),
        ("x-amz-checksum-sha1", form.checksum_sha1.as_deref()),
        ("x-amz-checksum-sha256", form.checksum_sha256.as_deref()),
    ] {
        add(name, value)?;
    }
    for (name, value) in form.metadata.iter().flatten() {
        add(&format!("x-amz-meta-{name}"), Some(value))?;
    }
    Ok(headers)
}

/// What of a form the operation looks at beside its headers.
fn input(form: PostObjectInput) -> PutObjectInput {
    PutObjectInput { bucket: form.bucket, key: form.key, body: form.body, ..PutObjectInput::default() }
}

/// Stores what a form of a browser brings.
pub(super) async fn post(
    site: &Arc<Site>,
    request: S3Request<PostObjectInput>,
) -> Outcome<S3Response<PostObjectOutput>> {
    let headers = headers(&request.input)?;
    let mut request = request.map_input(input);
    request.headers = headers;
    let written = write::put(site, request).await?;
    let mut shown = S3Response::new(PostObjectOutput::default());
    // The protocol library says nothing of what was stored in the headers of its answer.
    let tag = written.output.e_tag.as_ref().map(|tag| format!("\"{}\"", tag.value()));
    insert(&mut shown.headers, "etag", tag.as_deref());
    insert(&mut shown.headers, "x-amz-version-id", written.output.version_id.as_deref());
    shown.output.e_tag = written.output.e_tag;
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_says_is_what_a_put_would_say() {
        let until = Timestamp::parse(TimestampFormat::DateTime, "2100-02-28T23:59:59Z").unwrap();
        let form = PostObjectInput {
            content_type: Some("image/png".to_owned()),
            metadata: Some([("camera".to_owned(), "a camera".to_owned())].into()),
            object_lock_mode: Some(ObjectLockMode::from_static("GOVERNANCE")),
            object_lock_retain_until_date: Some(until),
            if_none_match: Some(ETagCondition::Any),
            tagging: Some("a=1".to_owned()),
            ..PostObjectInput::default()
        };
        let headers = headers(&form).unwrap();
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(headers.len(), 6);
        assert_eq!(text("content-type"), Some("image/png"));
        assert_eq!(text("x-amz-meta-camera"), Some("a camera"));
        assert_eq!(text("x-amz-object-lock-mode"), Some("GOVERNANCE"));
        assert!(text("x-amz-object-lock-retain-until-date").unwrap().starts_with("2100-02-28T23:59:59"));
        assert_eq!(text("if-none-match"), Some("*"));
        assert_eq!(text("x-amz-tagging"), Some("a=1"));
        let strange =
            PostObjectInput { cache_control: Some("a\nb".to_owned()), ..PostObjectInput::default() };
        assert_eq!(super::headers(&strange).unwrap_err().code, "InvalidArgument");
    }
}
