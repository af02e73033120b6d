//! What a request is addressed to: the prefixes of internal paths, and the parameters of queries.

use http::Uri;

use crate::http::form_decode;

/// What the paths of the engine's routes start with.
pub(super) const BACKBEAT: &str = "/_/backbeat/";
/// What the paths of CloudServer's metadata server start with.
pub(super) const METADATA: &str = "/_/metadata/";

/// The parameters of a query, decoded.
pub(crate) fn query(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    uri.query().unwrap_or("").split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (form_decode(name), form_decode(value))
    })
}

/// The value of a query parameter.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    query(uri).find(|(found, _)| found == name).map(|(_, value)| value)
}
