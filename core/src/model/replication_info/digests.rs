//! Digests of what belongs to a revision and of what belongs to its status.

use xxhash_rust::xxh3::xxh3_64;

use crate::model::digest;
use crate::model::members::Slot;

use super::ReplicationInfo;

impl ReplicationInfo {
    /// The digest of what belongs to a revision: everything but the statuses and the list of sites.
    pub(in crate::model) fn settings_digest(&self) -> u128 {
        (*self.shared.digest.get_or_init(|| self.compute_settings_digest().into())).into()
    }

    fn compute_settings_digest(&self) -> u128 {
        let settings = self.settings();
        let mut content = String::with_capacity(32);
        for flag in settings.content.iter() {
            content.push_str(flag.as_str());
            content.push('\0');
        }
        let texts: [(&str, &str); 5] = [
            ("content", &content),
            ("destination", &settings.destination),
            ("role", &settings.role),
            ("storageType", &settings.storage_type),
            ("dataStoreVersionId", &settings.data_store_version_id),
        ];
        let texts = texts.into_iter().map(|(name, text)| digest::text(name, text));
        let nfs = digest::number("isNFS", settings.is_nfs.map_or(0, |is| 1 + u64::from(is)));
        let raw = settings.form.iter().flat_map(|form| form.iter()).filter_map(|slot| match slot {
            // What does not belong to a revision does not in another form either.
            Slot::Raw(name, _) if matches!(name.as_str(), "status" | "storageClass") => None,
            Slot::Raw(name, value) => Some(digest::member(name.as_str(), value.as_str())),
            Slot::Typed(_) => None,
        });
        let sum = texts.chain(raw).fold(nfs, u128::wrapping_add);
        // Keeps a member in here apart from one of the same name outside.
        sum.rotate_left(64)
    }

    /// The digest of what belongs to the status part of a state tag: the rest.
    pub(in crate::model) fn status_digest(&self) -> u64 {
        let mut text = String::with_capacity(128);
        let mut add = |part: &str| {
            text.push_str(part);
            text.push('\0');
        };
        add(self.status.as_str());
        add(self.storage_class());
        for backend in self.backends() {
            add(backend.site.as_str());
            add(backend.status.as_str());
            add(&backend.data_store_version_id);
            for slot in backend.form.iter().flat_map(|form| form.iter()) {
                if let Slot::Raw(name, value) = slot {
                    add(name.as_str());
                    add(value.as_str());
                }
            }
        }
        xxh3_64(text.as_bytes())
    }
}
