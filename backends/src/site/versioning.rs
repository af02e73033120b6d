//! The versions of a key: masters, version keys, null versions and placeholders, as the request processor of
//! CloudServer's file back end keeps them (wire reference 3.4, 3.5, 3.7; compatible null scheme, v0 keys).

use super::attributes::{BucketInfo, VersioningStatus};
use super::changes::{Changes, Records};
use super::error::{Outcome, Refusal};
use super::object::{NewObject, Placement};
use super::placeholder::{self, Placeholder};
use backbeat_core::model::{ObjectMd, RawJson, ReplicationInfo, VERSION_SEPARATOR, VersionId};

/// Which version a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The one that readers see.
    Current,
    /// The null version.
    Null,
    /// One by its id.
    Version(VersionId),
}

impl Wanted {
    /// What a `versionId` parameter says.
    pub(super) fn parse(parameter: Option<&str>) -> Outcome<Self> {
        match parameter {
            None | Some("") => Ok(Self::Current),
            Some("null") => Ok(Self::Null),
            Some(encoded) => {
                let refusal = || Refusal::invalid_argument().with_message("Invalid version id specified");
                VersionId::decode(encoded).map(Self::Version).map_err(|_| refusal())
            }
        }
    }

    /// The refusal if there is none.
    pub(super) fn missing(&self) -> Refusal {
        match self {
            Self::Current => Refusal::no_such_key(),
            Self::Null | Self::Version(_) => Refusal::no_such_version(),
        }
    }
}

/// What the master key holds.
#[derive(Clone, Debug)]
pub(super) enum Master {
    Object(ObjectMd),
    Placeholder(Placeholder),
}

/// The metadata key of a version.
pub(super) fn version_key(key: &str, id: &VersionId) -> String {
    format!("{key}{VERSION_SEPARATOR}{id}")
}

pub(super) fn master(records: &impl Records, bucket: &str, key: &str) -> Outcome<Option<Master>> {
    records.value(bucket, key)?.map(|json| parse_master(&json)).transpose()
}

/// What a master's value is.
pub(super) fn parse_master(json: &str) -> Outcome<Master> {
    Ok(match Placeholder::parse(json) {
        Some(placeholder) => Master::Placeholder(placeholder),
        None => Master::Object(ObjectMd::parse(json)?),
    })
}

pub(super) fn version(
    records: &impl Records,
    bucket: &str,
    key: &str,
    id: &VersionId,
) -> Outcome<Option<ObjectMd>> {
    Ok(records.value(bucket, &version_key(key, id))?.map(|json| ObjectMd::parse(&json)).transpose()?)
}

/// The newest version key of a key.
pub(super) fn newest(records: &impl Records, bucket: &str, key: &str) -> Outcome<Option<ObjectMd>> {
    let prefix = format!("{key}{VERSION_SEPARATOR}");
    let found = records.values(bucket, &prefix, &prefix, 1)?.pop();
    Ok(found.map(|(_, json)| ObjectMd::parse(&json)).transpose()?)
}

/// What readers see: the master, or the newest version behind a placeholder.
pub(super) fn current(records: &impl Records, bucket: &str, key: &str) -> Outcome<Option<ObjectMd>> {
    match master(records, bucket, key)? {
        None => Ok(None),
        Some(Master::Object(md)) => Ok(Some(md)),
        Some(Master::Placeholder(_)) => newest(records, bucket, key),
    }
}

/// The version that a request asks for (wire reference 1.5).
pub(super) fn lookup(
    records: &impl Records,
    bucket: &str,
    key: &str,
    wanted: &Wanted,
) -> Outcome<Option<ObjectMd>> {
    match wanted {
        Wanted::Current => current(records, bucket, key),
        Wanted::Version(id) => version(records, bucket, key, id),
        Wanted::Null => {
            let Some(md) = current(records, bucket, key)? else { return Ok(None) };
            if is_null(&md) {
                return Ok(Some(md));
            }
            match md.text("nullVersionId") {
                Some(id) => version(records, bucket, key, &VersionId::from(id)),
                None => Ok(None),
            }
        }
    }
}

/// The object that a request asks for: there, and no delete marker.
pub(super) fn object(records: &impl Records, bucket: &str, key: &str, wanted: &Wanted) -> Outcome<ObjectMd> {
    let md = lookup(records, bucket, key, wanted)?.ok_or_else(|| wanted.missing())?;
    match wanted {
        _ if !md.is_delete_marker() => Ok(md),
        Wanted::Current => Err(Refusal::no_such_key()),
        Wanted::Null | Wanted::Version(_) => Err(Refusal::method_not_allowed()),
    }
}

