//! The source site: versions with metadata, and the journal of everything written to it.
//!
//! Contract relied on (as CloudServer and the embedded site behave; replication reference 3, captures of its record log):
//! - A put creates a version; its metadata asks for replication to every site of the bucket's rule and is written as the
//!   master key and as the version key, each a record of the journal, in this order.
//! - A change of metadata or tags rewrites the version key (and the master key if the version is the latest) and asks for
//!   replication again: every site PENDING, overall PENDING, `content` without DATA.
//! - Where the world has null versions, every key holds one object that is older than the replication of its bucket: written
//!   before versioning was enabled (no version id) or while it was suspended (an id of its own, `isNull`). CloudServer refuses to
//!   suspend versioning under a replication configuration, so no others come. Such an object is a master key only, until a new
//!   version covers it: then it moves to a version key (under the infinite id if it had none), logged twice. It asks for
//!   replication once a client changes it. A status write on an object without an id marks it `isNull`.
//! - Deleting a version removes its keys; the journal holds delete records, and nothing is replicated.
//! - The engine's own metadata writes appear in the journal like any other; they are conditional on the state read.
//! - A status write arrives before its sender gives up, or never: the connection ends with the sender's patience. Nobody
//!   doubles it. (A site's status may go FAILED, PENDING, FAILED when an operator retries; a write that was under way during all
//!   of that would meet the state it names once more.)
//! - Journal records have consecutive numbers. The journal may be read from any number not yet forgotten, and says which one is
//!   the oldest. It may forget more than was read, and be replaced by another journal, which has other numbers, another epoch,
//!   and nothing of what was in the first one.

mod records;

pub use records::JournalRecord;

use std::fmt::Write as _;

use backbeat_core::id::{Bucket, ObjectKey, Site};
use backbeat_core::model::{
    Backend, ContentFlag, Location, LogEntry, LogRecord, ObjectMd, ObjectRef, OverallStatus, RawJson,
    ReplicationInfo, SiteStatus, StoredValue, VersionRef, version_key,
};
use smol_str::SmolStr;

use super::process::WALL_START;
use crate::ids::{KeyId, VerId};
use crate::names::{INFINITE_ID, version_id};
use crate::plan::{Change, NullOrigin, Put};
use records::{Era, asks, asks_as_master};

/// The source bucket.
pub const SOURCE_BUCKET: &str = "src";
/// The bucket at every target.
pub const TARGET_BUCKET: &str = "dst";
/// The roles in every replication configuration.
pub const ROLE: &str = "arn:aws:iam::1:role/source,arn:aws:iam::2:role/target";

/// One version at the source.
#[derive(Debug)]
pub struct SourceVersion {
    /// Its key.
    pub key: KeyId,
    /// How the engine names it.
    pub object: ObjectRef,
    /// Its metadata; `None` once deleted.
    pub md: Option<ObjectMd>,
    /// Whether it is the null version of its key, and if so, where it is.
    pub null: Option<NullPlace>,
    /// Its version key, once it was written.
    full_key: Option<SmolStr>,
    /// Whether its tags were removed once.
    pub untagged: bool,
    /// Its metadata before the engine's last status write: what a stale read sees. A client's change is never missed, nor one that comes
    /// back.
    pub before: Option<ObjectMd>,
    /// When the engine wrote last, in microseconds: no read is staler than [`STALE_MAX`].
    pub written_at: u64,
}

/// How old a stale read may be, in microseconds. What a populator has to remember (`WatchLimits`) rests on it.
pub const STALE_MAX: u64 = 1_000_000;

/// Where a null version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullPlace {
    /// Under the master key alone.
    Master,
    /// Under a version key: a newer version covers it, or did.
    VersionKey,
}

/// The members of a version's metadata that must be equal at a replica.
pub const MEMBERS: [&str; 10] = [
    "microVersionId",
    "content-length",
    "content-md5",
    "acl",
    "key",
    "isDeleteMarker",
    "tags",
    "last-modified",
    "x-amz-meta-color",
    "versionId",
];

