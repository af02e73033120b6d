//! Carries effects out beside the event loop, and makes sure that each is answered exactly once.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The effects of one machine that are under way. Their answers come back through [`Answers::next`].
///
/// A machine bounds what it asks for; nothing here queues. Dropping this ends whatever is under way.
pub(super) struct Answers<E> {
    tasks: JoinSet<()>,
    sender: mpsc::UnboundedSender<E>,
    receiver: mpsc::UnboundedReceiver<E>,
}

/// The one answer that is owed. If the effect panics, is cancelled, or never ends, the machine hears `unknown`.
struct Owed<E> {
    to: mpsc::UnboundedSender<E>,
    unknown: Option<E>,
}

impl<E> Owed<E> {
    fn give(mut self, answer: E) {
        self.unknown = None;
        // A closed channel means that the driver is gone, and the machine with it.
        self.to.send(answer).unwrap_or_default();
    }
}

impl<E> Drop for Owed<E> {
    fn drop(&mut self) {
        if let Some(unknown) = self.unknown.take() {
            self.to.send(unknown).unwrap_or_default();
        }
    }
}

impl<E: Send + 'static> Answers<E> {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { tasks: JoinSet::new(), sender, receiver }
    }

    /// Carries out `effect`. If it has not ended within `time_max`, the answer is `unknown`.
    pub(super) fn start(
        &mut self,
        time_max: Duration,
        unknown: E,
        effect: impl Future<Output = E> + Send + 'static,
    ) {
        while self.tasks.try_join_next().is_some() {}
        let owed = Owed { to: self.sender.clone(), unknown: Some(unknown) };
        self.tasks.spawn(async move {
            if let Ok(answer) = tokio::time::timeout(time_max, effect).await {
                owed.give(answer);
            }
        });
    }

    /// The next answer. Cancel safe. Waits for ever while nothing is under way.
    pub(super) async fn next(&mut self) -> E {
        self.receiver.recv().await.expect("this holds a sender itself")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_effect_is_answered_exactly_once() {
        let mut answers = Answers::new();
        let long = Duration::from_secs(5);
        answers.start(long, "unknown 1", async { "answer 1" });
        answers.start(long, "unknown 2", std::future::pending());
        answers.start(long, "unknown 3", async { panic!("a broken adapter") });
        let mut heard = [answers.next().await, answers.next().await, answers.next().await];
        heard.sort_unstable();
        assert_eq!(heard, ["answer 1", "unknown 2", "unknown 3"]);
        assert!(tokio::time::timeout(long * 2, answers.next()).await.is_err());
    }
}
