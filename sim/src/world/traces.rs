//! What a step leaves in the trace: words for the hash, a line for readers.

#![expect(clippy::wildcard_enum_match_arm, reason = "what needs no line of its own prints as it is")]

use backbeat_core::call::Ending;
use backbeat_core::model::{Message, ObjectMd, ObjectRef};
use backbeat_core::request::minting::{MintingReply, MintingRequest};
use backbeat_core::request::{Condition, SiteReply, SiteRequest};
use backbeat_core::{QueueEffect, QueueEvent, populator, processor, status};

use super::process::Ev;
use crate::ids::VerId;
use crate::names::{known_version_of, number_of, version_of, version_of_entry};
use crate::trace::Trace;

/// The version of an exception record; records of unreadable messages have none.
fn record_version(object: &ObjectRef) -> VerId {
    known_version_of(object).unwrap_or(VerId(u32::MAX))
}

fn ending<T>(ending: &Ending<T>) -> String {
    match ending {
        Ending::Applied(_) => "applied".to_owned(),
        Ending::Refused(refusal) => format!("refused {}", refusal.code),
        Ending::Unknown => "unknown".to_owned(),
    }
}

fn ending_word<T>(ending: &Ending<T>) -> u64 {
    match ending {
        Ending::Applied(_) => 1,
        Ending::Refused(refusal) => 2 + refusal.code.len() as u64,
        Ending::Unknown => 0,
    }
}

fn message(message: &Message) -> String {
    match message {
        Message::Object(entry) => {
            let version = version_of_entry(entry).0;
            let statuses: Vec<String> = entry
                .replication()
                .backends()
                .iter()
                .map(|backend| format!("{}={}", backend.site, backend.status))
                .collect();
            let site = entry.site.as_ref().map(|site| format!(" for {site}")).unwrap_or_default();
            format!("version {version}{site} [{}] {}", statuses.join(" "), entry.md().revision())
        }
        other => format!("{other:?}"),
    }
}

fn reply(reply: &SiteReply) -> String {
    match reply {
        SiteReply::Metadata(Ending::Applied(md)) => format!("metadata {}", md.state_tag()),
        SiteReply::Metadata(other) => format!("metadata {}", ending(other)),
        SiteReply::Written(other) => format!("write {}", ending(other)),
        SiteReply::Moved { side, ending: other } => format!("move {} ({side:?})", ending(other)),
        SiteReply::Deleted(other) => format!("delete {}", ending(other)),
        SiteReply::Rules(other) => format!("rules {}", ending(other)),
        SiteReply::Bucket(other) => format!("bucket {}", ending(other)),
        SiteReply::Minting(reply) => minting_reply(reply),
    }
}

fn reply_word(reply: &SiteReply) -> u64 {
    match reply {
        SiteReply::Metadata(other) => ending_word(other),
        SiteReply::Written(other) => 1 << 8 | ending_word(other),
        SiteReply::Moved { side, ending } => (2 + *side as u64) << 8 | ending_word(ending),
        SiteReply::Deleted(other) => 5 << 8 | ending_word(other),
        SiteReply::Rules(other) => 6 << 8 | ending_word(other),
        SiteReply::Bucket(other) => 7 << 8 | ending_word(other),
        SiteReply::Minting(reply) => minting_reply_word(reply),
    }
}

/// An event as a line.
pub(super) fn event(ev: &Ev) -> String {
    match ev {
        Ev::Populator(event) => match event {
            populator::Event::JournalRead { id, ending: Ending::Applied(batch) } => {
                format!(
                    "#{} journal: {} records, next {}, end {}",
                    id.0,
                    batch.records.len(),
                    batch.next.0,
                    batch.end.0
                )
            }
            populator::Event::Published { id, ending: how } => format!("#{} publish {}", id.0, ending(how)),
            other => format!("{other:?}"),
        },
        Ev::Processor(event) => match event {
            processor::Event::Queue(event) => queue_event(event),
            processor::Event::Replied { id, reply: what } => format!("#{} {}", id.0, reply(what)),
            processor::Event::Published { id, ending: how } => format!("#{} publish {}", id.0, ending(how)),
            other => format!("{other:?}"),
        },
        Ev::Status(event) => match event {
            status::Event::Queue(event) => queue_event(event),
            status::Event::Replied { id, reply: what } => format!("#{} {}", id.0, reply(what)),
            status::Event::Published { id, ending: how } => format!("#{} publish {}", id.0, ending(how)),
            status::Event::Timer => "Timer".to_owned(),
        },
    }
}