/// The source site.
#[derive(Debug)]
pub struct SourceSite {
    bucket: Bucket,
    keys: Vec<ObjectKey>,
    latest: Vec<Option<VerId>>,
    /// Every version ever created, by id.
    pub versions: Vec<SourceVersion>,
    /// Every record that any journal of this source ever had.
    pub journal: Vec<JournalRecord>,
    /// The journals, one after the other.
    eras: Vec<Era>,
    /// Refuses reads before this time.
    pub denied_until: u64,
    /// The replication rule is disabled before this time.
    pub rule_disabled_until: u64,
    /// The journal answers nothing before this time.
    pub journal_stalled_until: u64,
    /// Whether journal records hold whole documents.
    wire: bool,
    /// Whether every change gets a `microVersionId` of its own, and how many there were.
    marks_changes: bool,
    changes: u64,
    asked_with_data: ReplicationInfo,
    asked_without_data: ReplicationInfo,
    /// A record without entries: its bucket, and a commit time on which nothing depends.
    blank: LogRecord,
    /// The values that records hold in runs that do not go over the wire, by what they say.
    values: Vec<((bool, bool, OverallStatus), StoredValue)>,
    /// What the metadata of every new version starts from.
    template: ObjectMd,
}

/// The members that a put does not decide have their final values.
const TEMPLATE: &str = r#"{"owner-display-name":"Bart","owner-id":"79a59df900b949e5","content-length":0,"content-md5":"","acl":{"Canned":"private"},"key":"","location":null,"isDeleteMarker":false,"tags":{"team":"first"},"replicationInfo":{},"dataStoreName":"us-east-1","originOp":"","last-modified":"","x-amz-meta-color":"blue","versionId":""}"#;

/// The digest of a part: a name, as there are no bytes.
fn digest(version: u64, part: u64) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = vec![0; 32];
    let bytes = version.to_be_bytes().into_iter().chain(part.to_be_bytes());
    for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
    }
    String::from_utf8(text).expect("digits")
}

/// A letter and a number.
fn lettered(letter: char, number: u64) -> String {
    let mut text = String::with_capacity(24);
    write!(text, "{letter}{number}").expect("memory takes everything");
    text
}

impl SourceSite {
    /// An empty site whose bucket replicates to `sites`.
    pub fn new(keys: Vec<ObjectKey>, sites: &[Site], wire: bool, marks_changes: bool) -> Self {
        let latest = vec![None; keys.len()];
        let backends = || sites.iter().map(|site| Backend::new(site.clone(), SiteStatus::Pending)).collect();
        let names: Vec<&str> = sites.iter().map(Site::as_str).collect();
        let destination = format!("arn:aws:s3:::{TARGET_BUCKET}");
        let asked = |content| {
            ReplicationInfo::new(
                OverallStatus::Pending,
                backends(),
                content,
                &destination,
                &names.join(","),
                ROLE,
                "",
            )
        };
        let asked_with_data = asked(vec![ContentFlag::Data, ContentFlag::Metadata]);
        let asked_without_data = asked(vec![ContentFlag::Metadata]);
        let template = ObjectMd::parse(TEMPLATE).expect("the template is valid");
        // Digests of all that follows are corrections of the template's.
        template.revision();
        Self {
            bucket: Bucket::from(SOURCE_BUCKET),
            keys,
            latest,
            versions: Vec::with_capacity(256),
            journal: Vec::with_capacity(2048),
            eras: vec![Era::original()],
            denied_until: 0,
            rule_disabled_until: 0,
            journal_stalled_until: 0,
            wire,
            marks_changes,
            changes: 0,
            asked_with_data,
            asked_without_data,
            blank: LogRecord {
                timestamp: Some("2026-11-20T16:26:15Z".into()),
                db: Bucket::from(SOURCE_BUCKET),
                entries: Vec::new(),
            },
            values: Vec::new(),
            template,
        }
    }

