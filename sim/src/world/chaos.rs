//! The chaos clock: faults that strike at their own time and last for a while.

use backbeat_core::model::{Message, ObjectEntry, SiteStatus};
use backbeat_core::processor::{self, Control};
use backbeat_core::rules::Rules;

use super::process::{Ev, Role};
use super::site::BucketState;
use super::{Item, World};
use crate::checkers::Seen;
use crate::faults::Fault;
use crate::ids::{GroupId, KeyId, ProcId, SiteId, Topic};
use crate::marks::Mark;
use crate::scenario::SECOND;

/// How often the chaos clock ticks.
const TICK: u64 = SECOND / 4;

impl<R: Rules> World<R> {
    /// Draws every fault that strikes by itself.
    pub(super) fn chaos_tick(&mut self) {
        if !self.plan.is_active() {
            return;
        }
        let ticking = std::mem::take(&mut self.ticking);
        for &fault in &ticking {
            if self.strikes(fault) {
                self.strike(fault);
            }
        }
        self.ticking = ticking;
        self.after(TICK, Item::Chaos);
    }

    fn any_process(&mut self) -> ProcId {
        let index = self.struck.index(self.processes.len());
        ProcId(u8::try_from(index).expect("few processes"))
    }

    fn any_site(&mut self) -> SiteId {
        let index = self.struck.index(self.targets.len());
        SiteId(u8::try_from(index).expect("few sites"))
    }

    fn any_group(&mut self) -> GroupId {
        let index = self.struck.index(self.targets.len() + 1);
        if index == self.targets.len() {
            GroupId::Status
        } else {
            GroupId::Site(SiteId(u8::try_from(index).expect("few sites")))
        }
    }

