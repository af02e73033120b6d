//! Commits of consumers.

use backbeat_core::QueueEvent;
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{EffectId, Epoch, Offset, TopicPartition};
use backbeat_core::rules::Rules;

use super::unavailable;
use crate::checkers::{FactKind, Seen};
use crate::faults::Fault;
use crate::ids::{ProcId, Topic};
use crate::marks::Mark;
use crate::scenario::SECOND;
use crate::world::group::CommitAnswer;
use crate::world::process::Ev;
use crate::world::{Item, World, topic_of};

/// How long a consumer waits for the answer to a commit.
const COMMIT_TIMEOUT: u64 = 3 * SECOND;

impl<R: Rules> World<R> {
    /// A machine commits.
    pub(in crate::world) fn send_commit(
        &mut self,
        from: ProcId,
        id: EffectId,
        epoch: Epoch,
        tp: TopicPartition,
        upto: Offset,
    ) {
        let process = self.process(from);
        process.in_flight += 1;
        let life = process.life;
        let generation = u32::try_from(epoch.0).expect("epochs are generations here");
        let refused = self.strikes(Fault::CommitRefused);
        if refused {
            let ev = self.committed(from, id, Ending::Refused(unavailable("RebalanceInProgress")));
            return self.answer(from, life, ev);
        }
        let reply_lost = self.strikes(Fault::CommitReplyLost);
        match self.departure(from) {
            Some(at) => {
                self.schedule.push(at, Item::Commit { from, life, id, generation, tp, upto, reply_lost });
            }
            None => {
                let ev = self.committed(from, id, Ending::Unknown);
                self.after(COMMIT_TIMEOUT, Item::Deliver { to: from, life, ev });
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a commit is these values")]
    pub(in crate::world) fn commit_arrives(
        &mut self,
        from: ProcId,
        life: u32,
        id: EffectId,
        generation: u32,
        tp: TopicPartition,
        upto: Offset,
        reply_lost: bool,
    ) {
        let now = self.now();
        let Some(group_id) = self.processes[from.index()].role.group() else { return };
        let topic = topic_of(group_id, tp.topic);
        let group = &mut self.groups[group_id];
        if group.down_until > now {
            let ev = self.committed(from, id, Ending::Refused(unavailable("CoordinatorNotAvailable")));
            return self.answer(from, life, ev);
        }
        let before = group.committed[usize::from(tp.topic)][tp.partition.0 as usize];
        let ending = match group.commit(from, life, generation, tp, upto) {
            CommitAnswer::Recorded => {
                if before == upto {
                    self.marks.hit(Mark::CommitRepeated);
                }
                self.see(&Seen::Committed {
                    group: group_id,
                    topic,
                    partition: tp.partition,
                    upto,
                    generation,
                });
                self.mark_poison(topic, tp.partition.0 as usize, before, upto);
                Ending::Applied(())
            }
            CommitAnswer::Fenced => {
                self.marks.hit(Mark::ZombieCommitFenced);
                Ending::Refused(Refusal::new(RefusalKind::Fenced, "IllegalGeneration"))
            }
        };
        if reply_lost || self.is_unheard(from) {
            let ev = self.committed(from, id, Ending::Unknown);
            self.after(COMMIT_TIMEOUT, Item::Deliver { to: from, life, ev });
        } else {
            let ev = self.committed(from, id, ending);
            self.answer(from, life, ev);
        }
    }

    fn mark_poison(&mut self, topic: Topic, partition: usize, from: Offset, upto: Offset) {
        let records = &self.queue.log(topic, partition).records;
        let range = usize::try_from(from.0).expect("an index")..usize::try_from(upto.0).expect("an index");
        if records
            .get(range)
            .is_some_and(|passed| passed.iter().any(|record| record.facts.kind == FactKind::Foreign))
        {
            self.marks.hit(Mark::PoisonPassed);
        }
    }

    fn committed(&self, to: ProcId, id: EffectId, ending: Ending<()>) -> Ev {
        Ev::queue(self.processes[to.index()].role, QueueEvent::Committed { id, ending })
    }
}