    /// The versions of `key` that exist, oldest first.
    pub fn existing(&self, key: KeyId) -> impl Iterator<Item = VerId> + '_ {
        (0_u32..)
            .zip(&self.versions)
            .filter(move |(_, version)| version.key == key && version.md.is_some())
            .map(|(id, _)| VerId(id))
    }

    /// The metadata of a version.
    pub fn md(&self, version: VerId) -> Option<&ObjectMd> {
        self.versions.get(version.index())?.md.as_ref()
    }

    /// The replication state that a client's operation gives a version.
    fn asked(&self, with_data: bool) -> ReplicationInfo {
        if with_data { self.asked_with_data.clone() } else { self.asked_without_data.clone() }
    }

    /// Creates the null version of a key, which never asked for replication. They come before everything else, in the order of
    /// the keys.
    pub fn place_null(&mut self, key: KeyId, origin: NullOrigin) -> VerId {
        let version = self.put(0, key, Put::Null(origin));
        assert_eq!(version.index(), key.index(), "null versions come first, in the order of the keys");
        version
    }

    /// Gives the null version of a key a version key of its own before a new version covers it.
    fn cover_null(&mut self, key: KeyId) {
        let Some(version) = self.latest[key.index()] else { return };
        let stored = &mut self.versions[version.index()];
        if stored.null != Some(NullPlace::Master) {
            return;
        }
        let md = stored.md.as_ref().expect("what is latest exists");
        let id = md.version_id().map_or(INFINITE_ID, |id| id.as_str());
        let md = md.with_members(&[("versionId", RawJson::string(id)), ("isNull", RawJson::bool(true))]);
        stored.null = Some(NullPlace::VersionKey);
        stored.object.version = VersionRef::Null;
        stored.before = None;
        stored.md = Some(md.clone());
        let full_key = self.full_key(version, &md);
        let text = self.journaled(&md);
        for _ in 0..2 {
            self.append(version, LogEntry::put(full_key.clone(), text.clone()), Some(md.clone()), asks(&md));
        }
    }

    /// The version key of a version with this metadata.
    fn full_key(&mut self, version: VerId, md: &ObjectMd) -> SmolStr {
        let stored = &mut self.versions[version.index()];
        let compose = || {
            let id = md.version_id().expect("what has a version key has an id");
            version_key(&self.keys[stored.key.index()], id.as_str()).into()
        };
        stored.full_key.get_or_insert_with(compose).clone()
    }

    /// Creates a version. Returns it.
    pub fn put(&mut self, now: u64, key: KeyId, put: Put) -> VerId {
        let version = VerId(u32::try_from(self.versions.len()).expect("few versions"));
        self.cover_null(key);
        let id = version_id(version);
        let object_key = &self.keys[key.index()];
        let object = ObjectRef {
            bucket: self.bucket.clone(),
            key: object_key.clone(),
            version: match put {
                Put::Null(NullOrigin::Unversioned) => VersionRef::Unversioned,
                Put::Null(NullOrigin::Suspended) => VersionRef::Null,
                Put::Whole | Put::Multipart(_) | Put::Empty | Put::Marker | Put::Replica => {
                    VersionRef::Version(id.clone())
                }
            },
        };
        let digest = |part: u32| digest(u64::from(version.0) + 1, part.into());
        let (locations, md5, length) = match put {
            Put::Empty => (Vec::new(), "d41d8cd98f00b204e9800998ecf8427e".to_owned(), 0),
            Put::Marker => (Vec::new(), String::new(), 0),
            Put::Whole | Put::Replica | Put::Null(_) => {
                let size = 100 + u64::from(version.0);
                let location =
                    Location::new(&lettered('d', version.0.into()), 0, size, "us-east-1", 1, &digest(1));
                (vec![location], digest(1), size)
            }
            Put::Multipart(parts) => {
                let size = 5 << 20;
                let locations: Vec<Location> = (1..=parts)
                    .map(|part| {
                        let data_key = format!("d{}p{part}", version.0);
                        Location::new(
                            &data_key,
                            u64::from(part - 1) * size,
                            size,
                            "us-east-1",
                            part,
                            &digest(part),
                        )
                    })
                    .collect();
                (locations, format!("{}-{parts}", digest(0)), size * u64::from(parts))
            }
        };
        let has_data = !locations.is_empty();
        let replication = match put {
            Put::Replica => self.asked(has_data).with_status(OverallStatus::Replica),
            Put::Null(_) => ReplicationInfo::default(),
            Put::Whole | Put::Multipart(_) | Put::Empty | Put::Marker => self.asked(has_data),
        };
        let stamp = u64::try_from(WALL_START).expect("positive") + now / 1_000;
        let marker = put == Put::Marker;
        let operation = if marker { "s3:ObjectRemoved:DeleteMarkerCreated" } else { "s3:ObjectCreated:Put" };
        let members = [
            ("content-length", RawJson::number(length)),
            ("content-md5", RawJson::string(&md5)),
            ("key", RawJson::string(object_key.as_str())),
            ("isDeleteMarker", RawJson::bool(marker)),
            ("last-modified", RawJson::string(&lettered('t', stamp))),
            ("versionId", RawJson::string(id.as_str())),
        ];
        let md = self.template.with_members(&members).with_origin_op(operation);
        let md = md.with_location(locations).with_replication(replication);
        let md = match put {
            Put::Null(NullOrigin::Unversioned) => md.without_member("versionId"),
            Put::Null(NullOrigin::Suspended) => md.with_members(&[("isNull", RawJson::bool(true))]),
            Put::Whole | Put::Multipart(_) | Put::Empty | Put::Marker | Put::Replica => md,
        };
        self.versions.push(SourceVersion {
            key,
            object,
            null: matches!(put, Put::Null(_)).then_some(NullPlace::Master),
            md: Some(md.clone()),
            full_key: None,
            untagged: false,
            before: None,
            written_at: 0,
        });
        self.latest[key.index()] = Some(version);
        self.record(version, &md);
        version
    }

    /// Changes a version as a client does. Returns false if it does not exist.
    pub fn change(&mut self, version: VerId, change: Change) -> bool {
        let Some(md) = self.md(version).cloned() else { return false };
        let raw = |text: String| RawJson::parse(&text).expect("valid JSON");
        let (name, value) = match change {
            Change::Tags(tag) => ("tags", raw(format!(r#"{{"team":"t{tag}"}}"#))),
            Change::NoTags => ("tags", raw("{}".to_owned())),
            Change::Acl(acl) => (
                "acl",
                raw(format!(
                    r#"{{"Canned":"acl-{acl}","FULL_CONTROL":[],"WRITE_ACP":[],"READ":[],"READ_ACP":[]}}"#
                )),
            ),
            Change::Replica => ("tags", raw(r#"{"from":"elsewhere"}"#.to_owned())),
        };
        let origin = match change {
            Change::Tags(_) => "s3:ObjectTagging:Put",
            Change::NoTags => "s3:ObjectTagging:Delete",
            Change::Acl(_) => "s3:ObjectAcl:Put",
            Change::Replica => "s3:ObjectCreated:Put",
        };
        self.changes += 1;
        let mut members = vec![(name, value)];
        if self.marks_changes {
            members.push(("microVersionId", RawJson::string(&format!("{:016x}", self.changes))));
        }
        let mut md = md.with_members(&members).with_origin_op(origin);
        if change == Change::Replica {
            md = md.with_replication(md.replication().with_status(OverallStatus::Replica));
        } else if *md.replication().status() != OverallStatus::Replica {
            // Ids that targets gave are kept (replication reference 3.5).
            let known =
                md.replication().backends().iter().filter(|site| !site.data_store_version_id.is_empty());
            let asked = known.fold(self.asked(false), |asked, site| {
                asked.with_site_version_id(&site.site, &site.data_store_version_id)
            });
            md = md.with_replication(asked);
        }
        self.write(version, &md);
        let stored = &mut self.versions[version.index()];
        stored.before = None;
        stored.untagged |= change == Change::NoTags;
        true
    }

    /// Stores metadata that the engine writes and journals it.
    pub fn write(&mut self, version: VerId, md: &ObjectMd) {
        let stored = &mut self.versions[version.index()];
        // The site keeps its own account of which version this is.
        let named = stored.null.map(|_| {
            let md = md.with_members(&[("isNull", RawJson::bool(true))]);
            match stored.md.as_ref().and_then(ObjectMd::version_id) {
                Some(id) => md.with_members(&[("versionId", RawJson::string(id.as_str()))]),
                None => md.without_member("versionId"),
            }
        });
        let md = named.as_ref().unwrap_or(md);
        stored.before = stored.md.replace(md.clone()).filter(|_| !asks(md));
        self.record(version, md);
    }

    /// Deletes a version. Returns false if it does not exist.
    pub fn delete(&mut self, version: VerId) -> bool {
        let stored = &mut self.versions[version.index()];
        if stored.md.is_none() {
            return false;
        }
        stored.before = stored.md.take();
        let key = stored.key;
        let object_key = self.keys[key.index()].clone();
        if stored.null != Some(NullPlace::Master) {
            let md = stored.before.clone().expect("just taken");
            let full_key = self.full_key(version, &md);
            self.append(version, LogEntry::del(full_key), None, false);
        }
        if self.latest[key.index()] == Some(version) {
            self.latest[key.index()] = self.existing(key).last();
            if let Some(next) = self.latest[key.index()] {
                let md = self.md(next).cloned().expect("existing versions have metadata");
                let asks = asks_as_master(&md);
                let value = self.journaled(&md);
                self.append(next, LogEntry::put(object_key.as_str(), value), Some(md), asks);
            } else {
                self.append(version, LogEntry::del(object_key.as_str()), None, false);
            }
        }
        true
    }
}
