//! How one version is made equal at one site (decision D10): a machine of its own, driven by the site processor.
//!
//! The order of the two reads matters: the target first, the source after it. Whatever the target held came from a source
//! revision that is older than what is read next, so a write that is conditional on the target's state can never take
//! the target back, not even when a paused owner wakes up and finishes an old copy.

mod deposit;
mod minted;
mod outcome;
mod parts;
mod permission;
mod plan;
mod refusal;
mod resume;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::id::{Bucket, EffectId, EffectIds, Site};
use crate::model::{Location, ObjectMd, ObjectRef, Owner, VersionRef};
use crate::parts::{InFlight, Retry, RetryPolicy};
use crate::request::minting::TargetKind;
use crate::request::{BucketRules, Condition, PartMove, Side, SiteReply, SiteRequest};
use crate::rules::Rules;
use crate::time::{Instant, Span};

use deposit::Deposit;
use minted::Minting;
use parts::Stop;
use resume::Resume;

pub use outcome::{Outcome, Settled};
pub(super) use plan::destination_of;

/// How often a copy starts over because the target or the source changed under it, before that counts as trouble.
const RESTARTS_MAX: u32 = 8;

/// What every copy to a site has in common.
#[derive(Clone, Debug)]
pub struct CopyConfig {
    /// The site copied to.
    pub site: Site,
    /// What kind of target it is.
    pub target: TargetKind,
    /// How many versions of a key are looked at, at targets that mint ids.
    pub look_depth: u32,
    /// The account that owns the copies.
    pub owner: Owner,
    /// When trouble ends a copy (replication reference 5.5).
    pub retry: RetryPolicy,
    /// Parts of one version under way at once (upstream's `mpuPartsConcurrency`).
    pub parts_max: usize,
    /// How long one part may take.
    pub part_deadline: Span,
    /// Objects of at least so many bytes are noted down while they are copied, so that another owner can go on (decision D10).
    pub noted_size_min: u64,
    /// Bytes that are stored between two notes.
    pub note_interval: u64,
}

/// What a copy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the source to learn the destination bucket.
    Scouting,
    /// Reading the bucket's replication configuration.
    ReadingRules,
    /// Checking the target bucket.
    CheckingBucket,
    /// Reading the target's version.
    ReadingTarget,
    /// Reading the source's version.
    ReadingSource,
    /// Moving parts.
    Moving,
    /// Asking which version is the source's current one.
    ReadingCurrent,
    /// Removing versions that landed late at a target that mints ids.
    Clearing,
    /// Beginning an upload at a target that mints ids, and aborting others.
    Preparing,
    /// Writing the target's metadata, or the version itself where the target mints ids.
    Writing,
    /// Replacing the tags of a version at a target that mints ids.
    Tagging,
    /// Reading the target's version to prove that nothing refers to data written in vain.
    Proving,
    /// Deleting data written in vain.
    Sweeping,
    /// Ended.
    Ended,
}

/// One version on its way to one site.
#[derive(Clone, Debug)]
pub struct CopyJob {
    object: ObjectRef,
    destination: Option<Bucket>,
    stage: Stage,
    retry: Option<Retry>,
    restarts: u32,
    /// The last trouble: the reason should the attempts run out.
    trouble: Option<(Side, String)>,
    wait_until: Option<Instant>,
    configuration: Option<Arc<BucketRules>>,
    bucket_checked: bool,
    /// A failure that waits for the source revision that it speaks for.
    verdict: Option<String>,
    target: Option<ObjectMd>,
    source: Option<ObjectMd>,
    /// What is known besides at a target that mints ids.
    minting: Option<Box<Minting>>,
    /// What is noted of a large copy.
    resume: Option<Box<Resume>>,
    deposit: Deposit,
    /// Locations that no further write will name, and whether one that named them may still happen.
    abandoned: Vec<(Location, bool)>,
    keep_data: bool,
    write: Option<ObjectMd>,
    parts_todo: VecDeque<Arc<PartMove>>,
    parts_running: InFlight<Arc<PartMove>>,
    parts_stop: Option<Stop>,
    call: Option<EffectId>,
    requests: VecDeque<(EffectId, Box<SiteRequest>)>,
    bytes_moved: u64,
    leaked: u32,
    ending: Option<Outcome>,
    heard_from_target: Option<bool>,
}

