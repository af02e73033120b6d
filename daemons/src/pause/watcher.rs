//! Follows the node and the channel of one site, and writes the node as commands and dates demand.

use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::clock::WallClock;
use backbeat_backends::coordination::{Coordination, Expect, InvalidPath, Lifetime, Node, NodePath, Watch};
use backbeat_backends::stats::{Heard, Stats, Subscription};
use backbeat_core::call::{Ending, RefusalKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::state::{Command, PauseState};
use super::{REPLAY_STATE, STATE};

/// Writers that change a node at the same time try again so often.
const ATTEMPTS: usize = 5;

/// How long to wait before a service that was away is asked again.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// How long to wait before a resumption that could not be written is tried again.
const RESUME_RETRY_WAIT: Duration = Duration::from_mins(1);

/// The longest wait between two looks at the clock: it may be set.
const CLOCK_WAIT_MAX: Duration = Duration::from_mins(1);

/// The names of a site's node and channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PausePlace {
    /// Where its state is kept.
    pub node: NodePath,
    /// Where commands are heard.
    pub channel: String,
}

impl PausePlace {
    /// Those of `site`, whose changes come from `replication_topic`.
    ///
    /// # Errors
    /// The name of the site cannot be part of a path.
    pub fn of_site(replication_topic: &str, site: &str) -> Result<Self, InvalidPath> {
        let node = NodePath::new(STATE)?.child(site)?;
        Ok(Self { node, channel: format!("{replication_topic}-{site}") })
    }

    /// Those of `site` for the consumers of one replay topic: a node of their own, the same channel.
    ///
    /// # Errors
    /// One of the names cannot be part of a path.
    pub fn of_replay(replication_topic: &str, replay_topic: &str, site: &str) -> Result<Self, InvalidPath> {
        let node = NodePath::new(REPLAY_STATE)?.child(replay_topic)?.child(site)?;
        Ok(Self { node, channel: format!("{replication_topic}-{site}") })
    }
}

/// Why nobody can know whether a site is paused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PauseError {
    /// The node holds something else.
    #[error("node {node} holds no pause state but {content:?}: delete it, or write {{\"paused\":false}}")]
    Unreadable {
        /// The node.
        node: NodePath,
        /// What it holds.
        content: String,
    },
    /// The coordination store does not answer.
    #[error("node {node} cannot be read or written: {code}")]
    Unavailable {
        /// The node.
        node: NodePath,
        /// What it said.
        code: String,
    },
}

/// Learns whether the site is paused, and follows it from then on: the receiver always has the state that is known last.
/// A node that is missing is made. The task never ends: abort it.
///
/// The channel may be away, now or later: it is listened to as soon as it is there. A session that is over is asked again
/// and again: where that can happen, `coordination` opens another one by itself
/// ([`backbeat_backends::coordination::lasting::Lasting`]).
///
/// # Errors
/// The state cannot be known. A start that guesses could copy what somebody wanted to be left alone.
pub async fn follow<C: Coordination, S: Stats>(
    place: PausePlace,
    coordination: Arc<C>,
    stats: Arc<S>,
    clock: WallClock,
) -> Result<(watch::Receiver<bool>, JoinHandle<()>), PauseError> {
    let mut watcher = Watcher {
        place,
        coordination,
        stats,
        clock,
        state: PauseState::default(),
        paused: watch::Sender::new(false),
        node_watch: None,
        read_again: None,
        listening: None,
        listen_again: Instant::now(),
        resume_again: None,
    };
    watcher.begin().await?;
    let paused = watcher.paused.subscribe();
    let span = tracing::info_span!("pause", node = %watcher.place.node);
    Ok((paused, tokio::spawn(tracing::Instrument::instrument(watcher.run(), span))))
}

