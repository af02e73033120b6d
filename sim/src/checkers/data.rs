//! DATA-1 (I3, I4): what a target shows has the source's bytes. DATA-2 (I6): everything there came from a source version,
//! once. ORDER-1 (I2): what a target shows of a version never goes back, nor what it shows as the latest version.

use std::collections::BTreeMap;

use backbeat_core::model::ObjectMd;

use super::Blob;
use super::history::History;
use super::seen::Violation;
use crate::content::Content;
use crate::ids::{KeyId, SiteId, VerId};
use crate::marks::{Mark, Marks};

/// Parts named by what targets show.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// Per site and version: the parts that the metadata names.
    named: BTreeMap<(SiteId, VerId), Vec<usize>>,
    /// Per site and key: what readers of the latest version see.
    latest: BTreeMap<(SiteId, KeyId), VerId>,
}

impl Data {
    /// Metadata was written at a target. Call before the history takes note of it.
    pub(super) fn wrote(
        &mut self,
        history: &History,
        site: SiteId,
        version: VerId,
        (after, content): (&ObjectMd, Content),
        blobs: &[Blob],
    ) -> Result<(), Violation> {
        let name = &history.site_names[site.index()];
        let known = history.version(version);
        let Some((oldest, revision)) = known.revision_of(content) else {
            let message = format!("{name} shows a version {} that no client wrote", version.0);
            return Err(Violation::new("DATA-2", message));
        };
        // The same content may also have been written as our own version: then nothing is proven.
        let worlds = &known.revisions[oldest as usize..=revision as usize];
        if worlds.iter().filter(|written| written.content == content).all(|written| written.replica) {
            let message =
                format!("version {} is a replica at the source and was replicated to {name}", version.0);
            return Err(Violation::new("STATUS-4", message));
        }
        let at = &known.sites[site.index()];
        if let Some(shown) = at.target {
            let (first, _) = known.revision_of(shown).expect("what is shown was written by a client");
            if revision < first && !known.revived.contains(&content) {
                let message =
                    format!("{name} went back from revision {first} of version {} to {revision}", version.0);
                return Err(Violation::new("ORDER-1", message));
            }
            if shown != content && at.changes > known.newest() + 2 * known.overwrites() {
                let message = format!("version {} changed {} times at {name}", version.0, at.changes + 1);
                return Err(Violation::new("DATA-2", message));
            }
        }
        let mut named = Vec::with_capacity(after.locations().len());
        for location in after.locations() {
            let index: Option<usize> = location.key.parse().ok();
            let Some((index, blob)) = index.and_then(|index| Some((index, blobs.get(index)?))) else {
                let message = format!(
                    "version {} at {name} names data {:?} that was never stored",
                    version.0, location.key
                );
                return Err(Violation::new("DATA-1", message));
            };
            if !blob.alive || blob.version != version || location.md5() != Some(blob.digest.as_str()) {
                let message =
                    format!("version {} at {name} names part {index}, which is {blob:?}", version.0);
                return Err(Violation::new("DATA-1", message));
            }
            named.push(index);
        }
        if u32::try_from(named.len()).ok() != Some(known.parts) {
            let message =
                format!("version {} at {name} has {} parts of {}", version.0, named.len(), known.parts);
            return Err(Violation::new("DATA-1", message));
        }
        self.named.insert((site, version), named);
        Ok(())
    }

    /// What readers of the latest version of a key see after a write to `version`. Older versions have smaller numbers.
    pub(super) fn shows(
        &mut self,
        history: &History,
        site: SiteId,
        version: VerId,
        latest: Option<VerId>,
        marks: &mut Marks,
    ) -> Result<(), Violation> {
        let known = history.version(version);
        let Some(latest) = latest else { return Ok(()) };
        let before = self.latest.insert((site, known.key), latest);
        if before > Some(version) && known.is_null && known.sites[site.index()].target.is_none() {
            marks.hit(Mark::NullAfterNewer);
        }
        if before > Some(latest) {
            let name = &history.site_names[site.index()];
            let message = format!(
                "{name} showed version {} as the latest of key {} and then version {} again",
                before.map_or(0, |before| before.0),
                known.key.0,
                latest.0
            );
            return Err(Violation::new("ORDER-1", message));
        }
        Ok(())
    }

    /// A part was deleted on request.
    pub(super) fn deleted(
        &self,
        history: &History,
        site: SiteId,
        version: VerId,
        blob: usize,
    ) -> Result<(), Violation> {
        if self.named.get(&(site, version)).is_some_and(|named| named.contains(&blob)) {
            let name = &history.site_names[site.index()];
            let message =
                format!("part {blob} of version {} was deleted at {name}, which shows it", version.0);
            return Err(Violation::new("DATA-1", message));
        }
        Ok(())
    }
}
