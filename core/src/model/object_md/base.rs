//! Everything in a document but the members that the engine edits for every status: shared between such edits.

use std::sync::{Arc, OnceLock};

use smol_str::SmolStr;

use crate::model::VersionId;
use crate::model::json_text::RawJson;
use crate::model::location::lenient_u64;
use crate::model::members::{Name, Slot};
use crate::model::{digest, model_defaults};

use super::names::{ENCRYPTION, LOCATION, ORIGIN_OP, OWNER_DISPLAY_NAME, OWNER_ID, PLACE, REPLICATION};

/// Digests over the untyped members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// All that belong to a revision.
    all: digest::Stored,
    /// Those that must be equal at a replica.
    at_replica: digest::Stored,
}

#[derive(Debug)]
pub(super) struct Base {
    pub(super) slots: Vec<Slot>,
    /// Which of the typed members have a place, a [`bit`] for each.
    placed: u8,
    pub(super) version_id: Option<VersionId>,
    pub(super) is_null: bool,
    pub(super) is_delete_marker: bool,
    pub(super) content_length: u64,
    pub(super) content_md5: SmolStr,
    pub(super) data_store_name: SmolStr,
    pub(super) last_modified: SmolStr,
    sums: OnceLock<Sums>,
}

impl Base {
    pub(super) fn new(slots: Vec<Slot>) -> Self {
        let empty: SmolStr = "".into();
        let mut base = Self {
            slots: Vec::new(),
            placed: 0,
            version_id: None,
            is_null: false,
            is_delete_marker: false,
            content_length: 0,
            content_md5: empty.clone(),
            data_store_name: empty.clone(),
            last_modified: empty,
            sums: OnceLock::new(),
        };
        for slot in &slots {
            match slot {
                Slot::Raw(name, value) => base.note(name.as_str(), value),
                Slot::Typed(name) => base.placed |= bit(name),
            }
        }
        base.slots = slots;
        base
    }

    /// The same with other slots that say the same.
    fn with_slots(&self, slots: Vec<Slot>) -> Self {
        Self {
            slots,
            placed: self.placed,
            version_id: self.version_id.clone(),
            is_null: self.is_null,
            is_delete_marker: self.is_delete_marker,
            content_length: self.content_length,
            content_md5: self.content_md5.clone(),
            data_store_name: self.data_store_name.clone(),
            last_modified: self.last_modified.clone(),
            sums: self.sums.clone(),
        }
    }

    /// With untyped members set, each in its place or at the end.
    pub(super) fn with(&self, changes: &[(&str, RawJson)]) -> Self {
        let mut slots = Vec::with_capacity(self.slots.len() + changes.len());
        slots.extend_from_slice(&self.slots);
        let mut base = self.with_slots(slots);
        let mut sums = base.sums.take();
        for (name, value) in changes {
            let place = base.slots.iter_mut().find(|slot| slot.name() == *name);
            if matches!(&place, Some(Slot::Raw(_, old)) if old == value) {
                continue;
            }
            let old = match place {
                Some(Slot::Raw(_, old)) => Some(std::mem::replace(old, value.clone())),
                Some(Slot::Typed(name)) => panic!("the member {name} has an edit of its own"),
                None => {
                    assert!(bit(name) == 0, "the member {name} has an edit of its own");
                    let known = model_defaults::known_name(name);
                    let name = known.map_or_else(|| Name::Other((*name).into()), Name::Known);
                    base.slots.push(Slot::Raw(name, value.clone()));
                    None
                }
            };
            base.note(name, value);
            sums = sums.and_then(|sums| base.corrected(sums, name, old.as_ref(), value));
        }
        if let Some(sums) = sums {
            base.sums = sums.into();
        }
        base
    }

    /// Without the member `name`.
    pub(super) fn without(&self, name: &str) -> Self {
        Self::new(self.slots.iter().filter(|slot| slot.name() != name).cloned().collect())
    }

    /// With a typed place for `name`: itself if it has one.
    #[inline]
    pub(super) fn with_place(base: &Arc<Self>, name: &'static str) -> Arc<Self> {
        if base.has_place(name) { base.clone() } else { Arc::new(base.placing(name)) }
    }