/// Deletes the state of a site that is not served any more.
pub async fn forget<C: Coordination>(coordination: &C, place: &PausePlace) -> Ending<()> {
    match coordination.delete(&place.node, Expect::Any).await {
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Ending::Applied(()),
        ending @ (Ending::Applied(()) | Ending::Refused(_) | Ending::Unknown) => ending,
    }
}

struct Watcher<C, S> {
    place: PausePlace,
    coordination: Arc<C>,
    stats: Arc<S>,
    clock: WallClock,
    /// As it was read or written last.
    state: PauseState,
    paused: watch::Sender<bool>,
    node_watch: Option<Watch>,
    /// When the node is read again although nothing is heard of it.
    read_again: Option<Instant>,
    listening: Option<Subscription>,
    /// When the channel is listened to, while it is not.
    listen_again: Instant,
    /// When a resumption is tried again.
    resume_again: Option<Instant>,
}

impl<C: Coordination, S: Stats> Watcher<C, S> {
    async fn begin(&mut self) -> Result<(), PauseError> {
        self.watch_node().await;
        self.listen().await;
        let now = self.clock.now();
        let written = self.change(|state| state.at_start(now)).await?;
        if written {
            tracing::info!(node = %self.place.node, "its date had passed: the site is resumed");
        } else if self.state.is_paused() {
            tracing::info!(node = %self.place.node, resumes = ?self.state.resumes(), "the site is paused");
        }
        Ok(())
    }

    async fn run(mut self) {
        loop {
            let due = self.due();
            tokio::select! {
                () = changed(self.node_watch.as_mut()) => {
                    // Of a session that is over nothing more is heard, and that at once: the next one is asked to tell.
                    if self.node_watch.as_ref().is_some_and(Watch::is_over) {
                        self.watch_node().await;
                    }
                    self.look().await;
                }
                () = at(self.read_again) => {
                    self.watch_node().await;
                    self.look().await;
                }
                heard = next(self.listening.as_mut()) => self.heard(heard).await,
                () = at(Some(self.listen_again)), if self.listening.is_none() => {
                    self.listen().await;
                    // What was ordered on another process while nobody listened here.
                    self.look().await;
                }
                () = at(due) => self.resume_if_due().await,
            }
        }
    }

    /// When the date of the state is looked at.
    fn due(&self) -> Option<Instant> {
        let date = self.state.resumes()?;
        let left = date.as_millis().saturating_sub(self.clock.now().as_millis());
        let wait = Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(CLOCK_WAIT_MAX);
        Some((Instant::now() + wait).max(self.resume_again.unwrap_or_else(Instant::now)))
    }

    async fn watch_node(&mut self) {
        self.node_watch = match self.coordination.watch(&self.place.node).await {
            Ending::Applied(watch) => Some(watch),
            Ending::Refused(_) | Ending::Unknown => None,
        };
        self.read_again = self.node_watch.is_none().then(|| Instant::now() + RETRY_WAIT);
    }

    async fn listen(&mut self) {
        self.listening = match self.stats.subscribe(&self.place.channel).await {
            Ending::Applied(subscription) => Some(subscription),
            Ending::Refused(refusal) => {
                tracing::debug!(channel = self.place.channel, code = %refusal.code, "channel not heard");
                None
            }
            Ending::Unknown => None,
        };
        self.listen_again = Instant::now() + RETRY_WAIT;
    }

    async fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Message(message) => match Command::parse(&message) {
                Ok(command) => self.obey(command).await,
                Err(reason) => tracing::warn!(channel = self.place.channel, reason, "message passed over"),
            },
            Heard::Missed(_) => self.look().await,
            Heard::Closed => {
                self.listening = None;
                self.listen_again = Instant::now() + RETRY_WAIT;
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        let now = self.clock.now();
        match self.change(|state| state.after(command, now)).await {
            Ok(true) => tracing::info!(?command, "done as ordered"),
            Ok(false) => tracing::info!(?command, paused = self.state.is_paused(), "nothing to do"),
            Err(error) => {
                tracing::warn!(?command, %error, "not done");
                self.look_soon();
            }
        }
    }

