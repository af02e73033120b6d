//! The metadata of one version: an immutable document of which this engine understands a part and keeps the whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use super::digest;
use super::entry::origin_op;
use super::json_text::{
    Cursor, Members, RawJson, Scalar, decode_string, text_of, write_name, write_plain_name, write_string,
};
use super::location::{self, Location, Part};
use super::members::{self, Name, Slot};
use super::metadata_error::MetadataError;
use super::model_defaults::{self, MODEL_VERSION};
use super::replication_info::ReplicationInfo;
use super::revision::{Fingerprint, Revision, StateTag};
use super::{VersionId, VersionRef};

mod base;
mod names;
mod owner;
mod placement;

use base::Base;
use names::{ENCRYPTION, LOCATION, ORIGIN_OP, OWNER_DISPLAY_NAME, OWNER_ID, REPLICATION};
pub use owner::Owner;
use placement::Placement;

/// How the bytes of an object are encrypted where they lie, as a data write answers it. Empty texts where they are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encryption {
    /// `AES256` or `aws:kms`.
    pub algorithm: String,
    /// The key's id for `aws:kms`.
    pub kms_key_id: String,
    /// The algorithm of a customer's key.
    pub customer_algorithm: String,
}

#[derive(Clone, Debug)]
struct Inner {
    base: Arc<Base>,
    replication: ReplicationInfo,
    placement: Arc<Placement>,
    origin_op: Option<SmolStr>,
    owner: Owner,
    /// The digest of the statuses, once it was asked for.
    status: digest::Lazy,
}

/// The metadata of one version of an object (wire reference 2). Immutable and cheap to clone; edits return another document and
/// keep every member that they do not name, with its place and its spelling (decision D18).
#[derive(Clone)]
pub struct ObjectMd(Arc<Inner>);

