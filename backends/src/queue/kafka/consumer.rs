//! The owner's side of a member: takes what has come, says what is to be done, waits for nothing but answers.

use std::sync::Arc;
use std::thread;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Epoch, Offset};
use tokio::sync::{mpsc, oneshot};

use super::member::{Command, Member, Shared, Subscription};
use crate::queue::{Consumer, ConsumerEvent, Group, QueueError, Slot};

/// A member of a group of Kafka.
///
/// Besides the contract of the port: an offset is committed with the member's generation, so that a broker refuses what
/// comes from an owner that was replaced.
pub struct KafkaConsumer {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

impl KafkaConsumer {
    pub(super) async fn join(group: &Group, subscription: Subscription) -> Result<Self, QueueError> {
        let shared = Arc::new(Shared::default());
        let (commands, inbox) = mpsc::unbounded_channel();
        let (joined, answer) = oneshot::channel();
        let run = {
            let (shared, commands) = (Arc::clone(&shared), commands.clone());
            move || Member::run(subscription, shared, (commands, inbox), joined)
        };
        thread::Builder::new()
            .name(format!("kafka-{group}"))
            .spawn(run)
            .map_err(|error| QueueError::Storage(format!("no thread for a member of {group}: {error}")))?;
        answer.await.unwrap_or_else(|_| Err(QueueError::Storage(format!("the member of {group} ended"))))?;
        Ok(Self { shared, commands })
    }

    fn say(&self, command: Command) {
        // A thread that has ended has nothing to do.
        drop(self.commands.send(command));
    }

    fn take(&self) -> Option<Result<ConsumerEvent, QueueError>> {
        let taken = self.shared.reading().take()?;
        if taken.is_low {
            self.shared.wanted.notify_one();
        }
        if matches!(taken.event, Ok(ConsumerEvent::Lost { .. })) {
            self.say(Command::Rejoin);
        }
        Some(taken.event)
    }
}

impl Consumer for KafkaConsumer {
    async fn next(&self) -> Result<ConsumerEvent, QueueError> {
        loop {
            // Waits from before the look, so that nothing falls between the look and the wait.
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if let Some(event) = self.take() {
                return event;
            }
            changed.await;
        }
    }

    async fn commit(&self, epoch: Epoch, slot: &Slot, upto: Offset) -> Ending<()> {
        let (waiter, answer) = oneshot::channel();
        self.say(Command::Commit { epoch, slot: slot.clone(), upto, waiter });
        answer.await.unwrap_or_else(|_| Ending::Refused(Refusal::new(RefusalKind::Fenced, "Left")))
    }

    fn release(&self, epoch: Epoch) {
        self.say(Command::Release(epoch));
    }

    fn pause(&self, slots: &[Slot]) {
        self.shared.reading().set_paused(slots, true);
    }

    fn resume(&self, slots: &[Slot]) {
        self.shared.reading().set_paused(slots, false);
        self.shared.changed.notify_one();
    }

    async fn leave(&self) {
        let (left, answer) = oneshot::channel();
        self.say(Command::Leave(Some(left)));
        // It has left already if nobody answers.
        answer.await.unwrap_or_default();
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.say(Command::Leave(None));
    }
}
