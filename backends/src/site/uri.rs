//! What a request is addressed to: the prefixes of internal paths, and the parameters of queries.

use http::Uri;

/// What the paths of the engine's routes start with.
pub(super) const BACKBEAT: &str = "/_/backbeat/";
/// What the paths of CloudServer's metadata server start with.
pub(super) const METADATA: &str = "/_/metadata/";

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

/// The parameters of a query, decoded.
pub(crate) fn query(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    uri.query().unwrap_or("").split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

/// The value of a query parameter.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    query(uri).find(|(found, _)| found == name).map(|(_, value)| value)
}
