//! The metadata of one version: an immutable document of which this engine understands a part and keeps the whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::digest;
use super::json_text::{
    JsonError, Members, RawJson, decode_string, elements, text_of, write_name, write_string,
};
use super::location::{self, Location, Part, lenient_u64};
use super::members::{self, Name, Slot};
use super::model_defaults::{self, MODEL_VERSION};
use super::replication_info::ReplicationInfo;
use super::revision::{Fingerprint, Revision, StateTag};
use super::{VersionId, VersionRef};

/// Why a text is not the metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The text is not JSON, or holds a member name that Unicode text cannot hold.
    #[error("object metadata is {0}")]
    Json(#[from] JsonError),
    /// The text is JSON but not an object.
    #[error("object metadata is not a JSON object")]
    NotAnObject,
    /// A member has a type that leaves no sensible reading.
    #[error("object metadata: `{name}` must be {expected}")]
    Member {
        /// The member.
        name: &'static str,
        /// What was expected.
        expected: &'static str,
    },
}

impl MetadataError {
    pub(super) const fn member(name: &'static str, expected: &'static str) -> Self {
        Self::Member { name, expected }
    }
}

const REPLICATION: &str = "replicationInfo";
const LOCATION: &str = "location";
const ORIGIN_OP: &str = "originOp";

/// Members that name the encryption of the stored bytes.
const ENCRYPTION: [&str; 3] = [
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
];

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

/// How the document spelled its locations, kept until they are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LocationForm {
    Null,
    /// A legacy document holds the data key alone.
    Key,
    List,
}

/// Everything but the members that the engine edits for every status: shared between such edits.
#[derive(Debug)]
struct Base {
    slots: Vec<Slot>,
    version_id: Option<VersionId>,
    is_null: bool,
    is_delete_marker: bool,
    content_length: u64,
    content_md5: Arc<str>,
    data_store_name: Arc<str>,
    owner_id: Arc<str>,
    last_modified: Arc<str>,
}

impl Base {
    fn new(slots: Vec<Slot>) -> Self {
        let empty: Arc<str> = "".into();
        let mut base = Self {
            slots: Vec::new(),
            version_id: None,
            is_null: false,
            is_delete_marker: false,
            content_length: 0,
            content_md5: empty.clone(),
            data_store_name: empty.clone(),
            owner_id: empty.clone(),
            last_modified: empty,
        };
        for slot in &slots {
            if let Slot::Raw(name, value) = slot {
                base.note(name.as_str(), value);
            }
        }
        base.slots = slots;
        base
    }

    /// The same with other slots, of which only those in `changes` say something else.
    fn with_slots(&self, slots: Vec<Slot>, changes: &[(&str, RawJson)]) -> Self {
        let mut base = Self {
            slots,
            version_id: self.version_id.clone(),
            is_null: self.is_null,
            is_delete_marker: self.is_delete_marker,
            content_length: self.content_length,
            content_md5: self.content_md5.clone(),
            data_store_name: self.data_store_name.clone(),
            owner_id: self.owner_id.clone(),
            last_modified: self.last_modified.clone(),
        };
        for (name, value) in changes {
            base.note(name, value);
        }
        base
    }

