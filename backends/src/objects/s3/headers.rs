//! What of an object's metadata becomes headers of the request that writes its copy.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use backbeat_core::model::{ObjectMd, VersionRef};

use super::S3Settings;
use crate::http::{Request, percent_encode};
use crate::timestamp::parse_iso;

/// Says which source version a copy is a copy of, as upstream's cloud routes write it (wire reference 1.8).
pub(super) const MARKER: &str = "x-amz-meta-scal-version-id";
/// Says that a version is a copy, as upstream's cloud routes write it.
const REPLICA: &str = "x-amz-meta-scal-replication-status";

/// Members of metadata that are headers of the same name.
const CONTENT: [&str; 6] = [
    "content-type",
    "cache-control",
    "content-disposition",
    "content-language",
    "expires",
    "x-amz-website-redirect-location",
];

/// Adds what a copy of `version` with the metadata `md` is written with. `now` is in milliseconds since the epoch.
pub(super) fn describe(
    mut request: Request,
    version: &VersionRef,
    md: &ObjectMd,
    settings: &S3Settings,
    now: u64,
) -> Request {
    for name in CONTENT {
        if let Some(value) = md.text(name).filter(|value| !value.is_empty()) {
            request = request.header(name, value);
        }
    }
    if let Some(encoding) = content_encoding(md) {
        request = request.header("content-encoding", encoding);
    }
    for (name, value) in md.user_metadata() {
        let name = format!("x-amz-meta-{name}");
        if name != MARKER && name != REPLICA {
            request = request.header(name, value);
        }
    }
    request = request.header(MARKER, version.metadata_query()).header(REPLICA, "REPLICA");
    let tags = md.tags();
    if !tags.is_empty() {
        request = request.header("x-amz-tagging", form(&tags));
    }
    if let Some(class) = &settings.storage_class {
        request = request.header("x-amz-storage-class", class);
    }
    if let Some(encryption) = &settings.encryption {
        request = request.header("x-amz-server-side-encryption", &encryption.algorithm);
        if let Some(key) = &encryption.kms_key_id {
            request = request.header("x-amz-server-side-encryption-aws-kms-key-id", key);
        }
    }
    protect(request, md, now)
}

/// Chunks of a signed upload are no encoding of the object.
fn content_encoding(md: &ObjectMd) -> Option<String> {
    let encodings = md.text("content-encoding")?;
    let kept: Vec<&str> =
        encodings.split(',').map(str::trim).filter(|one| !one.is_empty() && *one != "aws-chunked").collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// Retention and legal hold. A retention that has ended is nothing to write, and S3 would refuse it.
fn protect(mut request: Request, md: &ObjectMd, now: u64) -> Request {
    let until = md.text("retentionDate").filter(|date| parse_iso(date).is_none_or(|until| until > now));
    if let (Some(mode), Some(until)) = (md.text("retentionMode"), until) {
        request = request
            .header("x-amz-object-lock-mode", mode)
            .header("x-amz-object-lock-retain-until-date", until);
    }
    if md.member("legalHold").is_some_and(|hold| hold.as_str() == "true") {
        request = request.header("x-amz-object-lock-legal-hold", "ON");
    }
    request
}

/// Names and values as a query has them.
fn form(pairs: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let sign = if text.is_empty() { "" } else { "&" };
        write!(text, "{sign}{}={}", percent_encode(name, false), percent_encode(value, false))
            .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::s3::ServerSideEncryption;
    use backbeat_core::model::VersionId;
    use http::Method;

    fn headers(md: &str, settings: &S3Settings) -> Vec<(String, String)> {
        let md = ObjectMd::parse(md).expect("a valid document");
        let version = VersionRef::Version(VersionId::from("98281999999999999999RG001  "));
        // 2026-11-20T00:00:00Z.
        let now = 1_795_132_800_000;
        let request = describe(Request::new(Method::PUT, "/b/k"), &version, &md, settings, now);
        request.headers().to_vec()
    }

    fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
        headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_marker_wins_over_what_the_source_was_marked_with() {
        let md = r#"{"x-amz-meta-scal-version-id":"other","x-amz-meta-scal-replication-status":"PENDING",
            "x-amz-meta-color":"grün"}"#;
        let headers = headers(md, &S3Settings::default());
        let of = |name: &str| headers.iter().filter(|(found, _)| found == name).collect::<Vec<_>>();
        assert_eq!(of(MARKER).len(), 1);
        assert_eq!(value(&headers, MARKER), Some("aJ87MPaUKYOz00000000001I4j3QKItW"));
        assert_eq!(of(REPLICA).len(), 1);
        assert_eq!(value(&headers, REPLICA), Some("REPLICA"));
        assert_eq!(value(&headers, "x-amz-meta-color"), Some("grün"));
    }

    #[test]
    fn tags_and_encodings_are_written_as_headers_want_them() {
        let md = r#"{"tags":{"a b":"c&d","é":""},"content-encoding":"aws-chunked, gzip","content-type":"","expires":"0"}"#;
        let headers = headers(md, &S3Settings::default());
        assert_eq!(value(&headers, "x-amz-tagging"), Some("a%20b=c%26d&%C3%A9="));
        assert_eq!(value(&headers, "content-encoding"), Some("gzip"));
        assert_eq!(value(&headers, "content-type"), None);
        assert_eq!(value(&headers, "expires"), Some("0"));
    }

    #[test]
    fn what_is_retained_stays_retained_and_what_ended_is_left_out() {
        let md = |date: &str| {
            format!(r#"{{"retentionMode":"COMPLIANCE","retentionDate":"{date}","legalHold":true}}"#)
        };
        let later = headers(&md("2027-01-01T00:00:00.000Z"), &S3Settings::default());
        assert_eq!(value(&later, "x-amz-object-lock-mode"), Some("COMPLIANCE"));
        assert_eq!(value(&later, "x-amz-object-lock-retain-until-date"), Some("2027-01-01T00:00:00.000Z"));
        assert_eq!(value(&later, "x-amz-object-lock-legal-hold"), Some("ON"));
        let ended = headers(&md("2026-01-01T00:00:00.000Z"), &S3Settings::default());
        assert_eq!(value(&ended, "x-amz-object-lock-mode"), None);
        assert_eq!(value(&ended, "x-amz-object-lock-legal-hold"), Some("ON"));
        let odd = headers(&md("some day"), &S3Settings::default());
        assert_eq!(value(&odd, "x-amz-object-lock-retain-until-date"), Some("some day"), "the site decides");
        assert_eq!(
            value(&headers(r#"{"legalHold":false}"#, &S3Settings::default()), "x-amz-object-lock-legal-hold"),
            None
        );
    }

    #[test]
    fn a_site_may_have_a_class_and_an_encryption_of_its_own() {
        let settings = S3Settings {
            storage_class: Some("STANDARD_IA".to_owned()),
            encryption: Some(ServerSideEncryption {
                algorithm: "aws:kms".to_owned(),
                kms_key_id: Some("key".to_owned()),
            }),
        };
        let headers = headers(r#"{"x-amz-storage-class":"sf"}"#, &settings);
        assert_eq!(value(&headers, "x-amz-storage-class"), Some("STANDARD_IA"));
        assert_eq!(value(&headers, "x-amz-server-side-encryption"), Some("aws:kms"));
        assert_eq!(value(&headers, "x-amz-server-side-encryption-aws-kms-key-id"), Some("key"));
    }
}
