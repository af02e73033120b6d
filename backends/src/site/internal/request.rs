//! What an internal request says: its path, its query and its headers.

use crate::site::error::{Outcome, Refusal};
use crate::site::server;
use crate::site::versioning::Wanted;
use http::{HeaderMap, Uri};

/// What a request below `/_/backbeat` is about.
pub(super) struct Target {
    pub(super) kind: String,
    pub(super) bucket: String,
    pub(super) key: String,
}

impl Target {
    /// The whole path is decoded first: keys may hold raw slashes or escaped ones (wire reference 0.2).
    pub(super) fn of(uri: &Uri) -> Self {
        let path = decode(uri.path().strip_prefix(server::BACKBEAT).unwrap_or_default());
        let mut parts = path.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { kind: next(), bucket: next(), key: next() }
    }
}

/// Form decoding: blanks for plus signs, then percent escapes (wire reference 0.2).
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let raw = text.as_bytes();
    let mut at = 0;
    while at < raw.len() {
        let escaped = (raw[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            at += 3;
        } else {
            bytes.push(if raw[at] == b'+' { b' ' } else { raw[at] });
            at += 1;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn query(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    uri.query().unwrap_or("").split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The value of a query parameter.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    query(uri).find(|(found, _)| found == name).map(|(_, value)| value)
}

/// Which version the query names.
pub(super) fn wanted(uri: &Uri) -> Outcome<Wanted> {
    // Upstream says more about a wrong id on S3 routes than here.
    Wanted::parse(parameter(uri, "versionId").as_deref()).map_err(|_| Refusal::invalid_argument())
}