impl ObjectMd {
    /// The document in `text`.
    ///
    /// # Errors
    /// The text is no JSON object, or `replicationInfo` or `location` cannot be understood at all.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let mut replication = None;
        let mut placement = Ok(Placement::default());
        let mut origin_op: Option<SmolStr> = None;
        let mut owner = [None, None];
        let mut cursor = Cursor::new(text);
        let slots = members::read(&mut cursor, 64, model_defaults::known_name, |name, cursor| match name {
            REPLICATION => {
                replication = Some(ReplicationInfo::read(cursor)?);
                Ok(true)
            }
            LOCATION => {
                placement = Placement::read(cursor)?;
                Ok(true)
            }
            ORIGIN_OP => {
                origin_op = match cursor.scalar()? {
                    Scalar::Text(text) => Some(text.as_ref().into()),
                    Scalar::Other(_) => None,
                };
                Ok(origin_op.is_some())
            }
            OWNER_ID | OWNER_DISPLAY_NAME => {
                let start = cursor.position();
                cursor.skip()?;
                let raw = RawJson::scanned(cursor.since(start));
                owner[usize::from(name == OWNER_DISPLAY_NAME)] = Some(raw);
                Ok(true)
            }
            _ => {
                cursor.skip()?;
                Ok(false)
            }
        })?;
        if slots.is_none() {
            cursor.skip()?;
        }
        cursor.end()?;
        let base = Arc::new(Base::new(slots.ok_or(MetadataError::NotAnObject)?));
        let ([id, display_name], nobody) = (owner, || RawJson::string(""));
        Ok(Self(Arc::new(Inner {
            base,
            replication: replication.transpose()?.unwrap_or_default(),
            placement: Arc::new(placement?),
            origin_op,
            owner: Owner::spelled(id.unwrap_or_else(nobody), display_name.unwrap_or_else(nobody)),
            status: digest::Lazy::default(),
        })))
    }

    /// This document with some of its pieces exchanged.
    fn edited(&self, edit: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Inner::clone(&self.0);
        edit(&mut inner);
        Self(Arc::new(inner))
    }

    /// The document as JSON text: as it was read, but for what was edited.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(2048);
        members::write(&mut out, &self.0.base.slots, &[], |out, name| self.write_typed(out, name));
        out
    }

    /// The length in bytes of [`Self::to_json`]. What is kept as text is not copied to be measured.
    pub fn json_len(&self) -> usize {
        let mut out = String::with_capacity(2048);
        let mut kept = 0;
        out.push('{');
        for slot in &self.0.base.slots {
            slot.write_name(&mut out);
            match slot {
                Slot::Typed(name) => self.write_typed(&mut out, name),
                Slot::Raw(_, value) => kept += value.as_str().len(),
            }
        }
        out.len() + kept + "}".len()
    }

    /// The document as upstream's model would serialise it: as [`Self::to_json`], with missing members set to their defaults and
    /// `md-model-version` 6. This is the form of queue messages and of metadata writes.
    pub fn to_model_json(&self) -> String {
        let mut out = String::with_capacity(2560);
        self.write_model(&mut out, |_| true);
        out
    }

    /// Writes the members that `keep` accepts, defaults filled in.
    fn write_model(&self, out: &mut String, keep: impl Fn(&str) -> bool) {
        let slots = &self.0.base.slots;
        out.push('{');
        let mut said: u64 = 0;
        for slot in slots {
            if let Some(index) = model_defaults::default_index(slot.name()) {
                said |= 1 << index;
            }
            if !keep(slot.name()) {
                continue;
            }
            slot.write_name(out);
            match slot {
                Slot::Typed(LOCATION) => self.0.placement.write_model(out),
                Slot::Typed(name) => self.write_typed(out, name),
                Slot::Raw(Name::Known("md-model-version"), _) => out.push_str(MODEL_VERSION),
                Slot::Raw(_, value) => out.push_str(value.as_str()),
            }
        }
        for (index, &(name, default)) in model_defaults::DEFAULTS.iter().enumerate() {
            if said & 1 << index == 0 && keep(name) {
                write_plain_name(out, name);
                out.push_str(default);
            }
        }
        if keep("creation-time") && slots.iter().all(|slot| slot.name() != "creation-time") {
            write_plain_name(out, "creation-time");
            out.push_str(self.member("last-modified").map_or("\"\"", RawJson::as_str));
        }
        out.push('}');
    }

    fn write_typed(&self, out: &mut String, name: &str) {
        match name {
            REPLICATION => self.0.replication.write(out),
            ORIGIN_OP => write_string(out, self.0.origin_op.as_deref().unwrap_or("")),
            LOCATION => self.0.placement.write(out),
            _ => out.push_str(self.0.owner.member(name).expect("no other member is typed").as_str()),
        }
    }

    /// Which version this is: null if `isNull`, else the version id, else an unversioned object (replication reference 4.2).
    pub fn version_ref(&self) -> VersionRef {
        match &self.0.base.version_id {
            _ if self.0.base.is_null => VersionRef::Null,
            Some(id) => VersionRef::Version(id.clone()),
            None => VersionRef::Unversioned,
        }
    }

    /// The stored version id; also a null version may have one.
    pub fn version_id(&self) -> Option<&VersionId> {
        self.0.base.version_id.as_ref()
    }

    /// Whether this is the null version.
    pub fn is_null(&self) -> bool {
        self.0.base.is_null
    }

    /// Whether the bucket is fed by NFS.
    pub fn is_nfs(&self) -> bool {
        self.0.replication.is_nfs()
    }

    /// Whether this version is a delete marker.
    pub fn is_delete_marker(&self) -> bool {
        self.0.base.is_delete_marker
    }

    /// Length in bytes; 0 if missing or unreadable. Old documents spell it as text.
    pub fn content_length(&self) -> u64 {
        self.0.base.content_length
    }

    /// The hex MD5 of the object, `<hex>-<parts>` after a multipart upload.
    pub fn content_md5(&self) -> &str {
        &self.0.base.content_md5
    }

    /// Whether the object came from a multipart upload: there is a dash in its MD5.
    pub fn is_multipart(&self) -> bool {
        self.0.base.content_md5.contains('-')
    }

    /// The location that holds the bytes; on a replica still the source's.
    pub fn data_store_name(&self) -> &str {
        &self.0.base.data_store_name
    }

    /// The canonical id of the owner.
    pub fn owner_id(&self) -> &str {
        self.0.owner.id()
    }

    /// When the version was written: ISO 8601 with milliseconds, UTC.
    pub fn last_modified(&self) -> &str {
        &self.0.base.last_modified
    }

    /// What the last operation on this version was.
    pub fn origin_op(&self) -> &str {
        self.0.origin_op.as_deref().unwrap_or("")
    }

    /// The tags. Values that are no text are left out.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let Some(raw) = self.member("tags") else { return BTreeMap::new() };
        let members = Members::of(raw.as_str()).into_iter().flatten().filter_map(Result::ok);
        members
            .filter_map(|(name, value)| {
                Some((decode_string(name).ok()?.into_owned(), text_of(value)?.into_owned()))
            })
            .collect()
    }

    /// Whether the tags are `tags`: mostly told without building a map.
    pub fn has_tags(&self, tags: &BTreeMap<String, String>) -> bool {
        let Some(raw) = self.member("tags") else { return tags.is_empty() };
        let mut seen = 0_u64;
        let mut members = Members::of(raw.as_str()).into_iter().flatten();
        let place = |(name, value): (&str, &str)| {
            let (name, value) = (decode_string(name).ok()?, text_of(value)?);
            let place = tags.iter().position(|(known, content)| *known == name && *content == value)?;
            1_u64.checked_shl(u32::try_from(place).ok()?)
        };
        let all_known = members.all(|member| {
            let place = member.ok().and_then(place);
            seen |= place.unwrap_or(0);
            place.is_some()
        });
        // Of a name that is there twice the last value counts, and values that are no text do not.
        (all_known && seen.count_ones() as usize == tags.len()) || self.tags() == *tags
    }

    /// The user metadata: the names after `x-amz-meta-`, and the values that are text, in the document's order.
    pub fn user_metadata(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.base.slots.iter().filter_map(|slot| match slot {
            Slot::Raw(name, value) => {
                let name = name.as_str().strip_prefix("x-amz-meta-")?;
                Some((name, value.to_text()?.into_owned()))
            }
            Slot::Typed(_) => None,
        })
    }

    /// The user metadata as the JSON object that cloud routes take, with full names; `None` if there is none.
    pub fn user_metadata_json(&self) -> Option<String> {
        let mut out = String::from("{");
        for slot in &self.0.base.slots {
            if let Slot::Raw(name, value) = slot
                && name.as_str().starts_with("x-amz-meta-")
            {
                write_name(&mut out, name.as_str());
                out.push_str(value.as_str());
            }
        }
        out.push('}');
        (out.len() > 2).then_some(out)
    }

    /// The text of the member `name`, for members that are text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.member(name)?.to_text().map(std::borrow::Cow::into_owned)
    }

    /// The JSON of any member but `replicationInfo`, `location` and `originOp`, which have accessors of their own.
    pub fn member(&self, name: &str) -> Option<&RawJson> {
        match name {
            OWNER_ID | OWNER_DISPLAY_NAME if self.0.base.has_place(name) => self.0.owner.member(name),
            _ => self.0.base.member(name),
        }
    }

    /// The JSON of several untyped members, found in one pass.
    pub fn members<const N: usize>(&self, names: [&str; N]) -> [Option<&RawJson>; N] {
        let mut found = [None; N];
        for slot in &self.0.base.slots {
            if let Slot::Raw(name, value) = slot
                && let Some(place) = names.iter().position(|wanted| name.as_str() == *wanted)
            {
                found[place].get_or_insert(value);
            }
        }
        found
    }

    /// The state of replication.
    pub fn replication(&self) -> &ReplicationInfo {
        &self.0.replication
    }

    /// Where the bytes lie. Empty for objects without bytes.
    pub fn locations(&self) -> &[Location] {
        self.0.placement.locations()
    }

    /// One location per part: see [`location::reduce`].
    pub fn reduced_locations(&self) -> Vec<Location> {
        location::reduce(self.0.placement.locations())
    }

    /// The parts that a reader sees, in order.
    pub fn part_layout(&self) -> &[Part] {
        self.0.placement.layout()
    }

    /// What this document says apart from the progress of its replication.
    pub fn revision(&self) -> Revision {
        let members = self.0.base.sums().all();
        let typed = [self.0.placement.digest(), self.0.owner.digest(), self.0.replication.settings_digest()];
        Revision::of(typed.into_iter().fold(members, u128::wrapping_add))
    }

    /// The revision together with the progress of replication.
    pub fn state_tag(&self) -> StateTag {
        let status = self.0.status.get(|| self.0.replication.status_digest());
        StateTag::new(self.revision(), status)
    }

    /// Whether both came from one document by edits of the replication state alone: then everything else is equal. Documents that
    /// are equal by chance are not recognised.
    pub fn shares_content_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.base, &other.0.base)
            && Arc::ptr_eq(&self.0.placement, &other.0.placement)
            && self.0.owner == other.0.owner
    }

    /// What must be equal at a replica.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.base.sums().at_replica().wrapping_add(self.0.placement.layout_digest()))
    }

    /// With another state of replication.
    pub fn with_replication(&self, replication: ReplicationInfo) -> Self {
        let inner = &*self.0;
        Self(Arc::new(Inner {
            base: Base::with_place(&inner.base, REPLICATION),
            replication,
            placement: inner.placement.clone(),
            origin_op: inner.origin_op.clone(),
            owner: inner.owner.clone(),
            status: digest::Lazy::default(),
        }))
    }

    /// With another state of replication, written by the operation `origin_op`.
    pub fn with_replication_by(&self, replication: ReplicationInfo, origin_op: &str) -> Self {
        let inner = &*self.0;
        Self(Arc::new(Inner {
            base: Base::with_places(&inner.base, [REPLICATION, ORIGIN_OP]),
            replication,
            placement: inner.placement.clone(),
            origin_op: Some(origin_op::shared(origin_op)),
            owner: inner.owner.clone(),
            status: digest::Lazy::default(),
        }))
    }

    /// As a target gets it: with the state of replication, the owner and the locations that it has there.
    pub fn replica(&self, replication: ReplicationInfo, owner: &Owner, locations: Vec<Location>) -> Self {
        let inner = &*self.0;
        Self(Arc::new(Inner {
            base: Base::with_places(&inner.base, [REPLICATION, LOCATION, OWNER_ID, OWNER_DISPLAY_NAME]),
            replication,
            placement: Arc::new(Placement::of(locations)),
            origin_op: inner.origin_op.clone(),
            owner: owner.clone(),
            status: digest::Lazy::default(),
        }))
    }

    /// With another last operation.
    pub fn with_origin_op(&self, origin_op: &str) -> Self {
        self.edited(|inner| {
            inner.base = Base::with_place(&inner.base, ORIGIN_OP);
            inner.origin_op = Some(origin_op::shared(origin_op));
        })
    }

    /// With other locations. None at all are written as null.
    pub fn with_location(&self, locations: Vec<Location>) -> Self {
        self.edited(|inner| {
            inner.base = Base::with_place(&inner.base, LOCATION);
            inner.placement = Arc::new(Placement::of(locations));
        })
    }

    fn with_owner_member(&self, name: &'static str, value: &RawJson) -> Self {
        self.edited(|inner| {
            inner.base = Base::with_place(&inner.base, name);
            inner.owner = inner.owner.with(name, value);
        })
    }

    /// How the stored bytes are encrypted.
    pub fn encryption(&self) -> Encryption {
        let [algorithm, kms_key_id, customer_algorithm] =
            ENCRYPTION.map(|name| self.text(name).unwrap_or_default());
        Encryption { algorithm, kms_key_id, customer_algorithm }
    }

    /// With another encryption of the stored bytes. A document that says what it should stays as it is.
    pub fn with_encryption(&self, encryption: &Encryption) -> Self {
        if self.encryption() == *encryption {
            return self.clone();
        }
        let values = [&encryption.algorithm, &encryption.kms_key_id, &encryption.customer_algorithm];
        let members: Vec<_> =
            ENCRYPTION.into_iter().zip(values.map(|value| RawJson::string(value))).collect();
        self.with_members(&members)
    }

    /// With the member `name` set to `value`, in its place or at the end.
    ///
    /// # Errors
    /// `name` is one of the typed members and `value` cannot be understood.
    pub fn with_member(&self, name: &str, value: &RawJson) -> Result<Self, MetadataError> {
        match name {
            REPLICATION => Ok(self.with_replication(ReplicationInfo::parse(value.as_str())?)),
            LOCATION => Ok(self.with_location(Placement::parse(value.as_str())?.into_locations())),
            ORIGIN_OP => {
                let text = value.to_text().ok_or(MetadataError::member(ORIGIN_OP, "a string"))?;
                Ok(self.with_origin_op(&text))
            }
            OWNER_ID => Ok(self.with_owner_member(OWNER_ID, value)),
            OWNER_DISPLAY_NAME => Ok(self.with_owner_member(OWNER_DISPLAY_NAME, value)),
            _ => Ok(self.with_members(&[(name, value.clone())])),
        }
    }

    /// Without the member `name`.
    pub fn without_member(&self, name: &str) -> Self {
        self.edited(|inner| {
            inner.base = Arc::new(inner.base.without(name));
            match name {
                REPLICATION => inner.replication = ReplicationInfo::default(),
                LOCATION => inner.placement = Arc::default(),
                ORIGIN_OP => inner.origin_op = None,
                OWNER_ID | OWNER_DISPLAY_NAME => {
                    inner.owner = inner.owner.with(name, &RawJson::string(""));
                }
                _ => {}
            }
            inner.status = digest::Lazy::default();
        })
    }

    /// With several untyped members set, each in its place or at the end.
    ///
    /// # Panics
    /// If one of them is a typed member, which has an edit of its own.
    pub fn with_members(&self, changes: &[(&str, RawJson)]) -> Self {
        self.edited(|inner| inner.base = Arc::new(inner.base.with(changes)))
    }
}

impl PartialEq for ObjectMd {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.to_json() == other.to_json()
    }
}

impl Eq for ObjectMd {}

impl fmt::Debug for ObjectMd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

#[cfg(test)]
mod tests;
