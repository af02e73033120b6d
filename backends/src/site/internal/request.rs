//! What an internal request says: its path, its query and its headers.

use crate::http::form_decode;
use crate::site::error::{Outcome, Refusal};
use crate::site::uri::{BACKBEAT, parameter};
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
        let path = form_decode(uri.path().strip_prefix(BACKBEAT).unwrap_or_default());
        let mut parts = path.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { kind: next(), bucket: next(), key: next() }
    }
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Which version the query names.
pub(super) fn wanted(uri: &Uri) -> Outcome<Wanted> {
    // Upstream says more about a wrong id on S3 routes than here.
    Wanted::parse(parameter(uri, "versionId").as_deref()).map_err(|_| Refusal::invalid_argument())
}