/// What a step of a copy may use.
pub(super) struct Context<'a, R> {
    pub(super) now: Instant,
    pub(super) rules: &'a R,
    pub(super) ids: &'a mut EffectIds,
    pub(super) config: &'a CopyConfig,
    /// The target is known to be down and this copy is the probe: its trouble says nothing about the copy.
    pub(super) is_probe: bool,
}

impl CopyJob {
    /// A copy of `object`. `destination` is the target bucket if the queue entry told; otherwise the source is asked.
    pub fn new(object: ObjectRef, destination: Option<Bucket>) -> Self {
        Self {
            object,
            stage: if destination.is_some() { Stage::ReadingRules } else { Stage::Scouting },
            destination,
            retry: None,
            restarts: 0,
            trouble: None,
            wait_until: None,
            configuration: None,
            bucket_checked: false,
            verdict: None,
            target: None,
            source: None,
            minting: None,
            resume: None,
            deposit: Deposit::default(),
            abandoned: Vec::new(),
            keep_data: false,
            write: None,
            parts_todo: VecDeque::new(),
            parts_running: InFlight::new(),
            parts_stop: None,
            call: None,
            requests: VecDeque::new(),
            bytes_moved: 0,
            leaked: 0,
            ending: None,
            heard_from_target: None,
        }
    }

    /// The target bucket, once it is known.
    pub fn destination(&self) -> Option<&Bucket> {
        self.destination.as_ref()
    }

    /// What the copy is doing.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The last trouble and the side it came from.
    pub fn trouble(&self) -> Option<(Side, &str)> {
        self.trouble.as_ref().map(|(side, reason)| (*side, reason.as_str()))
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.retry.as_ref().map_or(0, Retry::attempts)
    }

    /// Set while nothing is under way and the next attempt is due later.
    #[inline]
    pub fn wait_until(&self) -> Option<Instant> {
        self.wait_until
    }