    /// Takes over what a member says, if it is one of those that are asked for often.
    fn note(&mut self, name: &str, value: &RawJson) {
        let text = || -> Arc<str> { value.to_text().map_or_else(|| "".into(), |text| text.as_ref().into()) };
        match name {
            "versionId" => self.version_id = Some(text()).filter(|id| !id.is_empty()).map(Into::into),
            "isNull" => self.is_null = value.as_str() == "true",
            "isDeleteMarker" => self.is_delete_marker = value.as_str() == "true",
            "content-length" => self.content_length = lenient_u64(value.as_str()).unwrap_or(0),
            "content-md5" => self.content_md5 = text(),
            "dataStoreName" => self.data_store_name = text(),
            "owner-id" => self.owner_id = text(),
            "last-modified" => self.last_modified = text(),
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Inner {
    base: Arc<Base>,
    replication: ReplicationInfo,
    locations: Arc<[Location]>,
    location_form: LocationForm,
    origin_op: Option<Arc<str>>,
    // Shared by all documents that differ only in what the hash leaves out, so each is computed once.
    revision: Arc<OnceLock<Revision>>,
    fingerprint: Arc<OnceLock<Fingerprint>>,
    status: OnceLock<u64>,
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
        let mut replication = Ok(ReplicationInfo::default());
        let mut locations = Ok((LocationForm::Null, Vec::new()));
        let mut origin_op: Option<Arc<str>> = None;
        let slots = members::read(text, model_defaults::known_name, |name, value| match name {
            REPLICATION => {
                replication = ReplicationInfo::parse(value);
                true
            }
            LOCATION => {
                locations = parse_locations(value);
                true
            }
            ORIGIN_OP => {
                origin_op = text_of(value).map(|text| text.as_ref().into());
                origin_op.is_some()
            }
            _ => false,
        });
        let Some(slots) = slots else {
            super::json_text::check(text)?;
            return Err(MetadataError::NotAnObject);
        };
        let base = Arc::new(Base::new(slots?));
        let (form, locations) = locations?;
        Ok(Self::assemble(base, replication?, form, locations.into(), origin_op))
    }

    fn assemble(
        base: Arc<Base>,
        replication: ReplicationInfo,
        location_form: LocationForm,
        locations: Arc<[Location]>,
        origin_op: Option<Arc<str>>,
    ) -> Self {
        Self(Arc::new(Inner {
            base,
            replication,
            locations,
            location_form,
            origin_op,
            revision: Arc::default(),
            fingerprint: Arc::default(),
            status: OnceLock::new(),
        }))
    }

    /// The document as JSON text: as it was read, but for what was edited.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(2048);
        members::write(&mut out, &self.0.base.slots, &[], |out, name| self.write_typed(out, name));
        out
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
        for slot in slots.iter().filter(|slot| keep(slot.name())) {
            write_name(out, slot.name());
            match slot {
                Slot::Typed(LOCATION) if self.0.location_form == LocationForm::Key => {
                    self.write_location_list(out);
                }
                Slot::Typed(name) => self.write_typed(out, name),
                Slot::Raw(Name::Known("md-model-version"), _) => out.push_str(MODEL_VERSION),
                Slot::Raw(_, value) => out.push_str(value.as_str()),
            }
        }
        for &(name, default) in model_defaults::DEFAULTS {
            if keep(name) && slots.iter().all(|slot| slot.name() != name) {
                write_name(out, name);
                out.push_str(default);
            }
        }
        if keep("creation-time") && slots.iter().all(|slot| slot.name() != "creation-time") {
            write_name(out, "creation-time");
            out.push_str(self.member("last-modified").map_or("\"\"", RawJson::as_str));
        }
        out.push('}');
    }

    fn write_typed(&self, out: &mut String, name: &str) {
        match name {
            REPLICATION => self.0.replication.write(out),
            ORIGIN_OP => write_string(out, self.0.origin_op.as_deref().unwrap_or("")),
            _ => match self.0.location_form {
                LocationForm::Null => out.push_str("null"),
                LocationForm::Key => write_string(out, self.0.locations.first().map_or("", |only| &only.key)),
                LocationForm::List => self.write_location_list(out),
            },
        }
    }

    fn write_location_list(&self, out: &mut String) {
        out.push('[');
        for (index, location) in self.0.locations.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            location.write(out);
        }
        out.push(']');
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
        &self.0.base.owner_id
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
        self.0.base.slots.iter().find_map(|slot| match slot {
            Slot::Raw(found, value) if found.as_str() == name => Some(value),
            Slot::Raw(..) | Slot::Typed(_) => None,
        })
    }

    /// The state of replication.
    pub fn replication(&self) -> &ReplicationInfo {
        &self.0.replication
    }

    /// Where the bytes lie. Empty for objects without bytes.
    pub fn locations(&self) -> &[Location] {
        &self.0.locations
    }

    /// One location per part: see [`location::reduce`].
    pub fn reduced_locations(&self) -> Vec<Location> {
        location::reduce(&self.0.locations)
    }

    /// The parts that a reader sees, in order.
    pub fn part_layout(&self) -> Vec<Part> {
        location::parts(&self.0.locations)
    }

