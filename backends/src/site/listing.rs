//! Listings: current objects, and all versions.

use super::changes::Records;
use super::error::Outcome;
use super::versioning::{self, Master, Wanted};
use backbeat_core::model::{ObjectMd, VERSION_SEPARATOR, VersionId};

/// Entries of one answer at most.
pub(super) const ENTRIES_MAX: usize = 1000;
/// Rows read at once.
const PAGE: usize = 256;

/// What a listing asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pub(super) prefix: String,
    pub(super) delimiter: Option<String>,
    pub(super) max: usize,
    /// Only what comes after this key.
    pub(super) after: Option<String>,
    /// With `after`: only what comes after this version of it.
    pub(super) after_version: Option<Wanted>,
}

/// One object or version.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) md: ObjectMd,
    pub(super) is_latest: bool,
}

/// One answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    pub(super) prefixes: Vec<String>,
    pub(super) is_truncated: bool,
}

impl Listing {
    fn len(&self) -> usize {
        self.entries.len() + self.prefixes.len()
    }
}

/// The first text after all that start with `text`.
fn after_all(text: &str) -> String {
    let mut end = text.to_owned();
    while let Some(last) = end.pop() {
        let next = (last as u32 + 1..=0xE000).find_map(char::from_u32).or(char::from_u32(last as u32 + 1));
        if let Some(next) = next {
            end.push(next);
            return end;
        }
    }
    "\u{10FFFF}".repeat(2)
}

/// The common prefix that hides a key, if there is one.
fn common_prefix<'a>(query: &Query, key: &'a str) -> Option<&'a str> {
    let delimiter = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
    let at = key[query.prefix.len()..].find(delimiter)?;
    Some(&key[..query.prefix.len() + at + delimiter.len()])
}

/// Where a listing starts: an earlier common prefix is skipped as a whole.
fn start(query: &Query) -> String {
    match &query.after {
        Some(after) if query.after_version.is_none() => {
            let hidden = after.starts_with(&query.prefix).then(|| common_prefix(query, after)).flatten();
            match hidden {
                Some(prefix) if prefix == after => after_all(prefix),
                Some(_) | None => format!("{after}\u{1}"),
            }
        }
        Some(after) => after.clone(),
        None => query.prefix.clone(),
    }
}

/// Current objects: no delete markers.
pub(super) fn objects(records: &impl Records, bucket: &str, query: &Query) -> Outcome<Listing> {
    let mut listing = Listing::default();
    let mut from = start(query);
    'pages: loop {
        let page = records.values(bucket, &query.prefix, &from, PAGE)?;
        let is_last = page.len() < PAGE;
        let mut last_key = String::new();
        for (row, json) in page {
            let key = row.split(VERSION_SEPARATOR).next().unwrap_or_default().to_owned();
            last_key.clone_from(&key);
            from = format!("{row}\0");
            if row.contains(VERSION_SEPARATOR) {
                continue;
            }
            let md = match versioning::parse_master(&json)? {
                Master::Object(md) => Some(md),
                Master::Placeholder(_) => versioning::newest(records, bucket, &key)?,
            };
            let Some(md) = md.filter(|md| !md.is_delete_marker()) else { continue };
            if listing.len() == query.max {
                listing.is_truncated = query.max > 0;
                return Ok(listing);
            }
            if let Some(prefix) = common_prefix(query, &key) {
                listing.prefixes.push(prefix.to_owned());
                from = after_all(prefix);
                continue 'pages;
            }
            listing.entries.push(Entry { key, md, is_latest: true });
        }
        if is_last {
            return Ok(listing);
        }
        // Where a page ends among the versions of a key, the rest of them is skipped.
        if from.contains(VERSION_SEPARATOR) {
            from = format!("{last_key}\u{1}");
        }
    }
}

/// Every version and delete marker, newest first within a key.
pub(super) fn versions(records: &impl Records, bucket: &str, query: &Query) -> Outcome<Listing> {
    let mut listing = Listing::default();
    let mut from = start(query);
    let mut after_version = query.after_version.clone();
    loop {
        // The next key, whichever of its rows comes first.
        let Some((row, _)) = records.values(bucket, &query.prefix, &from, 1)?.pop() else {
            return Ok(listing);
        };
        let key = row.split(VERSION_SEPARATOR).next().unwrap_or_default().to_owned();
        if let Some(prefix) = common_prefix(query, &key) {
            if listing.len() == query.max {
                listing.is_truncated = query.max > 0;
                return Ok(listing);
            }
            listing.prefixes.push(prefix.to_owned());
            from = after_all(prefix);
            continue;
        }
        let after = after_version.take().filter(|_| query.after.as_deref() == Some(key.as_str()));
        if !of_key(records, bucket, &key, after.as_ref(), query.max, &mut listing)? {
            listing.is_truncated = query.max > 0;
            return Ok(listing);
        }
        from = format!("{key}\u{1}");
    }
}

/// Appends the versions of one key; answers false if they do not all fit.
fn of_key(
    records: &impl Records,
    bucket: &str,
    key: &str,
    after: Option<&Wanted>,
    max: usize,
    listing: &mut Listing,
) -> Outcome<bool> {
    let master = versioning::master(records, bucket, key)?;
    let mut push = |md: ObjectMd, is_latest: bool| {
        if listing.len() == max {
            return false;
        }
        listing.entries.push(Entry { key: key.to_owned(), md, is_latest });
        true
    };
    let mut latest: Option<VersionId> = None;
    let mut is_first_latest = false;
    match master {
        Some(Master::Object(md)) => {
            let has_own_key = match md.version_id() {
                Some(id) => versioning::version(records, bucket, key, id)?.is_some(),
                None => false,
            };
            if has_own_key {
                latest = md.version_id().cloned();
            } else if after.is_none() && !push(md, true) {
                return Ok(false);
            }
        }
        Some(Master::Placeholder(_)) => is_first_latest = true,
        None => {}
    }
    let prefix = format!("{key}{VERSION_SEPARATOR}");
    let mut from = match after {
        Some(Wanted::Version(id)) => format!("{}\0", versioning::version_key(key, id)),
        Some(Wanted::Null) => {
            match versioning::lookup(records, bucket, key, &Wanted::Null)?.as_ref().map(ObjectMd::version_id)
            {
                // A null version that a newer one covers has a version key of its own.
                Some(Some(id)) if versioning::version(records, bucket, key, id)?.is_some() => {
                    format!("{}\0", versioning::version_key(key, id))
                }
                Some(_) | None => prefix.clone(),
            }
        }
        Some(Wanted::Current) | None => prefix.clone(),
    };
    is_first_latest &= after.is_none();
    loop {
        let page = records.values(bucket, &prefix, &from, PAGE)?;
        let is_last = page.len() < PAGE;
        for (row, json) in page {
            let md = ObjectMd::parse(&json)?;
            let is_latest = is_first_latest || (latest.is_some() && md.version_id() == latest.as_ref());
            is_first_latest = false;
            if !push(md, is_latest) {
                return Ok(false);
            }
            from = format!("{row}\0");
        }
        if is_last {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_after_everything_in_it() {
        for prefix in ["a/", "é", "\u{D7FF}", "a\u{10FFFF}"] {
            let end = after_all(prefix);
            assert!(end > format!("{prefix}\u{10FFFF}"), "{prefix:?}");
            assert!(end.as_bytes() > prefix.as_bytes(), "{prefix:?}");
        }
    }
}
