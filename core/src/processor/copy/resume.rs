//! Large copies outlive their owner (decision D10): what was written for them is noted down, and the next owner goes on from there.
//!
//! Once data is noted, another owner may be about to name it. From then on nobody deletes it before the target shows the version's
//! data under other keys: every write that could still name the noted ones expects a state that is gone by then.

use std::mem;

use crate::call::Ending;
use crate::exception::{DepositNote, NotedPart};
use crate::id::UploadId;
use crate::model::{Location, ObjectMd};
use crate::rules::Rules;

use super::{CopyConfig, CopyJob};

/// What a copy knows about notes.
#[derive(Clone, Debug, Default)]
pub(super) struct Resume {
    /// What an earlier owner noted, until it is used.
    inherited: Option<DepositNote>,
    /// The content that noted data is of.
    content: String,
    /// Data that was noted and is not used any more.
    left: Vec<Location>,
    /// Bytes moved when the last note was made.
    noted_at: u64,
    /// A note that waits to be written.
    pending: Option<Box<DepositNote>>,
}

impl CopyJob {
    /// Tells the copy what an earlier owner of the version noted.
    pub(in crate::processor) fn inherit(&mut self, note: DepositNote) {
        self.resume.get_or_insert_default().inherited = Some(note);
    }

    /// The next note to write down.
    pub(in crate::processor) fn poll_note(&mut self) -> Option<Box<DepositNote>> {
        self.resume.as_mut()?.pending.take()
    }

    /// Notes what was stored, if the object is large and enough was stored since the last note.
    pub(super) fn note_parts(&mut self, config: &CopyConfig) {
        if self.minting.is_some() || !self.is_noted(config) || self.deposit.parts.is_empty() {
            return;
        }
        let moved = self.bytes_moved;
        if moved - self.resume.get_or_insert_default().noted_at < config.note_interval {
            return;
        }
        let noted = |part: &crate::model::Part| {
            let location = self.deposit.parts.get(&part.number)?;
            Some(NotedPart {
                number: part.number,
                size: part.size,
                digest: part.md5.to_string(),
                location: location.clone(),
            })
        };
        let parts = self.deposit.layout.iter().filter_map(noted).collect();
        self.write_note(None, parts);
    }

    /// Notes an upload that was begun, if the object is large.
    pub(super) fn note_upload(&mut self, upload: UploadId, config: &CopyConfig) {
        if self.is_noted(config) {
            self.write_note(Some(upload), Vec::new());
        }
    }

    fn is_noted(&self, config: &CopyConfig) -> bool {
        self.source.as_ref().is_some_and(|source| source.content_length() >= config.noted_size_min)
    }

    fn write_note(&mut self, upload: Option<UploadId>, parts: Vec<NotedPart>) {
        let content = self.source.as_ref().map_or("", |source| source.content_md5()).to_owned();
        let resume = self.resume.get_or_insert_default();
        resume.noted_at = self.bytes_moved;
        resume.content.clone_from(&content);
        let encryption = self.deposit.encryption.clone();
        resume.pending = Some(Box::new(DepositNote { content, upload, parts, encryption }));
    }

    /// Takes over what an earlier owner noted of the same content, part by part.
    pub(super) fn adopt_parts<R: Rules>(&mut self, rules: &R) {
        let Some(resume) = &mut self.resume else { return };
        let Some(note) = resume.inherited.take() else { return };
        let content = self.source.as_ref().map_or("", |source| source.content_md5());
        let same_content = note.content == content;
        resume.content = note.content;
        if same_content {
            self.deposit.encryption = note.encryption;
        }
        for part in note.parts {
            let wanted = self.deposit.layout.iter().find(|wanted| wanted.number == part.number);
            let matches =
                wanted.is_some_and(|wanted| wanted.size == part.size && *wanted.md5 == *part.digest);
            if wanted.is_some() && rules.keeps_noted_part(same_content && matches) {
                self.deposit.parts.entry(part.number).or_insert(part.location);
            } else {
                resume.left.push(part.location);
            }
        }
    }

    /// The upload that an earlier owner noted, if it is of the same content.
    pub(super) fn inherited_upload(&mut self) -> Option<UploadId> {
        let content = self.source.as_ref().map_or("", |source| source.content_md5());
        let note = self.resume.as_mut()?.inherited.take()?;
        note.upload.filter(|_| note.content == content)
    }

    /// Whether data of this copy may be known to other owners.
    pub(super) fn was_noted(&self) -> bool {
        self.resume.as_ref().is_some_and(|resume| !resume.content.is_empty())
    }

    /// Puts noted data aside that this copy does not use any more.
    pub(super) fn leave_noted(&mut self, locations: impl Iterator<Item = Location>) {
        self.resume.get_or_insert_default().left.extend(locations);
    }

    /// At the end of a copy: what was inherited and not used is left. Returns whether any noted data is.
    pub(super) fn has_left_noted(&mut self) -> bool {
        let Some(resume) = &mut self.resume else { return false };
        if let Some(note) = resume.inherited.take() {
            resume.content = note.content;
            resume.left.extend(note.parts.into_iter().map(|part| part.location));
        }
        if self.destination.is_none() {
            self.leaked += u32::try_from(mem::take(&mut resume.left).len()).unwrap_or(u32::MAX);
        }
        !resume.left.is_empty()
    }

    /// The noted data that may be deleted, knowing what the target shows; the rest is left to an audit and counted.
    pub(super) fn sweepable_noted<R: Rules>(&mut self, shown: &Ending<ObjectMd>, rules: &R) -> Vec<Location> {
        let Some(resume) = &mut self.resume else { return Vec::new() };
        let left = mem::take(&mut resume.left);
        let shown = if let Ending::Applied(md) = shown { Some(md) } else { None };
        let has_data =
            shown.is_some_and(|md| md.content_md5() == resume.content && !resume.content.is_empty());
        let mut sweepable = Vec::new();
        for location in left {
            let referenced =
                shown.is_some_and(|md| md.locations().iter().any(|other| other.key == location.key));
            if referenced {
                continue;
            }
            if rules.noted_may_go(has_data) {
                sweepable.push(location);
            } else {
                self.leaked += 1;
            }
        }
        sweepable
    }
}