fn queue_event(event: &QueueEvent) -> String {
    match event {
        QueueEvent::Message { epoch, from, offset, message: what } => format!(
            "topic {} partition {} offset {} epoch {}: {}",
            from.topic,
            from.partition.0,
            offset.0,
            epoch.0,
            message(what)
        ),
        QueueEvent::Committed { id, ending: how } => format!("#{} commit {}", id.0, ending(how)),
        QueueEvent::Assigned { .. } | QueueEvent::Revoked { .. } | QueueEvent::Lost { .. } => {
            format!("{event:?}")
        }
    }
}

fn condition(condition: Option<&Condition>) -> String {
    match condition {
        None => "unconditionally".to_owned(),
        Some(Condition::Absent) => "if absent".to_owned(),
        Some(Condition::Tag(tag)) => format!("if {tag}"),
    }
}

fn request(request: &SiteRequest) -> String {
    match request {
        SiteRequest::ReadMetadata { side, object } => {
            format!("read version {} at {side:?}", version_of(object).0)
        }
        SiteRequest::WriteMetadata { side, object, md, condition: over, keep_data } => format!(
            "write version {} at {side:?} {}{}: {} [{}]",
            version_of(object).0,
            condition(over.as_ref()),
            if *keep_data { ", data kept" } else { "" },
            md.state_tag(),
            md.locations().iter().map(|part| part.key.to_string()).collect::<Vec<_>>().join(" ")
        ),
        SiteRequest::MovePart(part) => {
            format!("move part {} of version {}", part.number, version_of(&part.from).0)
        }
        SiteRequest::DeleteData { locations, .. } => {
            format!(
                "delete data {}",
                locations.iter().map(|part| part.key.to_string()).collect::<Vec<_>>().join(" ")
            )
        }
        SiteRequest::Minting(request) => minting_request(request),
        other => format!("{other:?}"),
    }
}

fn minting_request(request: &MintingRequest) -> String {
    match request {
        MintingRequest::FindCopies { object, known, depth } => {
            format!("find copies of version {} in {depth}, known {known:?}", version_of(object).0)
        }
        MintingRequest::ReadCurrent { object } => format!("which is current beside {}", version_of(object).0),
        MintingRequest::PutObject(put) => {
            format!(
                "put version {} if {:?}, tags {:?}",
                version_of(&put.from).0,
                put.condition,
                put.md.tags()
            )
        }
        MintingRequest::ListUploads { object } => {
            format!("list uploads beside version {}", version_of(object).0)
        }
        MintingRequest::CreateUpload { object, md } => {
            format!("create upload of version {}, tags {:?}", version_of(object).0, md.tags())
        }
        MintingRequest::ListParts { upload, .. } => format!("list parts of upload {upload}"),
        MintingRequest::CompleteUpload { object, upload, condition, .. } => {
            format!("complete upload {upload} of version {} if {condition:?}", version_of(object).0)
        }
        MintingRequest::AbortUpload { upload, .. } => format!("abort upload {upload}"),
        MintingRequest::WriteTags { object, id, tags } => {
            format!("tag version {} at {id} {tags:?}", version_of(object).0)
        }
        MintingRequest::DeleteObject { object, condition } => {
            format!("delete for version {} if {condition:?}", version_of(object).0)
        }
        MintingRequest::DeleteVersion { object, id } => {
            format!("remove {id} beside version {}", version_of(object).0)
        }
    }
}

fn minting_request_word(request: &MintingRequest) -> (u64, u64) {
    let of = |object| u64::from(version_of(object).0);
    match request {
        MintingRequest::FindCopies { object, depth, .. } => (0x14 | u64::from(*depth) << 8, of(object)),
        MintingRequest::ReadCurrent { object } => (0x15, of(object)),
        MintingRequest::PutObject(put) => (0x16 | u64::from(put.condition.is_some()) << 8, of(&put.to)),
        MintingRequest::ListUploads { object } => (0x17, of(object)),
        MintingRequest::CreateUpload { object, .. } => (0x18, of(object)),
        MintingRequest::ListParts { object, .. } => (0x19, of(object)),
        MintingRequest::CompleteUpload { object, parts, .. } => {
            (0x1a | (parts.len() as u64) << 8, of(object))
        }
        MintingRequest::AbortUpload { object, .. } => (0x1b, of(object)),
        MintingRequest::WriteTags { object, tags, .. } => (0x1c | (tags.len() as u64) << 8, of(object)),
        MintingRequest::DeleteObject { object, condition } => {
            (0x1d | u64::from(condition.is_some()) << 8, of(object))
        }
        MintingRequest::DeleteVersion { object, .. } => (0x1e, of(object)),
    }
}

