//! Target sites that mint version ids: plain S3.
//!
//! Contract relied on:
//! - Every put, completed upload and deletion that names no version adds a version with an id of the site's own; the newest is the
//!   current one. A version's bytes and user metadata never change; its tags can be replaced. One version can be removed by its id.
//! - Listings and reads see every write that was applied before.
//! - Where the site honours conditions it compares and writes atomically: `Absent` holds if there is no current version or it is a
//!   delete marker, `Etag` if the current version is an object with this entity tag. Entity tags of equal bytes are equal.
//! - A body whose MD5 is not the announced one is refused.
//! - An open upload holds its parts by number; completing it names them with their entity tags and makes one version; afterwards it
//!   is gone. The version may come without the tags that the upload was begun with, as on Ceph 16 (here: every other upload). An
//!   upload may be dropped at any time by the bucket's own rules.
//! - A request may arrive twice, and late. One that was refused is not carried out later.

use std::collections::BTreeMap;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::model::{ObjectMd, RawJson};
use backbeat_core::request::minting::{CurrentIs, TargetVersion, UploadedPart};

use super::source::SourceSite;
use crate::content::Content;
use crate::ids::{KeyId, VerId};

/// One version.
#[derive(Clone, Debug)]
pub struct MintedVersion {
    /// The site's id for it.
    pub id: u32,
    /// The source version that it was written for.
    pub version: VerId,
    /// What it shows.
    pub md: ObjectMd,
    /// How the engine sees it, but for marker and tags.
    listed: TargetVersion,
    /// Whether a request that nobody answered for any more made it, or tagged it last, so that nobody can mend it for certain.
    pub stray: bool,
}

/// An open upload.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The source version that it was begun for.
    pub version: VerId,
    md: ObjectMd,
    parts: BTreeMap<u32, (u64, String)>,
}

/// What became of an upload.
#[derive(Clone, Debug)]
pub struct Completed {
    /// The source version that it was begun for.
    pub version: VerId,
    /// What the version shows.
    pub md: ObjectMd,
    /// What the upload was begun with.
    pub asked: Content,
}

/// A target site that mints ids.
#[derive(Debug)]
pub struct MintingSite {
    /// Whether conditions are honoured.
    pub conditional: bool,
    /// Versions by key, oldest first.
    keys: BTreeMap<KeyId, Vec<MintedVersion>>,
    uploads: BTreeMap<u32, Upload>,
    last_id: u32,
}

fn refused<T>(kind: RefusalKind, code: &str) -> Ending<T> {
    Ending::Refused(Refusal::new(kind, code))
}

impl MintingSite {
    /// An empty site.
    pub fn new(conditional: bool) -> Self {
        Self { conditional, keys: BTreeMap::new(), uploads: BTreeMap::new(), last_id: 0 }
    }

