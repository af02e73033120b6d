//! The driver of an instance that shares the journals with others: its sessions, its nodes, its watches.
//!
//! The list of what the instance owns is a hint of when to start and to stop populators. What keeps two of them from
//! moving one position is asked again before every save ([`Ownership`]), and the version of the position itself.

mod nodes;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::coordination::Coordination;
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{EffectId, Provision};
use backbeat_core::provisioning::{Config, Effect, Event, Provisioning};
use tokio::sync::{mpsc, oneshot, watch};

use super::answers::Answers;
use super::clock::Clock;
use super::ownership::Ownership;
use nodes::Membership;
pub use nodes::ProvisioningNodes;

/// How long it may take to open a session and to make the nodes before the session is given up.
const JOIN_TIME_MAX: Duration = Duration::from_mins(1);

/// How long a look, or the writing of all shares, may take before its ending counts as unknown.
const LOOK_TIME_MAX: Duration = Duration::from_secs(30);

/// What an instance owns at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provisions {
    /// In the order in which they were dealt, each with its claim.
    owned: Vec<Ownership>,
}

impl Provisions {
    /// The names, in the order in which they were dealt.
    pub fn names(&self) -> impl Iterator<Item = &Provision> {
        self.owned.iter().map(Ownership::provision)
    }

    /// The claims, for those who act on them. One of an earlier membership differs from one of this membership: whoever
    /// holds it has to begin anew.
    pub fn claims(&self) -> &[Ownership] {
        &self.owned
    }

    /// The claim to one provision, if it is owned.
    pub fn claim(&self, provision: &Provision) -> Option<&Ownership> {
        self.owned.iter().find(|claim| claim.provision() == provision)
    }

    /// Whether nothing is owned.
    pub fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }
}

/// The way to a running instance. Dropping it makes the instance leave, too.
#[derive(Debug)]
pub struct ProvisioningHandle {
    leave: mpsc::Sender<oneshot::Sender<()>>,
}

impl ProvisioningHandle {
    /// Leaves: owns nothing from now on, and when this returns, the nodes are gone, so that others have taken over or are about
    /// to (if the store could not be told, it finds out by itself). Stop the populators first: they could not save
    /// their positions afterwards.
    pub async fn leave(self) {
        let (sender, done) = oneshot::channel();
        if self.leave.send(sender).await.is_ok() {
            // Nobody answers if the task is gone with its runtime.
            done.await.unwrap_or_default();
        }
    }
}

/// Starts a task that takes part in the sharing of provisions. `open` opens a session with the store, again whenever one was
/// lost; its sessions are the instance's alone. The list that is given back is empty while there is none, and closed when the
/// task has ended.
pub fn start<C, E, F>(
    config: Config,
    nodes: ProvisioningNodes,
    open: impl Fn() -> F + Send + Sync + 'static,
    clock: Clock,
) -> (ProvisioningHandle, watch::Receiver<Provisions>)
where
    C: Coordination,
    E: Display + Send + 'static,
    F: Future<Output = Result<C, E>> + Send + 'static,
{
    let (leave, commands) = mpsc::channel(1);
    let (owned, list) = watch::channel(Provisions::default());
    let driver = Driver {
        machine: Provisioning::new(config),
        nodes,
        open,
        clock,
        commands,
        answers: Answers::new(),
        membership: None,
        closing: None,
        owned,
    };
    let span = tracing::info_span!("provisioning");
    tokio::spawn(tracing::Instrument::instrument(driver.run(), span));
    (ProvisioningHandle { leave }, list)
}

/// What comes back from the store.
enum Answer<C> {
    Machine(Event),
    Joined { id: EffectId, joined: Option<Membership<C>> },
}

struct Driver<C, O> {
    machine: Provisioning,
    nodes: ProvisioningNodes,
    open: O,
    clock: Clock,
    commands: mpsc::Receiver<oneshot::Sender<()>>,
    answers: Answers<Answer<C>>,
    membership: Option<(EffectId, Membership<C>)>,
    /// A session that is being closed because the instance leaves.
    closing: Option<Arc<C>>,
    owned: watch::Sender<Provisions>,
}

