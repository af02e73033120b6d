//! Targets that mint version ids (D11). DATA-1, DATA-2: a version shows what a client wrote, each source version is there once, and
//! nothing that readers need is removed. ORDER-1: what readers of the key see never goes back.
//!
//! A request from nobody who owns the key, which the target could not refuse (a *stray*), may break that for a while: the copies
//! of the key that come after it must mend it.

use std::collections::BTreeMap;

use backbeat_core::request::minting::TargetKind;

use super::history::History;
use super::seen::Violation;
use crate::content::Content;
use crate::ids::{KeyId, SiteId, VerId};

/// One version at a target.
#[derive(Clone, Debug)]
struct Entry {
    id: u32,
    version: VerId,
    marker: bool,
    content: Content,
    stray: bool,
    /// When it was added.
    since: u64,
}

/// What targets that mint ids hold.
#[derive(Debug, Default)]
pub(super) struct Minting {
    keys: BTreeMap<(SiteId, KeyId), Vec<Entry>>,
    /// When each version was last changed at a site by somebody who owns its key.
    changed: BTreeMap<(SiteId, VerId), u64>,
}

/// Whether `entry` stands above something newer, or above itself.
fn is_late(entries: &[Entry], place: usize) -> bool {
    let entry = &entries[place];
    entries[..place].iter().any(|beneath| {
        let same = !entry.marker && beneath.version == entry.version;
        !beneath.marker && (beneath.version > entry.version || same)
    })
}

impl Minting {
    /// A version was added. Call before the history takes note of it.
    pub(super) fn minted(
        &mut self,
        history: &History,
        (site, key, version, id): (SiteId, KeyId, VerId, u32),
        (marker, content): (bool, Content),
        stray: bool,
    ) -> Result<(), Violation> {
        let name = &history.site_names[site.index()];
        let known = history.version(version);
        if !marker {
            let Some((oldest, newest)) = known.revision_shown(content, true) else {
                let message = format!("{name} shows a version {} that no client wrote", version.0);
                return Err(Violation::new("DATA-2", message));
            };
            if known.revisions[oldest as usize..=newest as usize].iter().all(|written| written.replica) {
                let message =
                    format!("version {} is a replica at the source and was replicated to {name}", version.0);
                return Err(Violation::new("STATUS-4", message));
            }
        }
        let entries = self.keys.entry((site, key)).or_default();
        if !stray && !marker {
            let twice =
                entries.iter().find(|entry| !entry.marker && !entry.stray && entry.version == version);
            if let Some(first) = twice {
                let message = format!("version {} is at {name} as {} and as {id}", version.0, first.id);
                return Err(Violation::new("DATA-2", message));
            }
        }
        // A version that is deleted at the source uncovers older ones there.
        let stands =
            |entry: &&Entry| !entry.stray && entry.version > version && !history.version(entry.version).gone;
        if !stray && let Some(newer) = entries.iter().find(stands) {
            let message =
                format!("version {} became current at {name} over version {}", version.0, newer.version.0);
            return Err(Violation::new("ORDER-1", message));
        }
        if !stray {
            self.changed.insert((site, version), history.order);
        }
        entries.push(Entry { id, version, marker, content, stray, since: history.order });
        Ok(())
    }

    /// Tags were replaced. Call before the history takes note of it.
    pub(super) fn retagged(
        &mut self,
        history: &History,
        (site, version, id): (SiteId, VerId, u32),
        content: Content,
        stray: bool,
    ) -> Result<(), Violation> {
        let name = &history.site_names[site.index()];
        let known = history.version(version);
        let Some((_, newest)) = known.revision_shown(content, true) else {
            let message = format!("{name} shows a version {} that no client wrote", version.0);
            return Err(Violation::new("DATA-2", message));
        };
        let entries = self.keys.entry((site, known.key)).or_default();
        let Some(entry) = entries.iter_mut().find(|entry| entry.id == id) else { return Ok(()) };
        if entry.version != version {
            let message =
                format!("tags of version {} went to version {} at {name}", version.0, entry.version.0);
            return Err(Violation::new("DATA-1", message));
        }
        let shown = known.revision_shown(entry.content, true).map_or(0, |(oldest, _)| oldest);
        if newest < shown && !stray {
            let message =
                format!("{name} went back from revision {shown} of version {} to {newest}", version.0);
            return Err(Violation::new("ORDER-1", message));
        }
        entry.content = content;
        if !stray {
            self.changed.insert((site, version), history.order);
        }
        Ok(())
    }

    /// A version was removed.
    pub(super) fn unminted(
        &mut self,
        history: &History,
        site: SiteId,
        key: KeyId,
        id: u32,
    ) -> Result<(), Violation> {
        let Some(entries) = self.keys.get_mut(&(site, key)) else { return Ok(()) };
        let Some(place) = entries.iter().position(|entry| entry.id == id) else { return Ok(()) };
        if !is_late(entries, place) {
            let name = &history.site_names[site.index()];
            let message = format!("version {} was removed at {name}, in its place", entries[place].version.0);
            return Err(Violation::new("DATA-1", message));
        }
        entries.remove(place);
        Ok(())
    }

    /// COMPLETED of a version was published: whoever copied it looked at the key after its last change of it.
    pub(super) fn completed(&self, history: &History, site: SiteId, version: VerId) -> Result<(), Violation> {
        // Where conditions are honoured the current version alone is looked at if it decides.
        if history.kinds[site.index()] != (TargetKind::MintsVersions { conditional: false }) {
            return Ok(());
        }
        let key = history.version(version).key;
        let (Some(entries), Some(looked)) = (self.keys.get(&(site, key)), self.changed.get(&(site, version)))
        else {
            return Ok(());
        };
        let left = (0..entries.len()).find(|&place| {
            !entries[place].marker && entries[place].since < *looked && is_late(entries, place)
        });
        if let Some(place) = left {
            let name = &history.site_names[site.index()];
            let message = format!(
                "version {} was copied to {name} and left version {}, which landed late, as {}",
                version.0, entries[place].version.0, entries[place].id
            );
            return Err(Violation::new("DATA-2", message));
        }
        Ok(())
    }

    /// Whether readers of the key find it deleted in some version: delete markers that follow one another count as one.
    pub(super) fn has_marker(&self, history: &History, site: SiteId, version: VerId) -> bool {
        let key = history.version(version).key;
        self.keys.get(&(site, key)).is_some_and(|entries| entries.iter().any(|entry| entry.marker))
    }
}