    /// What this document says apart from the progress of its replication. Computed once.
    pub fn revision(&self) -> Revision {
        *self.0.revision.get_or_init(|| {
            let locations = self.0.locations.iter().map(Location::digest);
            // Where a piece stands in the list counts, hence the rotation.
            let locations = locations.fold(0_u128, |sum, digest| sum.rotate_left(1).wrapping_add(digest));
            let members = self.members_digest(|name| name != "md-model-version");
            Revision::of(members.wrapping_add(locations).wrapping_add(self.0.replication.settings_digest()))
        })
    }

    /// The revision together with the progress of replication. Computed once.
    pub fn state_tag(&self) -> StateTag {
        let status = *self.0.status.get_or_init(|| self.0.replication.status_digest());
        StateTag::new(self.revision(), status)
    }

    /// What must be equal at a replica. Computed once.
    pub fn fingerprint(&self) -> Fingerprint {
        *self.0.fingerprint.get_or_init(|| {
            let mut digest = self.members_digest(|name| {
                !matches!(name, "owner-id" | "owner-display-name" | "dataStoreName" | "md-model-version")
                    && !ENCRYPTION.contains(&name)
            });
            for part in self.part_layout() {
                let name = part.number.to_string();
                let part = digest::text(&name, &part.md5).wrapping_add(digest::number(&name, part.size));
                digest = digest.rotate_left(1).wrapping_add(part);
            }
            Fingerprint::of(digest)
        })
    }

    /// The sum of the digests of the untyped members that `keep` accepts. A member at its default counts as one that is not
    /// there, which is what filling in the defaults would make of it.
    fn members_digest(&self, keep: impl Fn(&str) -> bool) -> u128 {
        let slots = &self.0.base.slots;
        let mut sum = 0_u128;
        for slot in slots {
            let Slot::Raw(name, value) = slot else { continue };
            let (name, raw) = (name.as_str(), value.as_str());
            let default = if name == "creation-time" {
                self.member("last-modified").map(RawJson::as_str)
            } else {
                model_defaults::default_of(name)
            };
            if !keep(name) || default == Some(raw) {
                continue;
            }
            let digest = digest::member(name, raw);
            // A default may be spelled in another way.
            if default.is_none_or(|default| digest != digest::member(name, default)) {
                sum = sum.wrapping_add(digest);
            }
        }
        sum
    }

    /// With another state of replication.
    pub fn with_replication(&self, replication: ReplicationInfo) -> Self {
        let same = replication.same_settings(&self.0.replication);
        Self(Arc::new(Inner {
            base: self.base_with_place(REPLICATION),
            replication,
            locations: self.0.locations.clone(),
            location_form: self.0.location_form.clone(),
            origin_op: self.0.origin_op.clone(),
            revision: if same { self.0.revision.clone() } else { Arc::default() },
            fingerprint: self.0.fingerprint.clone(),
            status: OnceLock::new(),
        }))
    }

    /// With another last operation.
    pub fn with_origin_op(&self, origin_op: &str) -> Self {
        Self(Arc::new(Inner {
            base: self.base_with_place(ORIGIN_OP),
            replication: self.0.replication.clone(),
            locations: self.0.locations.clone(),
            location_form: self.0.location_form.clone(),
            origin_op: Some(origin_op.into()),
            revision: self.0.revision.clone(),
            fingerprint: self.0.fingerprint.clone(),
            status: self.0.status.clone(),
        }))
    }

    /// With other locations. None at all are written as null.
    pub fn with_location(&self, locations: Vec<Location>) -> Self {
        let form = if locations.is_empty() { LocationForm::Null } else { LocationForm::List };
        let same_layout = location::parts(&locations) == self.part_layout();
        Self(Arc::new(Inner {
            base: self.base_with_place(LOCATION),
            replication: self.0.replication.clone(),
            locations: locations.into(),
            location_form: form,
            origin_op: self.0.origin_op.clone(),
            revision: Arc::default(),
            fingerprint: if same_layout { self.0.fingerprint.clone() } else { Arc::default() },
            status: self.0.status.clone(),
        }))
    }

    /// With another owner.
    pub fn with_owner(&self, id: &str, display_name: &str) -> Self {
        let members =
            [("owner-id", RawJson::string(id)), ("owner-display-name", RawJson::string(display_name))];
        self.with_members(&members, true)
    }

