//! A bench for the processor: two sites in memory, a queue position by position, and every effect carried out at once or
//! held back by the test.

use std::collections::{BTreeMap, VecDeque};

use super::minting_target::MintingTarget;
use crate::call::{Ending, Refusal, RefusalKind};
use crate::consumer::{QueueEffect, QueueEvent};
use crate::exception::ExceptionRecord;
use crate::id::{EffectId, Epoch, Offset, Partition, TopicPartition};
use crate::intake::IntakeLimits;
use crate::model::{
    Encryption, Location, Message, ObjectEntry, ObjectMd, ObjectRef, Owner, VersionId, VersionRef,
};
use crate::parts::{BreakerPolicy, RetryPolicy};
use crate::processor::copy::CopyConfig;
use crate::processor::{Config, Effect, Event, SiteProcessor};
use crate::request::minting::{MintingReply, MintingRequest, TargetKind};
use crate::request::{BucketRules, Condition, MovedPart, PartMove, Side, SiteReply, SiteRequest};
use crate::rules::Production;
use crate::time::{Instant, Now, Span, WallTime};

pub(super) const PARTITION: Partition = Partition(0);
pub(super) const MAIN: TopicPartition = TopicPartition { topic: 0, partition: PARTITION };

pub(super) fn config() -> Config {
    Config {
        copy: CopyConfig {
            site: "paris".into(),
            target: TargetKind::KeepsVersions,
            look_depth: 100,
            owner: Owner::new("target-owner", "Target"),
            retry: RetryPolicy { retries_max: Some(3), ..RetryPolicy::CONFIG_DEFAULT },
            parts_max: 2,
            part_deadline: Span::from_secs(60),
            noted_size_min: 100,
            note_interval: 50,
        },
        concurrency: 4,
        intake: IntakeLimits { read_ahead_max: 100, lane_max: 3 },
        parked_max: 10,
        bytes_max: 4 << 20,
        hold_delay: Span::from_secs(30),
        facts_ttl: Span::from_secs(60),
        exceptions_refresh: Span::from_secs(600),
        replays_max: 0,
        breaker: BreakerPolicy { failures_to_open: 50, ..BreakerPolicy::default() },
        publish_delay: Span::from_millis(100),
    }
}