fn minting_reply(reply: &MintingReply) -> String {
    match reply {
        MintingReply::Found(Ending::Applied(copies)) => {
            let versions: Vec<String> = copies
                .newest_first
                .iter()
                .map(|version| {
                    let marker = version.marker.as_ref().and_then(|marker| marker.raw());
                    let marker = marker
                        .and_then(number_of)
                        .map_or("deleted".to_owned(), |number| number.0.to_string());
                    format!("{}={marker}", version.id)
                })
                .collect();
            format!("found [{}]", versions.join(" "))
        }
        MintingReply::Found(other) => format!("found {}", ending(other)),
        MintingReply::Current(other) => format!("current {}", ending(other)),
        MintingReply::Put { side, ending: Ending::Applied(minted) } => {
            format!("put as {} ({side:?})", minted.id)
        }
        MintingReply::Put { side, ending: other } => format!("put {} ({side:?})", ending(other)),
        MintingReply::Minted(Ending::Applied(minted)) => format!("minted {}", minted.id),
        MintingReply::Minted(other) => format!("minted {}", ending(other)),
        MintingReply::Uploads(other) => format!("uploads {}", ending(other)),
        MintingReply::Created(Ending::Applied(upload)) => format!("upload {upload} created"),
        MintingReply::Created(other) => format!("upload {}", ending(other)),
        MintingReply::Parts(other) => format!("parts {}", ending(other)),
        MintingReply::Done(other) => format!("done {}", ending(other)),
    }
}

fn minting_reply_word(reply: &MintingReply) -> u64 {
    match reply {
        MintingReply::Found(ending) => {
            let count =
                if let Ending::Applied(copies) = ending { copies.newest_first.len() as u64 } else { 0 };
            count << 16 | 20 << 8 | ending_word(ending)
        }
        MintingReply::Current(ending) => 21 << 8 | ending_word(ending),
        MintingReply::Put { side, ending } => (22 + *side as u64) << 8 | ending_word(ending),
        MintingReply::Minted(ending) => 24 << 8 | ending_word(ending),
        MintingReply::Uploads(ending) => 25 << 8 | ending_word(ending),
        MintingReply::Created(ending) => 26 << 8 | ending_word(ending),
        MintingReply::Parts(ending) => 27 << 8 | ending_word(ending),
        MintingReply::Done(ending) => 28 << 8 | ending_word(ending),
    }
}

/// A populator's effect as a line.
pub(super) fn populator_effect(effect: &populator::Effect) -> String {
    match effect {
        populator::Effect::Publish { id, producer, seq, .. } => {
            format!("#{} publish record {} with producer {producer}", id.0, seq.0)
        }
        other => format!("{other:?}"),
    }
}

/// A site processor's effect as a line.
pub(super) fn processor_effect(effect: &processor::Effect) -> String {
    match effect {
        processor::Effect::Call { id, request: what } => format!("#{} {}", id.0, request(what)),
        processor::Effect::PublishStatus { id, entry } => {
            format!("#{} publish status {}", id.0, message(&Message::Object(entry.clone())))
        }
        processor::Effect::PutException { id, record } => {
            format!(
                "#{} exception {:?} {} of {}",
                id.0,
                record.state,
                record.reason,
                record_version(&record.object).0
            )
        }
        other => format!("{other:?}"),
    }
}