    async fn resume_if_due(&mut self) {
        self.resume_again = None;
        let now = self.clock.now();
        match self.change(|state| state.when_due(now)).await {
            Ok(true) => tracing::info!("resumed as scheduled"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "not resumed as scheduled; trying again");
                self.resume_again = Some(Instant::now() + RESUME_RETRY_WAIT);
            }
        }
    }

    /// Reads the node, and takes over what it says.
    async fn look(&mut self) {
        match self.read().await {
            Ok(Some((state, _))) => {
                if self.node_watch.is_some() {
                    self.read_again = None;
                }
                self.take(state);
            }
            // Whoever deleted it does not want the site to be served; that is not decided here.
            Ok(None) => tracing::warn!("the node is gone; the state stays what it was"),
            Err(error) => {
                tracing::debug!(%error, "the state stays what it was");
                self.look_soon();
            }
        }
    }

    /// Looks again after a while, with a new watch: the old one may be of a session that is over.
    fn look_soon(&mut self) {
        self.node_watch = None;
        self.read_again = Some(Instant::now() + RETRY_WAIT);
    }

    fn take(&mut self, state: PauseState) {
        if state != self.state {
            tracing::info!(paused = state.is_paused(), resumes = ?state.resumes(), "state");
            self.resume_again = None;
        }
        let is_paused = state.is_paused();
        self.state = state;
        self.paused.send_if_modified(|paused| std::mem::replace(paused, is_paused) != is_paused);
    }

    async fn read(&self) -> Result<Option<(PauseState, Expect)>, PauseError> {
        match self.coordination.read(&self.place.node).await {
            Ending::Applied(Node { data, version }) => match PauseState::parse(&data) {
                Some(state) => Ok(Some((state, Expect::Version(version)))),
                None => Err(PauseError::Unreadable {
                    node: self.place.node.clone(),
                    content: String::from_utf8_lossy(&data).into_owned(),
                }),
            },
            Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Ok(None),
            Ending::Refused(refusal) => Err(self.unavailable(refusal.code)),
            Ending::Unknown => Err(self.unavailable("no answer")),
        }
    }

    fn unavailable(&self, code: impl Into<String>) -> PauseError {
        PauseError::Unavailable { node: self.place.node.clone(), code: code.into() }
    }

    /// Writes what `change` makes of the state as it is now; makes the node if it is missing. Says whether `change` made
    /// anything of it. An error means that nothing is known to be written.
    async fn change(
        &mut self,
        change: impl Fn(&PauseState) -> Option<PauseState>,
    ) -> Result<bool, PauseError> {
        for _ in 0..ATTEMPTS {
            let (before, expect) = match self.read().await? {
                Some((state, expect)) => (state, Some(expect)),
                None => (PauseState::default(), None),
            };
            let after = change(&before);
            let is_change = after.is_some();
            let state = after.unwrap_or(before);
            let written = match expect {
                Some(_) if !is_change => {
                    self.take(state);
                    return Ok(false);
                }
                Some(expect) => self.coordination.write(&self.place.node, state.to_data(), expect).await,
                None => self.coordination.create(&self.place.node, state.to_data(), Lifetime::Durable).await,
            };
            match written {
                Ending::Applied(_) => {
                    self.take(state);
                    return Ok(is_change);
                }
                Ending::Refused(refusal)
                    if matches!(refusal.kind, RefusalKind::Conflict | RefusalKind::NotFound) => {}
                Ending::Refused(refusal) => return Err(self.unavailable(refusal.code)),
                Ending::Unknown => return Err(self.unavailable("no answer")),
            }
        }
        Err(self.unavailable("it keeps changing"))
    }
}

async fn changed(node_watch: Option<&mut Watch>) {
    match node_watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn next(listening: Option<&mut Subscription>) -> Heard {
    match listening {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
