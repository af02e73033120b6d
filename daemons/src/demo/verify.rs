//! The proof: every version of the bucket, read back at the source and at every site, compared byte by byte (by digest)
//! and header by header.

use super::listing::ListedVersion;
use super::site::{Latest, Site, Stored};
use super::units::key;
use super::writer::Written;
use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Versions read at the same time.
const READS_MAX: usize = 6;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Difference {
    /// Where: `source` or the name of a site.
    pub(super) site: String,
    /// The key.
    pub(super) key: String,
    /// The version; nothing if the key itself is meant.
    pub(super) version: Option<String>,
    /// What is wrong.
    pub(super) what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.site, key(&self.key))?;
        if let Some(version) = &self.version {
            write!(formatter, " version {version}")?;
        }
        write!(formatter, ": {}", self.what)
    }
}

/// What was compared and what came out.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Versions that were found at the source.
    pub(super) versions: usize,
    /// Delete markers among them.
    pub(super) markers: usize,
    /// Keys.
    pub(super) keys: usize,
    /// Bytes of all versions at the source.
    pub(super) bytes: u64,
    /// Copies that are equal to their source, and all that should be.
    pub(super) equal: usize,
    /// See `equal`.
    pub(super) copies: usize,
    /// What is not as it should be, in order.
    pub(super) differences: Vec<Difference>,
    /// Site, key and version of what the listings lack.
    pub(super) missing: BTreeSet<(String, String, String)>,
}

impl Verdict {
    /// Whether the listings have shown already that a site does not have a version.
    fn is_missing(&self, site: &str, row: &ListedVersion) -> bool {
        self.missing.contains(&(site.to_owned(), row.key.clone(), row.version.clone()))
    }

    fn differs(&mut self, site: &str, key: &str, version: Option<&str>, what: impl Into<String>) {
        self.differences.push(Difference {
            site: site.to_owned(),
            key: key.to_owned(),
            version: version.map(str::to_owned),
            what: what.into(),
        });
    }
}

/// The place to compare: a bucket at the source, its copy at the sites.
pub(super) struct Place<'a> {
    /// The source.
    pub(super) source: &'a Site,
    /// The sites.
    pub(super) targets: &'a [Site],
    /// The bucket at the source.
    pub(super) bucket: &'a str,
    /// The bucket at the sites.
    pub(super) copy: &'a str,
}

/// Compares everything with everything: what was `written` with the source, the source with every site.
pub(super) async fn verify(place: &Place<'_>, written: &[Written]) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let at_source = place.source.versions(place.bucket).await?;
    verdict.versions = at_source.len();
    verdict.markers = at_source.iter().filter(|row| row.is_marker).count();
    let keys: BTreeSet<&str> = at_source.iter().map(|row| row.key.as_str()).collect();
    verdict.keys = keys.len();

    for site in place.targets {
        compare_listings(&at_source, &site.versions(place.copy).await?, &site.name, &mut verdict);
    }
    let expected: BTreeMap<(&str, &str), &Written> =
        written.iter().map(|written| ((written.key.as_str(), written.version.as_str()), written)).collect();
    for written in written {
        if !at_source.iter().any(|row| row.key == written.key && row.version == written.version) {
            verdict.differs("source", &written.key, Some(&written.version), "written, but gone");
        }
    }

    let mut readings = stream::iter(at_source.iter().filter(|row| !row.is_marker))
        .map(|row| read_everywhere(place, row))
        .buffered(READS_MAX);
    while let Some((row, source, copies)) = readings.try_next().await? {
        verdict.bytes += source.digest.bytes;
        if let Some(Written { content: Some(content), tags, .. }) = expected.get(&(&*row.key, &*row.version))
        {
            let differs = |what: &str, verdict: &mut Verdict| {
                verdict.differs("source", &row.key, Some(&row.version), what);
            };
            if source.digest != content.digest() {
                differs("other bytes than were written", &mut verdict);
            }
            if source.tags != tags.iter().cloned().collect() {
                differs("other tags than were put", &mut verdict);
            }
        }
        for (site, copy) in place.targets.iter().zip(copies) {
            verdict.copies += 1;
            if verdict.is_missing(&site.name, row) {
                continue;
            }
            match copy {
                Ok(copy) => match difference(&source, &copy) {
                    None => verdict.equal += 1,
                    Some(what) => verdict.differs(&site.name, &row.key, Some(&row.version), what),
                },
                Err(error) => verdict.differs(&site.name, &row.key, Some(&row.version), format!("{error:#}")),
            }
        }
    }
    drop(readings);

    let mut currents = stream::iter(keys).map(|key| current_everywhere(place, key)).buffered(READS_MAX);
    while let Some((key, source, copies)) = currents.try_next().await? {
        for (site, copy) in place.targets.iter().zip(copies) {
            if copy != source {
                let what = format!("current version is {copy:?}, at the source {source:?}");
                verdict.differs(&site.name, key, None, what);
            }
        }
    }
    drop(currents);
    verdict.differences.sort();
    Ok(verdict)
}