/// A status processor's effect as a line.
pub(super) fn status_effect(effect: &status::Effect) -> String {
    match effect {
        status::Effect::Call { id, request: what } => format!("#{} {}", id.0, request(what)),
        status::Effect::Publish { id, outgoing } => match outgoing {
            status::Outgoing::Replay { topic, entry } => {
                format!("#{} replay on {topic} {}", id.0, message(&Message::Object(entry.clone())))
            }
            status::Outgoing::Requeue { entry } => {
                format!("#{} requeue {}", id.0, message(&Message::Object(entry.clone())))
            }
            other => format!("#{} {other:?}", id.0),
        },
        status::Effect::PutException { id, record } => {
            format!(
                "#{} exception {:?} {} of {}",
                id.0,
                record.state,
                record.reason,
                record_version(&record.object).0
            )
        }
        status::Effect::Count(_) => "count".to_owned(),
        status::Effect::Queue(effect) => format!("{effect:?}"),
    }
}

/// Adds an event to the hash.
pub(super) fn hash_event(trace: &mut Trace, ev: &Ev) {
    let words = match ev {
        Ev::Populator(event) => match event {
            populator::Event::Started => [1, 0, 0],
            populator::Event::OwnershipLost => [2, 0, 0],
            populator::Event::PositionLoaded { id, ending } => [3, id.0, ending_word(ending)],
            populator::Event::JournalRead { id, ending } => {
                let next =
                    if let Ending::Applied(batch) = ending { batch.next.0 << 32 | batch.end.0 } else { 0 };
                [4, id.0, next << 8 | ending_word(ending)]
            }
            populator::Event::Published { id, ending } => [5, id.0, ending_word(ending)],
            populator::Event::PositionSaved { id, ending } => [6, id.0, ending_word(ending)],
            populator::Event::Replied { id, reply } => [9, id.0, reply_word(reply)],
            populator::Event::LossRecorded { id, ending } => [8, id.0, ending_word(ending)],
            populator::Event::Timer => [7, 0, 0],
        },
        Ev::Processor(event) => match event {
            processor::Event::Queue(event) => queue_event_words(10, event),
            processor::Event::Replied { id, reply } => [14, id.0, reply_word(reply)],
            processor::Event::Published { id, ending } => [15, id.0, ending_word(ending)],
            processor::Event::ExceptionsLoaded { id, ending } => {
                let records = if let Ending::Applied(records) = ending { records.len() as u64 } else { 0 };
                [16, id.0, records << 8 | ending_word(ending)]
            }
            processor::Event::Control(control) => [18, 0, control_word(*control)],
            processor::Event::Timer => [19, 0, 0],
        },
        Ev::Status(event) => match event {
            status::Event::Queue(event) => queue_event_words(20, event),
            status::Event::Replied { id, reply } => [24, id.0, reply_word(reply)],
            status::Event::Published { id, ending } => [25, id.0, ending_word(ending)],
            status::Event::Timer => [29, 0, 0],
        },
    };
    trace.words(words);
}

fn queue_event_words(base: u64, event: &QueueEvent) -> [u64; 3] {
    match event {
        QueueEvent::Assigned { epoch, partitions } => [base, epoch.0, partitions.len() as u64],
        QueueEvent::Revoked { epoch, partitions, .. } => [base + 1, epoch.0, partitions.len() as u64],
        QueueEvent::Lost { epoch, partitions } => [base + 2, epoch.0, partitions.len() as u64],
        QueueEvent::Message { epoch, from, offset, .. } => [base + 3, epoch.0, tp_word(*from, *offset)],
        QueueEvent::Committed { id, ending } => [base + 7, id.0, ending_word(ending)],
    }
}

fn queue_effect_words(base: u64, effect: &QueueEffect) -> [u64; 3] {
    match effect {
        QueueEffect::Commit { id, from, upto, .. } => [base, id.0, tp_word(*from, *upto)],
        QueueEffect::Flow { partition, open } => [base + 1, u64::from(partition.0), u64::from(*open)],
        QueueEffect::Release { epoch, partitions } => [base + 2, epoch.0, partitions.len() as u64],
    }
}

fn control_word(control: processor::Control) -> u64 {
    match control {
        processor::Control::Pause => 1,
        processor::Control::Resume => 2,
        processor::Control::ForceBreaker(None) => 3,
        processor::Control::ForceBreaker(Some(open)) => 4 + u64::from(open),
    }
}

fn md_word(md: &ObjectMd) -> u64 {
    let locations =
        md.locations().iter().fold(0_u64, |sum, part| sum.wrapping_mul(31).wrapping_add(part.size));
    locations ^ (md.replication().status().as_str().len() as u64) << 56
}