/// A null version, or an object older than versioning.
pub(super) fn is_null(md: &ObjectMd) -> bool {
    md.is_null() || md.version_id().is_none()
}

fn with_text(md: &ObjectMd, name: &str, value: &str) -> Outcome<ObjectMd> {
    Ok(md.with_member(name, &RawJson::string(value))?)
}

pub(super) fn with_flag(md: &ObjectMd, name: &str) -> Outcome<ObjectMd> {
    let flag = RawJson::parse("true").map_err(|_| Refusal::internal())?;
    Ok(md.with_member(name, &flag)?)
}

/// Writes the master only.
pub(super) fn put_master(
    changes: &mut Changes<'_, '_>,
    bucket: &str,
    key: &str,
    md: &ObjectMd,
) -> Outcome<()> {
    changes.put(bucket, key, md.to_json())
}

/// Writes a new version: master first, then its version key, with a fresh id.
pub(super) fn put_new_version(
    changes: &mut Changes<'_, '_>,
    bucket: &str,
    key: &str,
    md: &ObjectMd,
) -> Outcome<ObjectMd> {
    let id = changes.mint()?;
    let md = with_text(md, "versionId", id.as_str())?;
    changes.put(bucket, key, md.to_json())?;
    changes.put(bucket, &version_key(key, &id), md.to_json())?;
    Ok(md)
}

/// Writes the master only, with a fresh id: a null version of a suspended bucket.
pub(super) fn put_null_master(
    changes: &mut Changes<'_, '_>,
    bucket: &str,
    key: &str,
    md: &ObjectMd,
) -> Outcome<ObjectMd> {
    let id = changes.mint()?;
    let md = with_text(md, "versionId", id.as_str())?;
    changes.put(bucket, key, md.to_json())?;
    Ok(md)
}

/// Writes one version under the id it has: its version key, and the master if the master is not newer. A null or
/// unversioned master moves to a version key of its own first.
pub(super) fn put_version(
    changes: &mut Changes<'_, '_>,
    bucket: &str,
    key: &str,
    md: &ObjectMd,
    id: &VersionId,
) -> Outcome<()> {
    let md = with_text(md, "versionId", id.as_str())?;
    let old = master(changes, bucket, key)?;
    changes.put(bucket, &version_key(key, id), md.to_json())?;
    let old = match old {
        None => return changes.put(bucket, key, md.to_json()),
        Some(Master::Placeholder(placeholder)) => {
            if placeholder.version_id < *id {
                return Ok(());
            }
            return changes.put(bucket, key, md.to_json());
        }
        Some(Master::Object(old)) => old,
    };
    if old.version_id().is_some_and(|master_id| master_id < id) {
        return Ok(());
    }
    if !is_null(&old) {
        return changes.put(bucket, key, md.to_json());
    }
    let old_id = old.version_id().cloned().unwrap_or_else(|| VersionId::infinite(changes.group()));
    // Rewriting the null version itself: the master is the version, and copying the old one would bring it back.
    if old.version_id() == Some(id) {
        return changes.put(bucket, key, md.to_json());
    }
    if old_id == *id {
        changes.put(bucket, &version_key(key, id), md.to_json())?;
    } else {
        let moved = with_flag(&with_text(&old, "versionId", old_id.as_str())?, "isNull")?;
        changes.put(bucket, &version_key(key, &old_id), moved.to_json())?;
    }
    let md = with_text(&md, "nullVersionId", old_id.as_str())?;
    changes.put(bucket, key, md.to_json())
}

/// Removes one version. If it was the master, or the master is a placeholder already, a placeholder takes its place
/// until it is repaired.
pub(super) fn delete_version(
    changes: &mut Changes<'_, '_>,
    bucket: &str,
    key: &str,
    id: &VersionId,
) -> Outcome<()> {
    let was_master = match master(changes, bucket, key)? {
        Some(Master::Object(md)) => md.version_id() == Some(id),
        Some(Master::Placeholder(_)) => true,
        None => false,
    };
    changes.delete(bucket, &version_key(key, id))?;
    if was_master {
        placeholder::put(changes, bucket, key)?;
    }
    Ok(())
}

/// Forgets the data of a version that is gone.
pub(super) fn discard_data(changes: &mut Changes<'_, '_>, md: &ObjectMd) {
    for location in md.locations() {
        changes.discard(&location.key);
    }
}

