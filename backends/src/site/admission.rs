//! Whether a request that adds something may come in: the quota of the site's data, and the room in its journal.
//!
//! Deletions, configurations and the engine's metadata always may: they free space, or let replication catch up.

use super::error::{Outcome, Refusal};
use super::metadata::Site;
use super::uri::BACKBEAT;
use http::{HeaderMap, Method, Uri};

/// What a request adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adds {
    Nothing,
    /// Bytes of a client, and records of the journal.
    Object,
    /// Bytes of a replica.
    Replica,
}

impl Adds {
    fn of(method: &Method, uri: &Uri) -> Self {
        let path = uri.path();
        if let Some(route) = path.strip_prefix(BACKBEAT) {
            let is_data = route.starts_with("data/");
            return if is_data && *method == Method::PUT { Self::Replica } else { Self::Nothing };
        }
        let is_object = path.trim_start_matches('/').split_once('/').is_some_and(|(_, key)| !key.is_empty());
        let asks = |name: &str| {
            let mut parameters = uri.query().unwrap_or("").split('&');
            parameters.any(|parameter| parameter.split('=').next() == Some(name))
        };
        match *method {
            Method::PUT if is_object => Self::Object,
            Method::POST if is_object && asks("uploads") => Self::Object,
            _ => Self::Nothing,
        }
    }
}

/// Refuses a request that adds more than there is room for.
pub(super) fn admit(site: &Site, method: &Method, uri: &Uri, headers: &HeaderMap) -> Outcome<()> {
    let limits = &site.config().limits;
    if limits.data_bytes_max.is_none() && limits.journal_records_max.is_none() {
        return Ok(());
    }
    let adds = Adds::of(method, uri);
    if adds == Adds::Nothing {
        return Ok(());
    }
    if let Some(bytes_max) = limits.data_bytes_max {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let bytes = number("x-amz-decoded-content-length").or_else(|| number("content-length")).unwrap_or(0);
        if site.data_bytes().saturating_add(bytes) > bytes_max {
            tracing::warn!(site = site.config().name, bytes_max, "a write was refused: the quota is used up");
            return Err(match adds {
                // The engine takes this for a site that is not there just now, and tries again.
                Adds::Replica => {
                    Refusal::service_unavailable().with_message("The quota of this site is used up.")
                }
                Adds::Object | Adds::Nothing => Refusal::quota_exceeded(),
            });
        }
    }
    if let Some(records_max) = limits.journal_records_max
        && adds == Adds::Object
        && site.journal().length()? >= records_max
    {
        tracing::warn!(site = site.config().name, records_max, "a write was refused: the journal is full");
        return Err(Refusal::slow_down());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_adds_something_needs_room() {
        let adds = |method: Method, uri: &str| Adds::of(&method, &uri.parse().unwrap());
        assert_eq!(adds(Method::PUT, "/bucket/a/key"), Adds::Object);
        assert_eq!(adds(Method::PUT, "/bucket/key?partNumber=1&uploadId=x"), Adds::Object);
        assert_eq!(adds(Method::POST, "/bucket/key?uploads="), Adds::Object);
        assert_eq!(adds(Method::PUT, "/_/backbeat/data/bucket/key?v2="), Adds::Replica);
        for (method, uri) in [
            (Method::GET, "/bucket/key"),
            (Method::DELETE, "/bucket/key"),
            (Method::POST, "/bucket?delete="),
            (Method::POST, "/bucket/key?uploadId=x"),
            (Method::PUT, "/bucket?replication="),
            (Method::PUT, "/bucket/"),
            (Method::PUT, "/_/backbeat/metadata/bucket/key"),
        ] {
            assert_eq!(adds(method, uri), Adds::Nothing, "{uri}");
        }
    }
}