    /// The versions of a key, oldest first.
    pub fn versions(&self, key: KeyId) -> &[MintedVersion] {
        self.keys.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Whether a conditional request may go ahead.
    pub fn holds(&self, key: KeyId, condition: Option<&CurrentIs>) -> bool {
        let object = self.versions(key).last().filter(|current| !current.md.is_delete_marker());
        match condition {
            Some(CurrentIs::Absent) if self.conditional => object.is_none(),
            Some(CurrentIs::Etag(etag)) if self.conditional => {
                object.is_some_and(|current| current.md.content_md5() == etag)
            }
            None | Some(_) => true,
        }
    }

    /// Adds a version.
    pub fn mint(&mut self, key: KeyId, version: VerId, md: ObjectMd, stray: bool) -> u32 {
        self.last_id += 1;
        let listed = TargetVersion {
            id: self.last_id.to_string().into(),
            marker: None,
            etag: md.content_md5().into(),
            size: md.content_length(),
            is_delete_marker: md.is_delete_marker(),
            tags: BTreeMap::new(),
        };
        let minted = MintedVersion { id: self.last_id, version, md, listed, stray };
        self.keys.entry(key).or_default().push(minted);
        self.last_id
    }

    /// Removes a version. Returns whether it was there.
    pub fn remove(&mut self, key: KeyId, id: u32) -> bool {
        let Some(versions) = self.keys.get_mut(&key) else { return false };
        let before = versions.len();
        versions.retain(|version| version.id != id);
        versions.len() < before
    }

    /// Replaces the tags of a version. Gives what it shows now.
    pub fn tag(
        &mut self,
        key: KeyId,
        id: u32,
        tags: &BTreeMap<String, String>,
        stray: bool,
    ) -> Option<&MintedVersion> {
        let version = self.keys.get_mut(&key)?.iter_mut().find(|version| version.id == id)?;
        let members: Vec<String> = tags
            .iter()
            .map(|(name, value)| {
                format!("{}:{}", RawJson::string(name).as_str(), RawJson::string(value).as_str())
            })
            .collect();
        let tags = RawJson::parse(&format!("{{{}}}", members.join(","))).expect("valid JSON");
        version.md = version.md.with_member("tags", &tags).expect("an untyped member");
        version.stray = stray;
        Some(version)
    }

    /// How the engine sees a version; tags are told of copies of `wanted` only.
    pub fn shown(&self, source: &SourceSite, version: &MintedVersion, wanted: VerId) -> TargetVersion {
        let listed = &version.listed;
        TargetVersion {
            id: listed.id.clone(),
            marker: (!listed.is_delete_marker)
                .then(|| source.versions[version.version.index()].object.version.clone()),
            etag: listed.etag.clone(),
            size: listed.size,
            is_delete_marker: listed.is_delete_marker,
            tags: if version.version == wanted { version.md.tags() } else { BTreeMap::new() },
        }
    }

    /// The open uploads of a key.
    pub fn uploads_of(&self, source: &SourceSite, key: KeyId) -> Vec<u32> {
        let of_key = |upload: &Upload| source.versions[upload.version.index()].key == key;
        self.uploads.iter().filter(|(_, upload)| of_key(upload)).map(|(id, _)| *id).collect()
    }

    /// Begins an upload.
    pub fn begin(&mut self, version: VerId, md: ObjectMd) -> u32 {
        self.last_id += 1;
        self.uploads.insert(self.last_id, Upload { version, md, parts: BTreeMap::new() });
        self.last_id
    }

    /// Stores a part of an upload; one with the same number is replaced.
    pub fn store_part(&mut self, upload: &str, number: u32, size: u64, digest: String) -> Ending<()> {
        let upload = upload.parse().ok().and_then(|id: u32| self.uploads.get_mut(&id));
        let Some(upload) = upload else { return refused(RefusalKind::NotFound, "NoSuchUpload") };
        upload.parts.insert(number, (size, digest));
        Ending::Applied(())
    }

    /// The parts of an upload.
    pub fn parts(&self, upload: &str) -> Ending<Vec<UploadedPart>> {
        let upload = upload.parse().ok().and_then(|id: u32| self.uploads.get(&id));
        let Some(upload) = upload else { return refused(RefusalKind::NotFound, "NoSuchUpload") };
        let part = |(number, (size, etag)): (&u32, &(u64, String))| UploadedPart {
            number: *number,
            size: *size,
            etag: etag.clone(),
        };
        Ending::Applied(upload.parts.iter().map(part).collect())
    }

    /// Takes an upload apart for a version: gives what it was begun for.
    pub fn complete(&mut self, upload: &str, named: &[(u32, String)]) -> Ending<Completed> {
        let Ok(id) = upload.parse::<u32>() else { return refused(RefusalKind::NotFound, "NoSuchUpload") };
        let Some(upload) = self.uploads.get(&id) else {
            return refused(RefusalKind::NotFound, "NoSuchUpload");
        };
        let stored = upload.parts.iter().map(|(number, (_, etag))| (*number, etag.clone()));
        if !stored.eq(named.iter().cloned()) {
            return refused(RefusalKind::Invalid, "InvalidPart");
        }
        // The bytes of a version are what its parts hold, whatever its document says.
        let layout = upload.md.part_layout();
        let equal = layout.len() == upload.parts.len()
            && layout
                .iter()
                .all(|part| upload.parts.get(&part.number).is_some_and(|(_, etag)| *part.md5 == **etag));
        let md = if equal {
            upload.md.clone()
        } else {
            let other = RawJson::string(&format!("{:032x}-{}", 0xbad, named.len()));
            upload.md.with_member("content-md5", &other).expect("a text member")
        };
        let asked = Content::plain(&md);
        let md = if id % 2 == 0 && !md.tags().is_empty() {
            md.with_member("tags", &RawJson::parse("{}").expect("valid JSON")).expect("an untyped member")
        } else {
            md
        };
        let version = upload.version;
        self.uploads.remove(&id);
        Ending::Applied(Completed { version, md, asked })
    }

    /// Drops an upload. Returns whether it was there.
    pub fn abort(&mut self, upload: &str) -> bool {
        upload.parse().ok().and_then(|id: u32| self.uploads.remove(&id)).is_some()
    }

    /// Drops the oldest open upload, as a rule of the bucket does.
    pub fn drop_one(&mut self) -> bool {
        self.uploads.pop_first().is_some()
    }

    /// Whether readers find the version as the source has it, and nothing older as the current version, as far as strays left it in
    /// the engine's hands.
    pub fn shows(&self, key: KeyId, version: VerId, md: &ObjectMd) -> bool {
        let versions = self.versions(key);
        let current = versions.last();
        if current.is_some_and(|current| {
            current.version < version && !current.stray && !current.md.is_delete_marker()
        }) {
            return false;
        }
        if md.is_delete_marker() {
            return versions.iter().any(|copy| copy.md.is_delete_marker());
        }
        let mut copies =
            versions.iter().filter(|copy| copy.version == version && !copy.md.is_delete_marker());
        let equal = |copy: &MintedVersion| {
            let tags = |md| ObjectMd::member(md, "tags").map(RawJson::as_str);
            (tags(&copy.md) == tags(md) || copy.md.tags() == md.tags())
                && ["content-length", "content-md5", "x-amz-meta-color", "key"].iter().all(|name| {
                    copy.md.member(name).map(RawJson::as_str) == md.member(name).map(RawJson::as_str)
                })
        };
        copies.any(|copy| copy.stray || equal(copy))
    }
}
