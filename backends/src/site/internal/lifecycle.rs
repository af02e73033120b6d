//! Listings for lifecycle: current objects, versions that are not current, and delete markers without versions (wire
//! reference 1.10).

use super::answer::json;
use super::request::Target;
use crate::site::bucket;
use crate::site::config::Account;
use crate::site::error::{Outcome, Refusal};
use crate::site::listing::{self, Entry, Query};
use crate::site::metadata::Site;
use crate::site::object::shown_version;
use crate::site::uri::parameter;
use crate::site::versioning::Wanted;
use backbeat_core::model::ObjectMd;
use http::{StatusCode, Uri};
use s3s::{Body, S3Request, S3Response};
use serde::Serialize;

/// Entries that one listing looks at.
const SCANNED_MAX: usize = 10_000;
/// Entries that one listing answers.
const KEYS_MAX: usize = 1000;
/// Entries that are read at once.
const PAGE: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Current,
    Noncurrent,
    Orphan,
}

/// What a request asks for.
struct Asked {
    kind: Kind,
    max_keys: usize,
    scanned_max: usize,
    prefix: Option<String>,
    before_date: Option<String>,
    marker: Option<String>,
    key_marker: Option<String>,
    version_id_marker: Option<String>,
    excluded: Option<String>,
}

impl Asked {
    fn of(uri: &Uri, site: &Site) -> Outcome<Self> {
        let text = |name: &str| parameter(uri, name).filter(|value| !value.is_empty());
        let kind = match text("list-type").as_deref() {
            None => return Err(Refusal::bad_request("missing list-type query parameter")),
            Some("current") => Kind::Current,
            Some("noncurrent") => Kind::Noncurrent,
            Some("orphan") => Kind::Orphan,
            Some(other) => {
                let problem = format!("invalid list-type query parameter: {other}");
                return Err(Refusal::bad_request(&problem));
            }
        };
        let number = |name: &str, default: usize, range: std::ops::RangeInclusive<usize>| match text(name) {
            None => Ok(default),
            Some(text) => {
                text.parse().ok().filter(|number| range.contains(number)).ok_or(Refusal::invalid_argument())
            }
        };
        let scanned_min = if kind == Kind::Current { 1 } else { 3 };
        let excluded = text("excluded-data-store-name").filter(|_| kind != Kind::Orphan);
        if let Some(name) = &excluded
            && *name != site.config().data_store_name
            && site.location(name).is_none()
        {
            return Err(Refusal {
                code: "InvalidLocationConstraint",
                ..Refusal::invalid_argument()
            }
            .with_message(format!(
                "value of the location you are attempting to set - {name} - is not listed in the locationConstraint config"
            )));
        }
        Ok(Self {
            kind,
            max_keys: number("max-keys", KEYS_MAX, 0..=usize::MAX)?,
            scanned_max: number(
                "max-scanned-lifecycle-listing-entries",
                SCANNED_MAX,
                scanned_min..=SCANNED_MAX,
            )?,
            prefix: text("prefix"),
            before_date: text("before-date"),
            marker: text("marker"),
            key_marker: text("key-marker"),
            version_id_marker: text("version-id-marker"),
            excluded,
        })
    }

    /// Where the scan starts.
    fn query(&self) -> Outcome<Query> {
        let (after, after_version) = match self.kind {
            Kind::Current | Kind::Orphan => (self.marker.clone(), None),
            Kind::Noncurrent => {
                let version = self.version_id_marker.as_deref().filter(|_| self.key_marker.is_some());
                let version = version.map(|encoded| Wanted::parse(Some(encoded))).transpose()?;
                (self.key_marker.clone(), version)
            }
        };
        let prefix = self.prefix.clone().unwrap_or_default();
        Ok(Query { prefix, delimiter: None, max: PAGE, after, after_version })
    }

    /// Strictly earlier, compared as text: both are ISO 8601 in UTC.
    fn is_due(&self, date: &str) -> bool {
        self.before_date.as_deref().is_none_or(|before| date < before)
    }