/// A version of `key` as the source stores it: `sizes` are its parts, empty for an object without data.
pub(super) fn source_md(key: &str, version: &str, sizes: &[u64], tag: &str) -> ObjectMd {
    let mut start = 0;
    let parts: Vec<String> = sizes
        .iter()
        .enumerate()
        .map(|(index, size)| {
            let part = format!(
                r#"{{"key":"src-{key}-{version}-{index}","start":{start},"size":{size},"dataStoreName":"us-east-1","dataStoreETag":"{}:md5-{version}-{index}"}}"#,
                index + 1
            );
            start += size;
            part
        })
        .collect();
    let location = if parts.is_empty() { "null".to_owned() } else { format!("[{}]", parts.join(",")) };
    let content = if parts.is_empty() { r#"["METADATA"]"# } else { r#"["DATA","METADATA"]"# };
    let text = format!(
        r#"{{"owner-id":"source-owner","content-length":{start},"content-md5":"whole-{version}","last-modified":"2024-01-01T00:00:00.000Z","key":"{key}","versionId":"{version}","location":{location},"tags":{{"t":"{tag}"}},"replicationInfo":{{"status":"PENDING","backends":[{{"site":"paris","status":"PENDING","dataStoreVersionId":""}}],"content":{content},"destination":"arn:aws:s3:::copies","storageClass":"paris","role":"arn:aws:iam::1:role/a,arn:aws:iam::2:role/b","storageType":"","dataStoreVersionId":"","isNFS":null}}}}"#
    );
    ObjectMd::parse(&text).expect("the bench writes valid metadata")
}

pub(super) fn object(key: &str, version: &str) -> ObjectRef {
    ObjectRef::new("photos", key, VersionRef::Version(VersionId::from(version)))
}

pub(super) fn refused<T>(kind: RefusalKind, code: &str) -> Ending<T> {
    Ending::Refused(Refusal::new(kind, code))
}

/// For a target that mints version ids.
pub(super) fn minting(conditional: bool) -> Config {
    let mut config = config();
    config.copy.target = TargetKind::MintsVersions { conditional };
    config
}

/// The configuration that a bench was made with.
pub(super) fn config_of(bench: &Bench) -> Config {
    bench.config.clone()
}

pub(super) struct Bench {
    config: Config,
    pub(super) machine: SiteProcessor<Production>,
    pub(super) now: Now,
    pub(super) source: BTreeMap<ObjectRef, ObjectMd>,
    pub(super) target: BTreeMap<ObjectRef, ObjectMd>,
    pub(super) minting: MintingTarget,
    pub(super) rules: BucketRules,
    pub(super) bucket: Ending<()>,
    /// How the target encrypts what it stores.
    pub(super) encryption: Option<Encryption>,
    /// Effects not carried out yet.
    pub(super) held: VecDeque<Effect>,
    /// One line per effect, in the order of their emission.
    pub(super) log: Vec<String>,
    pub(super) statuses: Vec<ObjectEntry>,
    pub(super) exceptions: Vec<ExceptionRecord>,
    /// The records that a new owner finds.
    pub(super) live: Vec<ExceptionRecord>,
    pub(super) committed: Offset,
    pub(super) epoch: Epoch,
    next_offset: u64,
    data_keys: u32,
}

impl Bench {
    pub(super) fn new(config: Config) -> Self {
        let mut bench = Self {
            machine: SiteProcessor::new(config.clone(), Production),
            config,
            now: Now { mono: Instant::from_micros(0), wall: WallTime::from_millis(1_700_000_000_000) },
            source: BTreeMap::new(),
            target: BTreeMap::new(),
            minting: MintingTarget::default(),
            rules: BucketRules {
                roles: vec!["arn:aws:iam::1:role/a".to_owned(), "arn:aws:iam::2:role/b".to_owned()],
                prefixes: vec![String::new()],
            },
            bucket: Ending::Applied(()),
            encryption: None,
            held: VecDeque::new(),
            log: Vec::new(),
            statuses: Vec::new(),
            exceptions: Vec::new(),
            live: Vec::new(),
            committed: Offset(0),
            epoch: Epoch(1),
            next_offset: 0,
            data_keys: 0,
        };
        bench.assign(1, 0);
        bench
    }

    pub(super) fn assign(&mut self, epoch: u64, start: u64) {
        self.epoch = Epoch(epoch);
        self.next_offset = start;
        let partitions = vec![(PARTITION, vec![Offset(start)])];
        self.handle(Event::Queue(QueueEvent::Assigned { epoch: Epoch(epoch), partitions }));
        self.run();
        self.log.clear();
    }

    pub(super) fn handle(&mut self, event: Event) {
        self.machine.handle(self.now, event);
        while let Some(effect) = self.machine.poll_effect() {
            self.log.push(describe(&effect));
            self.held.push_back(effect);
        }
    }

    /// A client's write at the source, and the message about it.
    pub(super) fn write(&mut self, key: &str, version: &str, sizes: &[u64], tag: &str) {
        let md = source_md(key, version, sizes, tag);
        self.source.insert(object(key, version), md.clone());
        self.send(ObjectEntry::of("photos", &key.into(), md));
    }

    pub(super) fn send(&mut self, entry: ObjectEntry) {
        self.send_message(Message::Object(Box::new(entry)));
    }

    pub(super) fn send_message(&mut self, message: Message) {
        let offset = Offset(self.next_offset);
        self.next_offset += 1;
        self.handle(Event::Queue(QueueEvent::Message { epoch: self.epoch, from: MAIN, offset, message }));
    }

    /// Carries out everything, and what follows from it, until nothing is left to do at this time.
    pub(super) fn run(&mut self) {
        while let Some(effect) = self.held.pop_front() {
            if let Some(answer) = self.perform(effect) {
                self.handle(answer);
            }
        }
    }

    /// Lets time pass, timer by timer, for at most `span`, carrying everything out.
    pub(super) fn pass(&mut self, span: Span) {
        let end = self.now.mono + span;
        self.run();
        while let Some(due) = self.machine.poll_timeout().filter(|&due| due <= end) {
            self.advance_to(due.max(self.now.mono));
            self.handle(Event::Timer);
            self.run();
        }
        self.advance_to(end);
    }

    fn advance_to(&mut self, mono: Instant) {
        let millis = i64::try_from(mono.since(self.now.mono).as_millis()).expect("tests are short");
        self.now.wall = WallTime::from_millis(self.now.wall.as_millis() + millis);
        self.now.mono = mono;
    }

    /// Takes the first held effect for which `matches` holds.
    pub(super) fn take(&mut self, matches: impl Fn(&Effect) -> bool) -> Effect {
        let index = self.held.iter().position(matches).expect("such an effect is held");
        self.held.remove(index).expect("the index was just found")
    }

    /// Takes the first held call for which `matches` holds.
    pub(super) fn take_call(&mut self, matches: impl Fn(&SiteRequest) -> bool) -> (EffectId, SiteRequest) {
        let effect = self.take(|effect| matches!(effect, Effect::Call { request, .. } if matches(request)));
        let Effect::Call { id, request } = effect else { panic!("a call was looked for") };
        (id, *request)
    }

    /// Carries out effects, and lets time jump to the next timer when none is left, until one for which `matches` holds
    /// comes up: that one is returned uncarried.
    pub(super) fn run_until(&mut self, matches: impl Fn(&Effect) -> bool) -> Effect {
        loop {
            if self.held.iter().any(&matches) {
                return self.take(&matches);
            }
            if let Some(effect) = self.held.pop_front() {
                if let Some(answer) = self.perform(effect) {
                    self.handle(answer);
                }
            } else {
                let due = self.machine.poll_timeout().expect("such an effect comes up");
                self.advance_to(due.max(self.now.mono));
                self.handle(Event::Timer);
            }
        }
    }

    /// As [`run_until`](Self::run_until), for a call.
    pub(super) fn run_until_call(
        &mut self,
        matches: impl Fn(&SiteRequest) -> bool,
    ) -> (EffectId, SiteRequest) {
        let effect =
            self.run_until(|effect| matches!(effect, Effect::Call { request, .. } if matches(request)));
        let Effect::Call { id, request } = effect else { panic!("a call was looked for") };
        (id, *request)
    }

    pub(super) fn reply(&mut self, id: EffectId, reply: SiteReply) {
        self.handle(Event::Replied { id, reply });
    }

    pub(super) fn perform(&mut self, effect: Effect) -> Option<Event> {
        Some(match effect {
            Effect::Call { id, request } => Event::Replied { id, reply: self.call(*request) },
            Effect::PublishStatus { id, entry } => {
                self.statuses.push(*entry);
                Event::Published { id, ending: Ending::Applied(()) }
            }
            Effect::PutException { id, record } => {
                self.exceptions.push(*record);
                Event::Published { id, ending: Ending::Applied(()) }
            }
            Effect::LoadExceptions { id, .. } => {
                Event::ExceptionsLoaded { id, ending: Ending::Applied(self.live.clone()) }
            }
            Effect::Queue(QueueEffect::Commit { id, upto, .. }) => {
                self.committed = upto;
                Event::Queue(QueueEvent::Committed { id, ending: Ending::Applied(()) })
            }
            Effect::Queue(QueueEffect::Flow { .. } | QueueEffect::Release { .. }) => return None,
        })
    }

    pub(super) fn call(&mut self, request: SiteRequest) -> SiteReply {
        match request {
            SiteRequest::ReadMetadata { side, object } => {
                let md =
                    if side == Side::Source { self.source.get(&object) } else { self.target.get(&object) };
                SiteReply::Metadata(match md {
                    Some(md) => Ending::Applied(md.clone()),
                    None => refused(RefusalKind::NotFound, "ObjNotFound"),
                })
            }
            SiteRequest::WriteMetadata { object, md, condition, keep_data, .. } => {
                SiteReply::Written(self.write_target(object, md, condition.as_ref(), keep_data))
            }
            SiteRequest::MovePart(part) if part.upload.is_some() => {
                SiteReply::Moved { side: Side::Target, ending: self.minting.store_part(&part) }
            }
            SiteRequest::MovePart(part) => {
                SiteReply::Moved { side: Side::Target, ending: Ending::Applied(self.store(&part)) }
            }
            SiteRequest::DeleteData { .. } => SiteReply::Deleted(Ending::Applied(())),
            SiteRequest::ReadRules { .. } => SiteReply::Rules(Ending::Applied(self.rules.clone().into())),
            SiteRequest::CheckBucket { .. } => SiteReply::Bucket(self.bucket.clone()),
            SiteRequest::Minting(request) => SiteReply::Minting(self.call_minting(*request)),
        }
    }

    fn call_minting(&mut self, request: MintingRequest) -> MintingReply {
        let MintingRequest::ReadCurrent { object } = request else { return self.minting.call(request) };
        let newest = self.source.keys().filter(|other| other.key == object.key).min();
        MintingReply::Current(newest.map_or_else(
            || refused(RefusalKind::NotFound, "NoSuchKey"),
            |newest| Ending::Applied(newest.version.clone()),
        ))
    }

    pub(super) fn store(&mut self, part: &PartMove) -> MovedPart {
        self.data_keys += 1;
        let location = Location::stored(&format!("data-{}", self.data_keys), "paris-disk");
        let encryption = self.encryption.clone().map(Box::new);
        MovedPart { encryption, ..MovedPart::new(location, part.digest.clone()) }
    }

    fn write_target(
        &mut self,
        object: ObjectRef,
        md: ObjectMd,
        condition: Option<&Condition>,
        keep_data: bool,
    ) -> Ending<()> {
        let stored = self.target.get(&object);
        let holds = match condition {
            None => true,
            Some(Condition::Absent) => stored.is_none(),
            Some(Condition::Tag(tag)) => stored.is_some_and(|stored| stored.state_tag() == **tag),
        };
        if !holds {
            return refused(RefusalKind::Conflict, "PreconditionFailed");
        }
        let md = match stored {
            Some(stored) if keep_data => md.with_location(stored.locations().to_vec()),
            _ => md,
        };
        self.target.insert(object, md);
        Ending::Applied(())
    }

    /// What a reader finds at the target: the tag of the version, if it is there.
    pub(super) fn tag_at_target(&self, key: &str, version: &str) -> Option<String> {
        let replica = self.target.get(&target_object(key, version))?;
        replica.tags().get("t").cloned()
    }
}

pub(super) fn target_object(key: &str, version: &str) -> ObjectRef {
    ObjectRef { bucket: "copies".into(), ..object(key, version) }
}

pub(super) fn is_move(request: &SiteRequest) -> bool {
    matches!(request, SiteRequest::MovePart(_))
}

pub(super) fn is_write(request: &SiteRequest) -> bool {
    matches!(request, SiteRequest::WriteMetadata { .. })
}

pub(super) fn is_read_of(side: Side) -> impl Fn(&SiteRequest) -> bool {
    move |request| matches!(request, SiteRequest::ReadMetadata { side: asked, .. } if *asked == side)
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::Call { request, .. } => match &**request {
            SiteRequest::ReadMetadata { side, object } => format!("read {side:?} {}", object.key),
            SiteRequest::WriteMetadata { object, keep_data, .. } => {
                format!("write {}{}", object.key, if *keep_data { " keeping data" } else { "" })
            }
            SiteRequest::MovePart(part) => format!("move {} part {}", part.to_key, part.number),
            SiteRequest::DeleteData { locations, .. } => format!("delete {} locations", locations.len()),
            SiteRequest::ReadRules { .. } => "rules".to_owned(),
            SiteRequest::CheckBucket { .. } => "bucket".to_owned(),
            SiteRequest::Minting(request) => super::minting_target::describe(request),
        },
        Effect::PublishStatus { entry, .. } => {
            let status = entry.replication().site_status(&"paris".into()).map(ToString::to_string);
            format!("status {} {}", entry.object_key(), status.unwrap_or_default())
        }
        Effect::PutException { record, .. } => {
            format!("exception {} {:?} {}", record.object.key, record.state, record.reason)
        }
        Effect::LoadExceptions { .. } => "load exceptions".to_owned(),
        Effect::Queue(QueueEffect::Commit { upto, .. }) => format!("commit {}", upto.0),
        Effect::Queue(QueueEffect::Flow { open, .. }) => {
            format!("flow {}", if *open { "open" } else { "closed" })
        }
        Effect::Queue(QueueEffect::Release { epoch, .. }) => format!("release {}", epoch.0),
    }
}