impl<C, E, F, O> Driver<C, O>
where
    C: Coordination,
    E: Display + Send + 'static,
    F: Future<Output = Result<C, E>> + Send + 'static,
    O: Fn() -> F + Send + Sync + 'static,
{
    async fn run(mut self) {
        self.apply(Event::Started);
        let done = loop {
            let timeout = self.machine.poll_timeout();
            let session = self.membership.as_ref().map(|(id, _)| *id).unwrap_or_default();
            let event = tokio::select! {
                biased;
                done = self.commands.recv() => break done,
                change = next_change(&mut self.membership) => match change {
                    Change::Over => Event::SessionOver { session },
                    Change::Seen => Event::Changed { session },
                },
                answer = self.answers.next() => self.take(answer),
                () = self.clock.sleep_until(timeout) => Event::Timer,
            };
            self.apply(event);
        };
        self.apply(Event::ShutDown);
        // What is under way ends here: a session that was being opened is dropped, which closes it.
        self.answers = Answers::new();
        if let Some(session) = self.closing.take() {
            session.close().await;
        }
        if let Some(done) = done {
            // Whoever asked may have stopped waiting.
            done.send(()).unwrap_or_default();
        }
    }

    fn take(&mut self, answer: Answer<C>) -> Event {
        match answer {
            Answer::Machine(event) => event,
            Answer::Joined { id, joined: None } => Event::Joined { id, ending: Ending::Unknown },
            Answer::Joined { id, joined: Some(membership) } => {
                tracing::info!(owner = %membership.owner, "joined those who share the journals");
                self.membership = Some((id, membership));
                Event::Joined { id, ending: Ending::Applied(()) }
            }
        }
    }

    fn apply(&mut self, event: Event) {
        self.machine.handle(self.clock.now(), event);
        while let Some(effect) = self.machine.poll_effect() {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Join { id } => {
                let (opening, nodes) = ((self.open)(), self.nodes.clone());
                self.answers.start(JOIN_TIME_MAX, Answer::Joined { id, joined: None }, async move {
                    let joined = match opening.await {
                        Ok(session) => Membership::join(session, nodes).await,
                        Err(error) => {
                            tracing::warn!(%error, "no session to share the journals through; trying again");
                            None
                        }
                    };
                    Answer::Joined { id, joined }
                });
            }
            Effect::Look { id } => {
                let unknown = Event::Looked { id, ending: Ending::Unknown };
                let looking = self.membership.as_ref().map(|(_, membership)| membership.look());
                self.ask(unknown, async move {
                    let ending = match looking {
                        Some(looking) => looking.await,
                        None => Ending::Refused(Refusal::new(RefusalKind::Fenced, "NoSession")),
                    };
                    Event::Looked { id, ending }
                });
            }
            Effect::Deal { id, shares } => {
                let unknown = Event::Dealt { id, ending: Ending::Unknown };
                let dealing = self.membership.as_ref().map(|(_, membership)| membership.deal(shares));
                self.ask(unknown, async move {
                    let ending = match dealing {
                        Some(dealing) => dealing.await,
                        None => Ending::Refused(Refusal::new(RefusalKind::Fenced, "NoSession")),
                    };
                    Event::Dealt { id, ending }
                });
            }
            Effect::Own { provisions } => self.own(provisions),
            Effect::GiveUp => {
                tracing::warn!("the session is over: owning nothing until there is another one");
                if let Some((_, membership)) = self.membership.take() {
                    tokio::spawn(async move { membership.session.close().await });
                }
            }
            Effect::Leave => self.closing = self.membership.take().map(|(_, membership)| membership.session),
        }
    }

    fn ask(&mut self, unknown: Event, ask: impl Future<Output = Event> + Send + 'static) {
        self.answers.start(
            LOOK_TIME_MAX,
            Answer::Machine(unknown),
            async move { Answer::Machine(ask.await) },
        );
    }

    fn own(&self, provisions: Vec<Provision>) {
        let owner = self.membership.as_ref().map(|(_, membership)| &membership.owner);
        let claims = provisions.into_iter().filter_map(|name| Some(Ownership::new(owner?.clone(), name)));
        let owned = Provisions { owned: claims.collect() };
        tracing::info!(provisions = ?owned.names().collect::<Vec<_>>(), "owned from now on");
        self.owned.send_replace(owned);
    }
}

/// What a session has to tell.
enum Change {
    Over,
    Seen,
}

/// Waits for the next news of the session. For ever if there is none. Cancel safe.
async fn next_change<C: Coordination>(membership: &mut Option<(EffectId, Membership<C>)>) -> Change {
    let Some((_, Membership { session, watches, .. })) = membership else {
        return std::future::pending().await;
    };
    let [leaders, owners, provisions, own] = watches;
    tokio::select! {
        // The watches of a session that is over tell of a change for ever.
        biased;
        () = session.expired() => Change::Over,
        () = leaders.changed() => Change::Seen,
        () = owners.changed() => Change::Seen,
        () = provisions.changed() => Change::Seen,
        () = own.changed() => Change::Seen,
    }
}