/// Names a version in the hash without decoding its id.
fn version_word(object: &ObjectRef) -> u64 {
    let id = object.version.id().and_then(|id| id.as_str().as_bytes().get(6..)?.first_chunk::<8>());
    id.map_or_else(|| u64::from(version_of(object).0), |digits| u64::from_le_bytes(*digits))
}

fn request_word(request: &SiteRequest) -> (u64, u64) {
    match request {
        SiteRequest::ReadMetadata { side, object } => (1 + *side as u64, version_word(object)),
        SiteRequest::WriteMetadata { side, object, md, condition, keep_data } => {
            let over = match condition {
                None => 0,
                Some(Condition::Absent) => 1,
                Some(Condition::Tag(_)) => 2,
            };
            let kind = (3 + *side as u64) | over << 8 | u64::from(*keep_data) << 12;
            (kind, version_word(object) ^ md_word(md))
        }
        SiteRequest::MovePart(part) => (5 | u64::from(part.number) << 8, version_word(&part.from)),
        SiteRequest::DeleteData { locations, .. } => (6, locations.len() as u64),
        SiteRequest::ReadRules { .. } => (7, 0),
        SiteRequest::CheckBucket { .. } => (8, 0),
        SiteRequest::Minting(request) => minting_request_word(request),
    }
}

fn tp_word(from: backbeat_core::id::TopicPartition, upto: backbeat_core::id::Offset) -> u64 {
    u64::from(from.topic) << 56 | u64::from(from.partition.0) << 40 | upto.0
}

/// What of a populator's effect is hashed.
pub(super) fn populator_words(effect: &populator::Effect) -> [u64; 3] {
    match effect {
        populator::Effect::LoadPosition { id } => [101, id.0, 0],
        populator::Effect::ReadJournal { id, from, .. } => [102, id.0, from.map_or(0, |seq| seq.0)],
        populator::Effect::Publish { id, producer, seq, .. } => [103, id.0, producer << 40 | seq.0],
        populator::Effect::Unreadable { seq, .. } => [104, 0, seq.0],
        populator::Effect::SavePosition { id, position, version, .. } => {
            [105, id.0, position.0 << 32 | version]
        }
        populator::Effect::Overwritten { seq, object } => [108, seq.0, u64::from(record_version(object).0)],
        populator::Effect::Call { id, request } => {
            let (kind, what) = request_word(request);
            [kind << 8 | 0x6d, id.0, what]
        }
        populator::Effect::RecordLoss { id, loss } => [107, id.0, loss.wanted.0.0 << 32 | loss.resumes.0.0],
        populator::Effect::Stopped { .. } => [106, 0, 0],
    }
}

/// What of a site processor's effect is hashed.
pub(super) fn processor_words(effect: &processor::Effect) -> [u64; 3] {
    match effect {
        processor::Effect::Call { id, request } => {
            let (kind, what) = request_word(request);
            [kind << 8 | 0x6e, id.0, what]
        }
        processor::Effect::PublishStatus { id, entry } => [111, id.0, md_word(entry.md())],
        processor::Effect::PutException { id, record } => {
            [112, id.0, (record.state as u64) << 32 | u64::from(record_version(&record.object).0)]
        }
        processor::Effect::LoadExceptions { id, partition } => [113, id.0, u64::from(partition.0)],
        processor::Effect::Queue(effect) => queue_effect_words(114, effect),
    }
}

/// What of a status processor's effect is hashed.
pub(super) fn status_words(effect: &status::Effect) -> [u64; 3] {
    match effect {
        status::Effect::Call { id, request } => {
            let (kind, what) = request_word(request);
            [kind << 8 | 0x78, id.0, what]
        }
        status::Effect::Publish { id, outgoing } => {
            let (kind, what) = match outgoing {
                status::Outgoing::Replay { entry, .. } => (0, md_word(entry.md())),
                status::Outgoing::Requeue { entry } => (1, md_word(entry.md())),
                status::Outgoing::Failed { record } => (2, record.member.len() as u64),
                status::Outgoing::Gc { .. } => (3, 0),
            };
            [kind << 8 | 0x79, id.0, what]
        }
        status::Effect::PutException { id, record } => {
            [122, id.0, (record.state as u64) << 32 | u64::from(record_version(&record.object).0)]
        }
        status::Effect::Count(_) => [123, 0, 0],
        status::Effect::Queue(effect) => queue_effect_words(124, effect),
    }
}