    /// With another encryption of the stored bytes.
    pub fn with_encryption(&self, encryption: &Encryption) -> Self {
        let values = [&encryption.algorithm, &encryption.kms_key_id, &encryption.customer_algorithm];
        let members: Vec<_> =
            ENCRYPTION.into_iter().zip(values.map(|value| RawJson::string(value))).collect();
        self.with_members(&members, true)
    }

    /// With the member `name` set to `value`, in its place or at the end.
    ///
    /// # Errors
    /// `name` is one of the typed members and `value` cannot be understood.
    pub fn with_member(&self, name: &str, value: &RawJson) -> Result<Self, MetadataError> {
        match name {
            REPLICATION => Ok(self.with_replication(ReplicationInfo::parse(value.as_str())?)),
            LOCATION => parse_locations(value.as_str()).map(|(_, locations)| self.with_location(locations)),
            ORIGIN_OP => {
                let text = value.to_text().ok_or(MetadataError::member(ORIGIN_OP, "a string"))?;
                Ok(self.with_origin_op(&text))
            }
            _ => Ok(self.with_members(&[(name, value.clone())], false)),
        }
    }

    /// Without the member `name`.
    pub fn without_member(&self, name: &str) -> Self {
        let slots = self.0.base.slots.iter().filter(|slot| slot.name() != name).cloned().collect();
        let gone = |typed: &str| typed == name;
        Self::assemble(
            Arc::new(Base::new(slots)),
            if gone(REPLICATION) { ReplicationInfo::default() } else { self.0.replication.clone() },
            if gone(LOCATION) { LocationForm::Null } else { self.0.location_form.clone() },
            if gone(LOCATION) { Vec::new().into() } else { self.0.locations.clone() },
            if gone(ORIGIN_OP) { None } else { self.0.origin_op.clone() },
        )
    }

    fn with_members(&self, changes: &[(&str, RawJson)], same_fingerprint: bool) -> Self {
        let mut slots = self.0.base.slots.clone();
        for (name, value) in changes {
            match slots.iter_mut().find(|slot| slot.name() == *name) {
                Some(Slot::Raw(_, old)) => *old = value.clone(),
                Some(Slot::Typed(_)) => unreachable!("typed members have edits of their own"),
                None => {
                    let known = model_defaults::known_name(name);
                    let name = known.map_or_else(|| Name::Other((*name).into()), Name::Known);
                    slots.push(Slot::Raw(name, value.clone()));
                }
            }
        }
        Self(Arc::new(Inner {
            base: Arc::new(self.0.base.with_slots(slots, changes)),
            replication: self.0.replication.clone(),
            locations: self.0.locations.clone(),
            location_form: self.0.location_form.clone(),
            origin_op: self.0.origin_op.clone(),
            revision: Arc::default(),
            fingerprint: if same_fingerprint { self.0.fingerprint.clone() } else { Arc::default() },
            status: self.0.status.clone(),
        }))
    }

    /// The base with a typed place for `name`: shared if it has one.
    fn base_with_place(&self, name: &'static str) -> Arc<Base> {
        let base = &self.0.base;
        let place = base.slots.iter().position(|slot| slot.name() == name);
        if place.is_some_and(|index| matches!(base.slots[index], Slot::Typed(_))) {
            return base.clone();
        }
        let mut slots = base.slots.clone();
        match place {
            Some(index) => slots[index] = Slot::Typed(name),
            None => slots.push(Slot::Typed(name)),
        }
        Arc::new(base.with_slots(slots, &[]))
    }
}

fn parse_locations(value: &str) -> Result<(LocationForm, Vec<Location>), MetadataError> {
    if value == "null" {
        return Ok((LocationForm::Null, Vec::new()));
    }
    if let Some(key) = text_of(value) {
        return Ok((LocationForm::Key, vec![Location::legacy(&key)]));
    }
    let list =
        elements(value).ok_or(MetadataError::member(LOCATION, "null, a string or an array of objects"))?;
    let locations = list.into_iter().map(Location::parse).collect::<Result<Vec<_>, _>>()?;
    Ok((LocationForm::List, locations))
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
