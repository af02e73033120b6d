//! The machine of one instance.

use std::collections::VecDeque;

use super::{Effect, Event, Fleet, Share, Sight, deal};
use crate::call::{Ending, RefusalKind};
use crate::id::{EffectId, EffectIds, Provision};
use crate::time::{Instant, Now, Span};

/// How an instance takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Everything is read again after so long without a change: a watch may have been lost.
    pub refresh: Span,
    /// The wait before something that failed is tried again.
    pub retry_delay: Span,
}

impl Default for Config {
    /// What upstream does.
    fn default() -> Self {
        Self { refresh: Span::from_secs(60), retry_delay: Span::from_secs(1) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not started.
    Idle,
    /// Without a session, until the timer.
    Apart,
    /// Making a session and the nodes.
    Joining(EffectId),
    /// With a session, which goes by the id of the effect that made it.
    Member(EffectId),
    /// Gone for good.
    Left,
}

/// One instance among those that share the provisions. One task owns it.
#[derive(Debug)]
pub struct Provisioning {
    config: Config,
    now: Now,
    phase: Phase,
    ids: EffectIds,
    effects: VecDeque<Effect>,
    /// The look or the deal under way: one at a time.
    busy: Option<EffectId>,
    /// Something changed meanwhile: look again.
    redo: bool,
    due: Option<Instant>,
    owned: Vec<Provision>,
}

impl Provisioning {
    /// An instance that takes no part yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            now: Now::default(),
            phase: Phase::Idle,
            ids: EffectIds::default(),
            effects: VecDeque::new(),
            busy: None,
            redo: false,
            due: None,
            owned: Vec::new(),
        }
    }

    /// Applies one event. Drain [`poll_effect`](Self::poll_effect) afterwards.
    pub fn handle(&mut self, now: Now, event: Event) {
        assert!(now.mono >= self.now.mono, "time moved backwards");
        self.now = now;
        match event {
            Event::Started if self.phase == Phase::Idle => self.join(),
            Event::Joined { id, ending } if self.phase == Phase::Joining(id) => self.joined(id, &ending),
            Event::Changed { session } if self.phase == Phase::Member(session) => self.changed(),
            Event::SessionOver { session } if self.phase == Phase::Member(session) => self.give_up(),
            Event::Looked { id, ending } if self.busy == Some(id) => self.looked(ending),
            Event::Dealt { id, ending } if self.busy == Some(id) => self.dealt(&ending),
            Event::ShutDown if self.phase != Phase::Left => self.leave(),
            Event::Timer if self.due.is_some_and(|due| due <= self.now.mono) => self.timer(),
            // What is late concerns a session or an effect that is no more.
            Event::Started
            | Event::Joined { .. }
            | Event::Changed { .. }
            | Event::SessionOver { .. }
            | Event::Looked { .. }
            | Event::Dealt { .. }
            | Event::ShutDown
            | Event::Timer => {}
        }
    }

    /// Returns the next effect to carry out. Drain it to `None` after every `handle`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns when [`Event::Timer`] is next due, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The session in use, by the id of the effect that made it.
    pub fn session(&self) -> Option<EffectId> {
        if let Phase::Member(session) = self.phase { Some(session) } else { None }
    }

    /// What the instance owns.
    pub fn owned(&self) -> &[Provision] {
        &self.owned
    }

    fn join(&mut self) {
        let id = self.ids.next();
        self.phase = Phase::Joining(id);
        self.due = None;
        self.effects.push_back(Effect::Join { id });
    }

    fn joined(&mut self, id: EffectId, ending: &Ending<()>) {
        if let Ending::Applied(()) = ending {
            self.phase = Phase::Member(id);
            self.look();
        } else {
            self.apart();
        }
    }

    fn apart(&mut self) {
        self.phase = Phase::Apart;
        self.due = Some(self.now.mono + self.config.retry_delay);
    }

    fn look(&mut self) {
        let id = self.ids.next();
        self.busy = Some(id);
        self.redo = false;
        self.due = None;
        self.effects.push_back(Effect::Look { id });
    }

    fn changed(&mut self) {
        if self.busy.is_some() {
            self.redo = true;
        } else {
            self.look();
        }
    }

    fn timer(&mut self) {
        match self.phase {
            Phase::Apart => self.join(),
            Phase::Member(_) => self.look(),
            // Nothing is due in these.
            Phase::Idle | Phase::Joining(_) | Phase::Left => {}
        }
    }

    fn looked(&mut self, ending: Ending<Sight>) {
        let sight = match ending {
            Ending::Applied(sight) => sight,
            ending @ (Ending::Refused(_) | Ending::Unknown) => return self.failed(&ending),
        };
        if !sight.is_member {
            // Somebody deleted a node of ours, or the session ended and we are told later.
            return self.give_up();
        }
        self.own(sight.own);
        let shares = sight.fleet.map(due_shares).unwrap_or_default();
        if shares.is_empty() {
            return self.rest();
        }
        let id = self.ids.next();
        self.busy = Some(id);
        self.effects.push_back(Effect::Deal { id, shares });
    }

    fn dealt(&mut self, ending: &Ending<()>) {
        match ending {
            Ending::Applied(()) => self.rest(),
            Ending::Refused(_) | Ending::Unknown => self.failed(ending),
        }
    }

    /// Nothing is left to do, unless something changed meanwhile.
    fn rest(&mut self) {
        self.busy = None;
        if self.redo {
            return self.look();
        }
        self.due = Some(self.now.mono + self.config.refresh);
    }

    fn failed<T>(&mut self, ending: &Ending<T>) {
        if let Ending::Refused(refusal) = ending
            && refusal.kind == RefusalKind::Fenced
        {
            return self.give_up();
        }
        self.busy = None;
        self.due = Some(self.now.mono + self.config.retry_delay);
    }

    fn own(&mut self, provisions: Vec<Provision>) {
        if provisions != self.owned {
            self.owned.clone_from(&provisions);
            self.effects.push_back(Effect::Own { provisions });
        }
    }

    /// Nothing is owned any more, before anything else is done.
    fn disown(&mut self) {
        self.busy = None;
        self.redo = false;
        self.own(Vec::new());
    }

    fn give_up(&mut self) {
        self.disown();
        self.effects.push_back(Effect::GiveUp);
        self.apart();
    }

    fn leave(&mut self) {
        self.disown();
        self.due = None;
        self.phase = Phase::Left;
        self.effects.push_back(Effect::Leave);
    }
}

/// The shares that are not what the owners have.
fn due_shares(fleet: Fleet) -> Vec<Share> {
    let shares = deal(fleet.owners.len(), &fleet.provisions);
    let due =
        fleet.owners.into_iter().zip(shares).filter(|(owner, share)| owner.share.as_ref() != Some(share));
    due.map(|(owner, provisions)| Share { member: owner.member, version: owner.version, provisions })
        .collect()
}