    /// How the copy ended, once it has.
    #[inline]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.ending.as_ref().filter(|_| self.stage == Stage::Ended)
    }

    /// Parts written in vain that could not be proven unreferenced: left to an audit (decision D4).
    pub fn leaked(&self) -> u32 {
        self.leaked
    }

    /// Whether the target answered (`true`) or failed to (`false`) since this was last asked.
    pub fn take_heard_from_target(&mut self) -> Option<bool> {
        self.heard_from_target.take()
    }

    /// The next request to carry out.
    #[inline]
    pub fn poll_request(&mut self) -> Option<(EffectId, Box<SiteRequest>)> {
        self.requests.pop_front()
    }

    /// Requests whose replies are still to come.
    pub fn outstanding(&self) -> impl Iterator<Item = EffectId> + '_ {
        self.call.into_iter().chain(self.parts_running.iter().map(|(id, _)| id))
    }

    /// Starts, or goes on after a wait.
    pub(super) fn resume<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        self.wait_until = None;
        self.retry.get_or_insert_with(|| Retry::new(context.now));
        if self.stage == Stage::Moving && self.minting.is_some() && self.upload().is_none() {
            // The upload went away under the parts that failed.
            self.stage = Stage::ReadingTarget;
        }
        if self.stage == Stage::Moving {
            self.plan_parts(context.config);
        }
        self.ask(context);
    }

    /// Another message asks for this version while the copy waits: what was read of the source may be old by now, so both
    /// sides are read again before anything more is written (decision D1).
    pub(super) fn source_may_have_changed(&mut self) {
        if matches!(
            self.stage,
            Stage::Moving
                | Stage::Writing
                | Stage::ReadingCurrent
                | Stage::Clearing
                | Stage::Preparing
                | Stage::Tagging
        ) {
            self.stage = Stage::ReadingTarget;
        }
    }

    /// Takes the reply to one request. Replies to unknown ids are ignored.
    pub(super) fn reply<R: Rules>(&mut self, id: EffectId, reply: SiteReply, context: &mut Context<'_, R>) {
        if let Some(part) = self.parts_running.remove(id) {
            let SiteReply::Moved { side, ending } = reply else {
                panic!("reply {reply:?} does not belong to a part");
            };
            self.part_ended(&part, side, ending, context.rules);
            self.note_parts(context.config);
            self.parts_settled(context);
        } else if self.call.take_if(|call| *call == id).is_some() {
            self.call_ended(reply, context);
        } else {
            return;
        }
        if self.wait_until.is_none() {
            self.ask(context);
        }
    }

    fn call_ended<R: Rules>(&mut self, reply: SiteReply, context: &mut Context<'_, R>) {
        match (self.stage, reply) {
            (Stage::Scouting, SiteReply::Metadata(ending)) => self.scouted(ending, context),
            (Stage::ReadingRules, SiteReply::Rules(ending)) => self.rules_read(ending, context),
            (Stage::CheckingBucket, SiteReply::Bucket(ending)) => self.bucket_checked(ending, context),
            (Stage::ReadingTarget, SiteReply::Metadata(ending)) => self.target_read(ending, context),
            (Stage::ReadingSource, SiteReply::Metadata(ending)) => self.source_read(ending, context),
            (Stage::Writing, SiteReply::Written(ending)) => self.written(ending, context),
            (Stage::Proving, SiteReply::Metadata(ending)) => self.proven(&ending, context.rules),
            (Stage::Sweeping, SiteReply::Deleted(_)) => self.stage = Stage::Ended,
            (_, SiteReply::Minting(reply)) => self.minting_ended(reply, context),
            (stage, reply) => panic!("reply {reply:?} does not belong to stage {stage:?}"),
        }
    }

    /// Emits what the present stage needs next.
    fn ask<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        if self.call.is_some() {
            return;
        }
        if let Some(request) = self.minting_request(context) {
            let id = context.ids.next();
            self.call = Some(id);
            self.requests.push_back((id, Box::new(SiteRequest::Minting(Box::new(request)))));
            return;
        }
        let request = match self.stage {
            Stage::Ended => return,
            Stage::Moving => return self.ask_parts(context),
            Stage::Scouting | Stage::ReadingSource => {
                SiteRequest::ReadMetadata { side: Side::Source, object: self.object.clone() }
            }
            Stage::ReadingTarget | Stage::Proving => {
                SiteRequest::ReadMetadata { side: Side::Target, object: self.target_object() }
            }
            Stage::ReadingRules => SiteRequest::ReadRules { bucket: self.object.bucket.clone() },
            Stage::CheckingBucket => SiteRequest::CheckBucket { bucket: self.target_object().bucket },
            Stage::Writing => SiteRequest::WriteMetadata {
                side: Side::Target,
                object: self.written_object(context.rules),
                md: self.write.clone().expect("the stage Writing has something to write"),
                condition: Some(match &self.target {
                    None => Condition::Absent,
                    Some(md) => Condition::tag(md.state_tag()),
                }),
                keep_data: self.keep_data,
            },
            Stage::ReadingCurrent | Stage::Clearing | Stage::Preparing | Stage::Tagging => {
                panic!("only targets that mint ids have the stage {:?}", self.stage)
            }
            Stage::Sweeping => SiteRequest::DeleteData {
                bucket: self.target_object().bucket,
                key: self.object.key.clone(),
                locations: self.abandoned.drain(..).map(|(location, _)| location).collect(),
            },
        };
        let id = context.ids.next();
        self.call = Some(id);
        self.requests.push_back((id, Box::new(request)));
    }

    /// How the write names the version. A null version that the target does not have yet goes under the id that the source stores
    /// for it: `null` would put it in the place of the target's latest version, whatever that is (wire reference 1.6). One
    /// without an id is the only version of its key.
    fn written_object<R: Rules>(&self, rules: &R) -> ObjectRef {
        let mut object = self.target_object();
        if self.target.is_none()
            && object.version.id().is_none()
            && let Some(source) = &self.source
            && let Some(id) = source.version_id().filter(|_| rules.names_null_by_id())
        {
            object.version = VersionRef::Version(id.clone());
        }
        object
    }

    fn target_object(&self) -> ObjectRef {
        let bucket = self.destination.clone().expect("the destination is known before the target is asked");
        ObjectRef { bucket, key: self.object.key.clone(), version: self.object.version.clone() }
    }
}