    fn any_topic(&mut self) -> Topic {
        if self.struck.coin() { Topic::Replication } else { Topic::Status }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "faults of other shapes never get here")]
    fn strike(&mut self, fault: Fault) {
        let now = self.now();
        self.trace.line(now, || format!("fault {} strikes: {}", fault.id(), fault.about()));
        match fault {
            Fault::Pause => {
                let id = self.any_process();
                let until = now + self.struck.between(SECOND, 25 * SECOND);
                self.pause(id, until);
            }
            Fault::SlowNode => {
                let (id, until) = (self.any_process(), now + self.struck.below(10 * SECOND));
                self.process(id).slow_until = until;
            }
            Fault::AllAtOnce => {
                for index in 0..self.processes.len() {
                    self.crash(ProcId(u8::try_from(index).expect("few processes")), "with all others");
                }
            }
            Fault::CrashIdle => {
                let id = self.any_process();
                self.crash(id, "between two steps");
            }
            Fault::WallJump => {
                let id = self.any_process();
                let jump = i64::try_from(self.struck.below(2 * 86_400_000)).expect("small") - 86_400_000;
                self.process(id).clock.wall_offset = jump;
                if jump.abs() > 3_600_000 {
                    self.marks.hit(Mark::SkewedClocks);
                }
            }
            Fault::OneWay => {
                let (id, until) = (self.any_process(), now + self.struck.below(6 * SECOND));
                self.process(id).deaf_until = until;
            }
            Fault::Isolated => {
                let (id, until) = (self.any_process(), now + self.struck.below(20 * SECOND));
                let process = self.process(id);
                process.isolated_until = until;
                let life = process.life;
                self.gone(id, life);
            }
            Fault::Clogged => {
                let (id, until) = (self.any_process(), now + self.struck.below(8 * SECOND));
                self.process(id).clogged_until = until;
            }
            Fault::LeaderMove | Fault::PartitionStalled => {
                let topic = self.any_topic();
                let partition = self.struck.index(self.queue.partitions());
                let until = now + self.struck.below(10 * SECOND);
                let log = self.queue.log_mut(topic, partition);
                if fault == Fault::LeaderMove {
                    log.down_until = until;
                } else {
                    log.stalled_until = until + 10 * SECOND;
                }
            }
            Fault::RebalanceStorm => {
                let group = self.any_group();
                self.begin_rebalance(group);
            }
            Fault::SessionLost => {
                let group = self.any_group();
                let members: Vec<(ProcId, u32)> =
                    self.groups[group].members.iter().map(|(id, member)| (*id, member.life)).collect();
                if !members.is_empty() {
                    let (id, life) = members[self.struck.index(members.len())];
                    self.expel(group, id, life);
                }
            }
            Fault::GroupCoordinatorDown => {
                let group = self.any_group();
                let until = now + self.struck.below(8 * SECOND);
                self.groups[group].down_until = until;
            }
            Fault::Poison => {
                let topic = self.any_topic();
                let partition = self.struck.index(self.queue.partitions());
                let message = if self.struck.coin() {
                    Message::Invalid { reason: "malformed JSON in kafka entry".to_owned() }
                } else {
                    Message::Canary
                };
                self.append_message(topic, partition, message, None);
            }
            // Before a position is stored there is nothing that could be missed.
            Fault::JournalCut if self.coordination.position.position.is_some() => {
                let keep = self.struck.index(20);
                self.source.cut(keep);
            }
            Fault::JournalReplaced if self.coordination.position.position.is_some() => {
                self.source.replace();
                self.show_journal();
            }
            Fault::JournalCut | Fault::JournalReplaced => {}
            Fault::JournalStall => self.source.journal_stalled_until = now + self.struck.below(10 * SECOND),
            Fault::AccessRevoked => self.source.denied_until = now + self.struck.below(8 * SECOND),
            Fault::RuleDisabled => self.source.rule_disabled_until = now + self.struck.below(8 * SECOND),
            Fault::ThrottlingBurst | Fault::CredentialsExpired | Fault::TargetOutage => {
                let site = self.any_site();
                let until = now + self.struck.below(12 * SECOND);
                let target = &mut self.targets[site.index()];
                match fault {
                    Fault::ThrottlingBurst => target.throttled_until = until,
                    Fault::CredentialsExpired => target.expired_until = until,
                    _ => target.down_until = now + (until - now) * 5,
                }
            }
            Fault::TargetBucketGone | Fault::TargetUnversioned => {
                let site = self.any_site();
                let until = now + self.struck.below(8 * SECOND);
                let target = &mut self.targets[site.index()];
                target.bucket_until = until;
                target.bucket = if fault == Fault::TargetBucketGone {
                    BucketState::Missing
                } else {
                    BucketState::Unversioned
                };
            }
            Fault::UploadDropped => {
                let site = self.any_site();
                if let Some(minting) = &mut self.targets[site.index()].minting {
                    minting.drop_one();
                }
            }
            Fault::CoordinationLost => {
                self.coordination.down_until = now + self.struck.below(8 * SECOND);
            }
            Fault::SessionExpired => {
                if let Some((owner, life)) = self.coordination.owner {
                    self.end_ownership(owner, life);
                }
            }
            Fault::OperatorPause | Fault::OperatorBreaker => {
                let site = self.any_site();
                let breaker = fault == Fault::OperatorBreaker;
                let control = if breaker { Control::ForceBreaker(Some(true)) } else { Control::Pause };
                self.control(site, control);
                let delay = self.struck.below(12 * SECOND);
                self.after(delay, Item::OperatorEnds { site, breaker });
            }
            Fault::ManualRetry => self.manual_retry(),
            Fault::Backfill => self.backfill(),
            other => panic!("{other:?} does not strike by itself"),
        }
    }

    /// A process stands still until `until`.
    pub(super) fn pause(&mut self, id: ProcId, until: u64) {
        let process = self.process(id);
        if !process.up || process.paused_until >= until {
            return;
        }
        process.paused_until = until;
        let life = process.life;
        self.gone(id, life);
        self.schedule.push(until, Item::Resume { to: id });
    }

    /// An operator's word to all processors of a site.
    fn control(&mut self, site: SiteId, control: Control) {
        for index in 0..self.processes.len() {
            let process = &mut self.processes[index];
            if process.role != Role::Processor(site) {
                continue;
            }
            match control {
                Control::Pause => process.operator_paused = true,
                Control::Resume => process.operator_paused = false,
                Control::ForceBreaker(_) => {}
            }
            let (to, life) = (process.id, process.life);
            let ev = Ev::Processor(processor::Event::Control(control));
            // An operator's words keep their order.
            let at = (self.now() + self.latency()).max(self.processes[index].control_at + 1);
            self.processes[index].control_at = at;
            self.schedule.push(at, Item::Deliver { to, life, ev });
        }
        if control == Control::Pause && !self.checkers.is_done(&[]) {
            self.marks.hit(Mark::OperatorPaused);
        }
    }

    /// An operator ends a pause, or lets the breaker decide again.
    pub(super) fn operator_ends(&mut self, site: SiteId, breaker: bool) {
        self.control(site, if breaker { Control::ForceBreaker(None) } else { Control::Resume });
    }

    /// An operator retries what failed, as the retry API does: a PENDING message, then the work (replication reference 6.6).
    fn manual_retry(&mut self) {
        for (version, site) in self.checkers.failed() {
            let Some(md) = self.source.md(version).cloned() else { continue };
            let object = self.source.versions[version.index()].object.clone();
            let partition = self.partition_of[self.source.versions[version.index()].key.index()];
            let name = self.shape.sites[site.index()].clone();
            self.marks.hit(Mark::ManualRetried);
            self.see(&Seen::RetryAsked { version, site });
            let entry = ObjectEntry::of(object.bucket, &object.key, md);
            let about = |mut entry: ObjectEntry| {
                entry.site = Some(name.clone());
                entry
            };
            let pending = about(entry.to_pending(&name));
            let retry = about(entry.to_retry(&name));
            assert_eq!(
                pending.md().replication().site_status(&name),
                Some(&SiteStatus::Pending),
                "a retry asks"
            );
            self.append_message(Topic::Status, partition, Message::Object(Box::new(pending)), None);
            self.append_message(Topic::Replication, partition, Message::Object(Box::new(retry)), None);
        }
    }

    /// A listing queues what is pending again, across the live stream.
    fn backfill(&mut self) {
        let keys = self.shape.keys.len();
        let key = KeyId(u16::try_from(self.struck.index(keys)).expect("few keys"));
        self.queue_from_listing(key, false);
    }

    /// After a loss somebody queues everything that is pending from a listing.
    pub(super) fn resync(&mut self) {
        for key in 0..self.shape.keys.len() {
            self.queue_from_listing(KeyId(u16::try_from(key).expect("few keys")), true);
        }
    }

    /// Queues what is pending of a key; with `all` also what was never queued.
    fn queue_from_listing(&mut self, key: KeyId, all: bool) {
        let versions: Vec<_> = self.source.existing(key).collect();
        for version in versions {
            let Some(md) = self.source.md(version).cloned() else { continue };
            let wanted =
                md.replication().backends().iter().any(|backend| backend.status == SiteStatus::Pending);
            let known = self.checkers.is_queued(version);
            if !wanted || md.replication().status().as_str() == "REPLICA" || !(all || known) {
                continue;
            }
            if !known {
                self.marks.hit(Mark::LostAndQueued);
            }
            let object = self.source.versions[version.index()].object.clone();
            let entry = ObjectEntry::of(object.bucket, &object.key, md);
            self.append_message(
                Topic::Replication,
                self.partition_of[key.index()],
                Message::Object(Box::new(entry)),
                None,
            );
        }
    }
}
