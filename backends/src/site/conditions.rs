//! Conditions of requests on what is stored: of reads, of the sources of copies, and of writes.

use super::error::{Outcome, Refusal};
use super::headers::header;
use crate::timestamp::timestamp;
use backbeat_core::model::ObjectMd;
use http::HeaderMap;
use s3s::dto::{Timestamp, TimestampFormat};

/// Conditions of a write on what is there: `If-None-Match: *` and `If-Match`.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteCondition {
    must_be_missing: bool,
    must_match: Option<String>,
}

impl WriteCondition {
    /// What the headers of a write say. S3 knows `If-None-Match` with `*` only.
    pub(super) fn of(headers: &HeaderMap) -> Outcome<Self> {
        let must_be_missing = match header(headers, "if-none-match").map(str::trim) {
            None => false,
            Some("*") => true,
            Some(_) => return Err(Refusal::not_implemented()),
        };
        let must_match = header(headers, "if-match").map(|value| value.trim().trim_matches('"').to_owned());
        Ok(Self { must_be_missing, must_match })
    }

    /// Only an entity tag that is to match.
    pub(super) fn matching(etag: Option<&str>) -> Self {
        Self { must_be_missing: false, must_match: etag.map(str::to_owned) }
    }

    /// Only the condition of a deletion.
    pub(super) fn of_deletion(headers: &HeaderMap) -> Outcome<Self> {
        Ok(Self { must_be_missing: false, ..Self::of(headers)? })
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

/// How a condition on a read failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The client has it already.
    NotModified,
    /// It is not what the client wants.
    Precondition,
}

/// Conditions of a read.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadCondition {
    match_any: Option<String>,
    match_none: Option<String>,
    modified_since: Option<Timestamp>,
    unmodified_since: Option<Timestamp>,
}

impl ReadCondition {
    /// The conditions on what is read.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self::with_prefix(headers, "")
    }

    /// The conditions on the source of a copy.
    pub(super) fn of_source(headers: &HeaderMap) -> Self {
        Self::with_prefix(headers, "x-amz-copy-source-")
    }

    fn with_prefix(headers: &HeaderMap, prefix: &str) -> Self {
        let text = |name: &str| header(headers, &format!("{prefix}{name}")).map(str::to_owned);
        // A time that is none counts as not given (RFC 9110, sections 13.1.3 and 13.1.4).
        let time =
            |name: &str| text(name).and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, &text).ok());
        Self {
            match_any: text("if-match"),
            match_none: text("if-none-match"),
            modified_since: time("if-modified-since"),
            unmodified_since: time("if-unmodified-since"),
        }
    }

    /// In the order of RFC 9110, section 13.2.2: an entity tag outweighs the time beside it.
    pub(super) fn check(&self, md: &ObjectMd) -> Result<(), Failed> {
        let matches = |list: &str| {
            list.split(',')
                .map(|one| one.trim().trim_start_matches("W/").trim_matches('"'))
                .any(|one| one == "*" || one == md.content_md5())
        };
        // Times in headers have no fraction.
        let modified = timestamp(&format!("{}Z", md.last_modified().get(..19).unwrap_or("")));
        if let Some(list) = &self.match_any {
            if !matches(list) {
                return Err(Failed::Precondition);
            }
        } else if let (Some(limit), Some(modified)) = (&self.unmodified_since, &modified)
            && modified > limit
        {
            return Err(Failed::Precondition);
        }
        if let Some(list) = &self.match_none {
            if matches(list) {
                return Err(Failed::NotModified);
            }
        } else if let (Some(limit), Some(modified)) = (&self.modified_since, &modified)
            && modified <= limit
        {
            return Err(Failed::NotModified);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "d41d8cd98f00b204e9800998ecf8427e";
    const BEFORE: &str = "Fri, 20 Nov 2026 16:38:24 GMT";
    const AT: &str = "Fri, 20 Nov 2026 16:38:25 GMT";

    fn md() -> ObjectMd {
        let json = format!(r#"{{"content-md5":"{ETAG}","last-modified":"2026-11-20T16:38:25.760Z"}}"#);
        ObjectMd::parse(&json).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    fn read(pairs: &[(&'static str, &str)]) -> Result<(), Failed> {
        ReadCondition::of(&headers(pairs)).check(&md())
    }

    #[test]
    fn reads_weigh_tags_above_times_and_failure_above_freshness() {
        let other = "\"other\"";
        assert_eq!(read(&[("if-match", ETAG)]), Ok(()));
        assert_eq!(read(&[("if-match", "\"x\", *")]), Ok(()));
        assert_eq!(read(&[("if-match", other)]), Err(Failed::Precondition));
        assert_eq!(read(&[("if-none-match", &format!("W/\"{ETAG}\""))]), Err(Failed::NotModified));
        assert_eq!(read(&[("if-none-match", other)]), Ok(()));
        assert_eq!(read(&[("if-modified-since", AT)]), Err(Failed::NotModified));
        assert_eq!(read(&[("if-modified-since", BEFORE)]), Ok(()));
        assert_eq!(read(&[("if-unmodified-since", BEFORE)]), Err(Failed::Precondition));
        assert_eq!(read(&[("if-unmodified-since", AT)]), Ok(()));
        assert_eq!(read(&[("if-match", ETAG), ("if-unmodified-since", BEFORE)]), Ok(()));
        assert_eq!(read(&[("if-none-match", other), ("if-modified-since", AT)]), Ok(()));
        assert_eq!(read(&[("if-match", other), ("if-none-match", ETAG)]), Err(Failed::Precondition));
        assert_eq!(read(&[("if-modified-since", "yesterday")]), Ok(()));
    }

    #[test]
    fn writes_ask_for_nothing_or_for_one_thing_there() {
        let check = |pairs: &[(&'static str, &str)], current: Option<&ObjectMd>| {
            WriteCondition::of(&headers(pairs))
                .and_then(|condition| condition.check(current))
                .map_err(|r| r.code)
        };
        let marker = ObjectMd::parse(r#"{"isDeleteMarker":true}"#).unwrap();
        assert_eq!(check(&[("if-none-match", "*")], None), Ok(()));
        assert_eq!(check(&[("if-none-match", "*")], Some(&marker)), Ok(()));
        assert_eq!(check(&[("if-none-match", "*")], Some(&md())), Err("PreconditionFailed"));
        assert_eq!(check(&[("if-none-match", ETAG)], None), Err("NotImplemented"));
        assert_eq!(check(&[("if-match", ETAG)], Some(&md())), Ok(()));
        assert_eq!(check(&[("if-match", "other")], Some(&md())), Err("PreconditionFailed"));
        assert_eq!(check(&[("if-match", ETAG)], None), Err("NoSuchKey"));
        assert_eq!(check(&[("if-match", ETAG)], Some(&marker)), Err("NoSuchKey"));
    }
}