/// Stores a new object or delete marker as the versioning state of the bucket asks (wire reference 3.4). Answers the
/// stored document.
pub(super) fn store(
    changes: &mut Changes<'_, '_>,
    bucket: &BucketInfo,
    object: &NewObject,
    replication: Option<ReplicationInfo>,
) -> Outcome<ObjectMd> {
    let (name, key) = (bucket.name.as_str(), object.key.as_str());
    let old = current(changes, name, key)?;
    let mut placement = Placement {
        creation_time: old
            .as_ref()
            .and_then(created)
            .or_else(|| object.is_made_of_stored().then(|| changes.now())),
        is_null: false,
        null_version_id: None,
        last_modified: changes.now(),
        replication: replication.unwrap_or_default(),
    };
    for location in &object.locations {
        changes.attach(&location.key, name, key)?;
    }
    match bucket.versioning() {
        None => {
            let md = object.document(&placement)?;
            put_master(changes, name, key, &md)?;
            if let Some(old) = &old {
                discard_data(changes, old);
            }
            Ok(md)
        }
        Some(VersioningStatus::Enabled) => {
            placement.null_version_id = match &old {
                Some(old) if is_null(old) => Some(keep_null(changes, name, key, old)?),
                Some(old) => old.text("nullVersionId"),
                None => None,
            };
            let md = object.document(&placement)?;
            put_new_version(changes, name, key, &md)
        }
        Some(VersioningStatus::Suspended) => {
            placement.is_null = true;
            if let Some(old) = &old {
                drop_null(changes, name, key, old)?;
            }
            let md = object.document(&placement)?;
            put_null_master(changes, name, key, &md)
        }
    }
}

/// When the first version of the key was written.
fn created(old: &ObjectMd) -> Option<String> {
    let text = old.text("creation-time").unwrap_or_else(|| old.last_modified().to_owned());
    (!text.is_empty()).then_some(text)
}

/// Gives a null master a version key of its own before a new version covers it; answers its id. Logged as upstream
/// does it: the version key, the version key again, the master.
fn keep_null(changes: &mut Changes<'_, '_>, bucket: &str, key: &str, old: &ObjectMd) -> Outcome<String> {
    let id = old.version_id().cloned().unwrap_or_else(|| VersionId::infinite(changes.group()));
    let kept = with_flag(&with_text(old, "versionId", id.as_str())?, "isNull")?;
    changes.put(bucket, &version_key(key, &id), kept.to_json())?;
    changes.put(bucket, &version_key(key, &id), kept.to_json())?;
    let covered =
        if old.version_id().is_some() { kept } else { with_text(&kept, "nullVersionId", id.as_str())? };
    changes.put(bucket, key, covered.to_json())?;
    Ok(id.to_string())
}

/// Removes the null version that a new one replaces.
fn drop_null(changes: &mut Changes<'_, '_>, bucket: &str, key: &str, old: &ObjectMd) -> Outcome<()> {
    if is_null(old) {
        discard_data(changes, old);
        if let Some(id) = old.version_id()
            && version(changes, bucket, key, id)?.is_some()
        {
            changes.delete(bucket, &version_key(key, id))?;
        }
        return Ok(());
    }
    let Some(id) = old.text("nullVersionId").map(VersionId::from) else { return Ok(()) };
    if let Some(null) = version(changes, bucket, key, &id)? {
        discard_data(changes, &null);
        delete_version(changes, bucket, key, &id)?;
    }
    Ok(())
}

/// Removes what a request names for good: one version with its data, or the object of an unversioned bucket. Answers
/// what was there.
pub(super) fn remove(
    changes: &mut Changes<'_, '_>,
    bucket: &str,
    key: &str,
    wanted: &Wanted,
) -> Outcome<Option<ObjectMd>> {
    let Some(md) = lookup(changes, bucket, key, wanted)? else { return Ok(None) };
    discard_data(changes, &md);
    match md.version_id() {
        Some(id) => delete_version(changes, bucket, key, &id.clone())?,
        None => changes.delete(bucket, key)?,
    }
    Ok(Some(md))
}

/// Writes changed metadata of a version over itself, where it lies: version key and master, in the order of a metadata
/// write (observed page).
pub(super) fn rewrite(changes: &mut Changes<'_, '_>, bucket: &str, key: &str, md: &ObjectMd) -> Outcome<()> {
    match md.version_id() {
        // A null version that is only a master stays only a master.
        Some(id) if !md.is_null() || version(changes, bucket, key, id)?.is_some() => {
            put_version(changes, bucket, key, md, &id.clone())
        }
        Some(_) | None => put_master(changes, bucket, key, md),
    }
}