    /// [`Self::with_place`] for several members.
    pub(super) fn with_places<const N: usize>(base: &Arc<Self>, names: [&'static str; N]) -> Arc<Self> {
        names.iter().fold(base.clone(), |base, name| {
            if base.has_place(name) { base } else { Arc::new(base.placing(name)) }
        })
    }

    fn placing(&self, name: &'static str) -> Self {
        let place = self.slots.iter().position(|slot| slot.name() == name);
        let mut slots = self.slots.clone();
        match place {
            Some(index) => slots[index] = Slot::Typed(name),
            None => slots.push(Slot::Typed(name)),
        }
        let mut base = self.with_slots(slots);
        base.placed |= bit(name);
        if place.is_some() {
            base.sums = OnceLock::new();
        }
        base
    }

    /// Whether there is a typed place for `name`.
    #[inline]
    pub(super) fn has_place(&self, name: &str) -> bool {
        self.placed & bit(name) != 0
    }

    /// The JSON of an untyped member.
    pub(super) fn member(&self, name: &str) -> Option<&RawJson> {
        self.slots.iter().find_map(|slot| match slot {
            Slot::Raw(found, value) if found.as_str() == name => Some(value),
            Slot::Raw(..) | Slot::Typed(_) => None,
        })
    }

    /// Takes over what a member says, if it is one of those that are asked for often.
    fn note(&mut self, name: &str, value: &RawJson) {
        let text = || -> SmolStr { value.to_text().map_or_else(|| "".into(), |text| text.as_ref().into()) };
        match name {
            "versionId" => self.version_id = Some(text()).filter(|id| !id.is_empty()).map(Into::into),
            "isNull" => self.is_null = value.as_str() == "true",
            "isDeleteMarker" => self.is_delete_marker = value.as_str() == "true",
            "content-length" => self.content_length = lenient_u64(value.as_str()).unwrap_or(0),
            "content-md5" => self.content_md5 = text(),
            "dataStoreName" => self.data_store_name = text(),
            "last-modified" => self.last_modified = text(),
            _ => {}
        }
    }

    /// The digests of the untyped members, each a sum over members.
    pub(super) fn sums(&self) -> Sums {
        *self.sums.get_or_init(|| {
            let mut sums = Sums::default();
            for slot in &self.slots {
                if let Slot::Raw(name, value) = slot
                    && Sums::counts(name.as_str())
                {
                    let digest = self.digest_of(name.as_str(), value.as_str());
                    sums.change(name.as_str(), 0, digest);
                }
            }
            sums
        })
    }

    /// Digests after `name` went from `old` to `new`, if they can be told from those before.
    fn corrected(&self, mut sums: Sums, name: &str, old: Option<&RawJson>, new: &RawJson) -> Option<Sums> {
        if name == "last-modified" && self.member("creation-time").is_some() {
            // It is the default of the other one.
            return None;
        }
        if Sums::counts(name) {
            let before = old.map_or(0, |old| self.digest_of(name, old.as_str()));
            sums.change(name, before, self.digest_of(name, new.as_str()));
        }
        Some(sums)
    }

    /// What a member adds to the digests. One at its default counts as one that is not there, which is what filling in the
    /// defaults would make of it.
    fn digest_of(&self, name: &str, raw: &str) -> u128 {
        let default = if name == "creation-time" {
            Some(self.member("last-modified").map_or("\"\"", RawJson::as_str))
        } else {
            model_defaults::default_of(name)
        };
        digest::member_unless(default, name, raw)
    }
}

/// The bit of a typed member: one that has a type, and an edit of its own. None for any other.
fn bit(name: &str) -> u8 {
    match name {
        REPLICATION => 1,
        LOCATION => 1 << 1,
        ORIGIN_OP => 1 << 2,
        OWNER_ID => 1 << 3,
        OWNER_DISPLAY_NAME => 1 << 4,
        _ => 0,
    }
}

impl Sums {
    /// Whether a member belongs to a revision at all.
    fn counts(name: &str) -> bool {
        name != "md-model-version" && !PLACE.contains(&name)
    }

    fn change(&mut self, name: &str, old: u128, new: u128) {
        let change = new.wrapping_sub(old);
        self.all = self.all().wrapping_add(change).into();
        if name != "dataStoreName" && !ENCRYPTION.contains(&name) {
            self.at_replica = self.at_replica().wrapping_add(change).into();
        }
    }

    pub(super) fn all(&self) -> u128 {
        self.all.into()
    }

    pub(super) fn at_replica(&self) -> u128 {
        self.at_replica.into()
    }
}