type Reading<'a> = (&'a ListedVersion, Stored, Vec<Result<Stored>>);

async fn read_everywhere<'a>(place: &Place<'_>, row: &'a ListedVersion) -> Result<Reading<'a>> {
    let source = place.source.read(place.bucket, &row.key, &row.version).await?;
    let mut copies = Vec::new();
    for site in place.targets {
        copies.push(site.read(place.copy, &row.key, &row.version).await);
    }
    Ok((row, source, copies))
}

async fn current_everywhere<'a>(place: &Place<'_>, key: &'a str) -> Result<(&'a str, Latest, Vec<Latest>)> {
    let source = place.source.latest(place.bucket, key).await?;
    let mut copies = Vec::new();
    for site in place.targets {
        copies.push(site.latest(place.copy, key).await?);
    }
    Ok((key, source, copies))
}

/// Compares which versions and markers there are, and which of them are current. Markers are done with after this.
fn compare_listings(source: &[ListedVersion], copy: &[ListedVersion], site: &str, verdict: &mut Verdict) {
    let rows = |list: &[ListedVersion]| -> BTreeMap<(String, String), (bool, bool)> {
        let row =
            |row: &ListedVersion| ((row.key.clone(), row.version.clone()), (row.is_marker, row.is_latest));
        list.iter().map(row).collect()
    };
    let (source, copy) = (rows(source), rows(copy));
    for ((key, version), (is_marker, is_latest)) in &source {
        verdict.copies += usize::from(*is_marker);
        match copy.get(&(key.clone(), version.clone())) {
            None => {
                verdict.missing.insert((site.to_owned(), key.clone(), version.clone()));
                verdict.differs(site, key, Some(version), "missing");
            }
            Some(found) if found.0 != *is_marker => {
                verdict.differs(site, key, Some(version), "a delete marker on one side only");
            }
            Some(found) if found.1 != *is_latest => {
                verdict.differs(site, key, Some(version), "current on one side only");
            }
            Some(_) => verdict.equal += usize::from(*is_marker),
        }
    }
    for (key, version) in copy.keys() {
        if !source.contains_key(&(key.clone(), version.clone())) {
            verdict.differs(site, key, Some(version), "not at the source");
        }
    }
}

/// What differs between a version and its copy, if anything.
fn difference(source: &Stored, copy: &Stored) -> Option<String> {
    if source.digest != copy.digest {
        let sizes = format!("{} bytes, {} at the source", copy.digest.bytes, source.digest.bytes);
        return Some(format!("other content ({sizes})"));
    }
    if source.tags != copy.tags {
        return Some(format!("tags {:?}, at the source {:?}", copy.tags, source.tags));
    }
    let names: BTreeSet<&String> = source.headers.keys().chain(copy.headers.keys()).collect();
    let name = names.into_iter().find(|name| source.headers.get(*name) != copy.headers.get(*name))?;
    Some(format!(
        "header {name} is {:?}, at the source {:?}",
        copy.headers.get(name),
        source.headers.get(name)
    ))
}

#[cfg(test)]
mod tests {
    use super::super::content::Content;
    use super::*;

    fn row(key: &str, version: &str, is_latest: bool, is_marker: bool) -> ListedVersion {
        ListedVersion { key: key.to_owned(), version: version.to_owned(), is_latest, is_marker }
    }

    fn compared(source: &[ListedVersion], copy: &[ListedVersion]) -> Vec<String> {
        let mut verdict = Verdict::default();
        compare_listings(source, copy, "paris", &mut verdict);
        verdict.differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_listings_have_no_difference() {
        let rows = [row("a", "2", true, true), row("a", "1", false, false)];
        assert!(compared(&rows, &rows).is_empty());
    }

    #[test]
    fn a_missing_a_superfluous_and_a_stale_version_are_named() {
        let source = [row("a", "2", true, true), row("a", "1", false, false), row("b", "1", true, false)];
        let copy = [row("a", "1", true, false), row("b", "1", true, false), row("b", "0", false, false)];
        assert_eq!(
            compared(&source, &copy),
            [
                "paris: \"a\" version 1: current on one side only",
                "paris: \"a\" version 2: missing",
                "paris: \"b\" version 0: not at the source",
            ]
        );
    }

    #[test]
    fn every_kind_of_difference_between_two_versions_is_seen() {
        let stored = |seed, tag: &str, header: &str| Stored {
            digest: Content::new(seed, 10).digest(),
            headers: BTreeMap::from([("content-type".to_owned(), header.to_owned())]),
            tags: BTreeMap::from([("t".to_owned(), tag.to_owned())]),
        };
        let source = stored(1, "a", "x");
        assert_eq!(difference(&source, &source), None);
        assert!(difference(&source, &stored(2, "a", "x")).unwrap().contains("content"));
        assert!(difference(&source, &stored(1, "b", "x")).unwrap().contains("tags"));
        assert!(difference(&source, &stored(1, "a", "y")).unwrap().contains("content-type"));
    }
}