    fn is_excluded(&self, md: &ObjectMd) -> bool {
        self.excluded.as_deref().is_some_and(|name| md.data_store_name() == name)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Owner {
    #[serde(rename = "ID")]
    id: String,
    display_name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

/// An entry, with its members in the order in which upstream writes them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    key: String,
    last_modified: String,
    #[serde(rename = "ETag", skip_serializing_if = "Option::is_none")]
    e_tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    owner: Owner,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag_set: Option<Vec<Tag>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_latest: Option<bool>,
    #[serde(rename = "staleDate", skip_serializing_if = "Option::is_none")]
    stale_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_store_name: Option<String>,
    list_type: Kind,
}

impl Listed {
    fn new(kind: Kind, entry: &Entry, is_versioned: bool, stale_date: Option<String>) -> Self {
        let md = &entry.md;
        let has_content = kind != Kind::Orphan;
        let tag = |(key, value)| Tag { key, value };
        Self {
            key: entry.key.clone(),
            last_modified: md.last_modified().to_owned(),
            e_tag: has_content.then(|| format!("\"{}\"", md.content_md5())),
            size: has_content.then(|| md.content_length()),
            owner: Owner { id: md.owner_id().to_owned(), display_name: md.text("owner-display-name") },
            storage_class: has_content
                .then(|| md.text("x-amz-storage-class").unwrap_or_else(|| "STANDARD".to_owned())),
            tag_set: has_content.then(|| md.tags().into_iter().map(tag).collect()),
            is_latest: (kind != Kind::Noncurrent).then_some(true),
            stale_date,
            version_id: shown_version(is_versioned, md),
            data_store_name: has_content.then(|| md.data_store_name().to_owned()),
            list_type: kind,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    max_keys: usize,
    max_scanned_lifecycle_listing_entries: usize,
    is_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id_marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_key_marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_version_id_marker: Option<String>,
    contents: Vec<Listed>,
}

/// Answers one listing.
pub(super) fn list(
    site: &Site,
    request: &S3Request<Body>,
    target: &Target,
    account: &Account,
) -> Outcome<S3Response<Body>> {
    let asked = Asked::of(&request.uri, site)?;
    let answer = site.read(|txn| {
        let bucket = bucket::open(txn, &target.bucket, account)?;
        if asked.kind != Kind::Current && !bucket.is_versioned() {
            return Err(Refusal::invalid_request("bucket is not versioned"));
        }
        let mut scan = Scan::new(&asked, bucket.is_versioned());
        let mut query = asked.query()?;
        // A noncurrent entry is stale since the one before it, which a marker may stand on.
        if let (Kind::Noncurrent, Some(key), Some(wanted)) = (asked.kind, &query.after, &query.after_version)
        {
            let md = crate::site::versioning::lookup(txn, &bucket.name, key, wanted)?;
            scan.newer = md.map(|md| (key.clone(), md.last_modified().to_owned()));
        }
        loop {
            let page = match asked.kind {
                Kind::Current => listing::objects(txn, &bucket.name, &query)?,
                Kind::Noncurrent | Kind::Orphan => listing::versions(txn, &bucket.name, &query)?,
            };
            for entry in &page.entries {
                if scan.is_full(entry) {
                    return Ok(scan.answer(&bucket.name, true));
                }
                scan.look(entry);
            }
            let Some(last) = page.entries.last().filter(|_| page.is_truncated) else { break };
            query.after = Some(last.key.clone());
            let version = shown_version(true, &last.md);
            query.after_version = match asked.kind {
                Kind::Current => None,
                Kind::Noncurrent | Kind::Orphan => Some(Wanted::parse(version.as_deref())?),
            };
        }
        scan.settle_orphan();
        let is_truncated = scan.is_over();
        Ok(scan.answer(&bucket.name, is_truncated))
    })?;
    let body = serde_json::to_vec(&answer).map_err(|_| Refusal::internal())?;
    Ok(json(StatusCode::OK, body))
}

/// A scan under way.
struct Scan<'a> {
    asked: &'a Asked,
    is_versioned: bool,
    keys_max: usize,
    scanned: usize,
    /// Key and date of the entry before: the newer version of the next one, if the key is the same.
    newer: Option<(String, String)>,
    /// A delete marker that is an orphan if no other entry of its key comes.
    orphan: Option<Entry>,
    /// The last entry that was looked at: where the next page goes on if the budget is spent.
    looked_at: Option<Entry>,
    /// The last entry that is listed: where the next page goes on if this one is full.
    listed: Option<Entry>,
    found: Vec<Listed>,
    /// One more than fits was found.
    is_over: bool,
}

impl<'a> Scan<'a> {
    fn new(asked: &'a Asked, is_versioned: bool) -> Self {
        Self {
            asked,
            is_versioned,
            keys_max: asked.max_keys.min(KEYS_MAX),
            scanned: 0,
            newer: None,
            orphan: None,
            looked_at: None,
            listed: None,
            found: Vec::new(),
            is_over: asked.max_keys == 0,
        }
    }

    /// True where the page ends before this entry.
    fn is_full(&mut self, entry: &Entry) -> bool {
        if self.orphan.as_ref().is_some_and(|orphan| orphan.key != entry.key) {
            self.settle_orphan();
        }
        self.is_over || self.scanned >= self.asked.scanned_max
    }

    fn is_over(&self) -> bool {
        self.is_over && self.asked.max_keys > 0
    }

    fn add(&mut self, entry: &Entry, stale_date: Option<String>) {
        if self.found.len() == self.keys_max {
            self.is_over = true;
            return;
        }
        self.found.push(Listed::new(self.asked.kind, entry, self.is_versioned, stale_date));
        self.listed = Some(entry.clone());
        self.looked_at = Some(entry.clone());
    }

    fn look(&mut self, entry: &Entry) {
        self.scanned += 1;
        let md = &entry.md;
        match self.asked.kind {
            Kind::Current => {
                if self.asked.is_due(md.last_modified()) && !self.asked.is_excluded(md) {
                    self.add(entry, None);
                }
            }
            Kind::Noncurrent => {
                let newer = self.newer.replace((entry.key.clone(), md.last_modified().to_owned()));
                let stale = newer.filter(|(key, _)| *key == entry.key).map(|(_, date)| date);
                if let Some(stale) = stale
                    && self.asked.is_due(&stale)
                    && !self.asked.is_excluded(md)
                {
                    self.add(entry, Some(stale));
                }
            }
            Kind::Orphan => {
                // Any second entry of the key, and the first is no orphan.
                let is_first = self.newer.as_ref().is_none_or(|(key, _)| *key != entry.key);
                self.newer = Some((entry.key.clone(), String::new()));
                self.orphan = (is_first && md.is_delete_marker()).then(|| entry.clone());
            }
        }
        // A page must not end behind a delete marker that nothing is decided about yet.
        if !self.is_over && self.orphan.is_none() {
            self.looked_at = Some(entry.clone());
        }
    }

    fn settle_orphan(&mut self) {
        let Some(entry) = self.orphan.take() else { return };
        if self.asked.is_due(entry.md.last_modified()) {
            self.add(&entry, None);
        } else {
            self.looked_at = Some(entry);
        }
    }

    fn answer(self, bucket: &str, is_truncated: bool) -> Answer {
        let is_truncated = is_truncated && self.asked.max_keys > 0;
        let last = if self.is_over { self.listed } else { self.looked_at }.filter(|_| is_truncated);
        let next_key = last.as_ref().map(|entry| entry.key.clone());
        let next_version = last.as_ref().and_then(|entry| shown_version(true, &entry.md));
        let is_noncurrent = self.asked.kind == Kind::Noncurrent;
        Answer {
            name: bucket.to_owned(),
            prefix: self.asked.prefix.clone(),
            max_keys: self.asked.max_keys,
            max_scanned_lifecycle_listing_entries: self.asked.scanned_max,
            is_truncated,
            before_date: self.asked.before_date.clone(),
            marker: self.asked.marker.clone().filter(|_| !is_noncurrent),
            next_marker: next_key.clone().filter(|_| !is_noncurrent),
            key_marker: self.asked.key_marker.clone().filter(|_| is_noncurrent),
            version_id_marker: self.asked.version_id_marker.clone().filter(|_| is_noncurrent),
            next_key_marker: next_key.filter(|_| is_noncurrent),
            next_version_id_marker: next_version.filter(|_| is_noncurrent),
            contents: self.found,
        }
    }
}
