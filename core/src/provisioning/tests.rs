//! Scripts for one instance, and many instances over a naive store with sessions, where everything may go wrong.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Config, Effect, Event, Fleet, Owner, Provisioning, Share, Sight, deal, leads};
use crate::call::{Ending, Refusal, RefusalKind};
use crate::id::{EffectId, Member, Provision};
use crate::time::{Now, Span};

fn names(text: &str) -> Vec<Provision> {
    text.split_whitespace().map(Provision::from).collect()
}

fn refused<T>(kind: RefusalKind) -> Ending<T> {
    Ending::Refused(Refusal::new(kind, "Test"))
}

/// One machine, whose effects the test answers itself.
struct One {
    machine: Provisioning,
    now: Now,
}

impl One {
    fn new() -> Self {
        Self { machine: Provisioning::new(Config::default()), now: Now::default() }
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.machine.handle(self.now, event);
        std::iter::from_fn(|| self.machine.poll_effect()).collect()
    }

    fn wait(&mut self) -> Vec<Effect> {
        self.now.mono = self.machine.poll_timeout().expect("something is due");
        self.tell(Event::Timer)
    }

    /// A member that looks for the first time, and the ids of its session and of the look.
    fn member() -> (Self, EffectId, EffectId) {
        let mut one = Self::new();
        let [Effect::Join { id: session }] = one.tell(Event::Started)[..] else { panic!("it joins") };
        let effects = one.tell(Event::Joined { id: session, ending: Ending::Applied(()) });
        let [Effect::Look { id }] = effects[..] else { panic!("it looks: {effects:?}") };
        (one, session, id)
    }

    fn see(&mut self, id: EffectId, own: &str, fleet: Option<Fleet>) -> Vec<Effect> {
        let sight = Sight { is_member: true, own: names(own), fleet };
        self.tell(Event::Looked { id, ending: Ending::Applied(sight) })
    }
}

fn owner(member: &str, share: Option<&str>) -> Owner {
    Owner { member: Member::from(member), version: 3, share: share.map(names) }
}

fn own(provisions: &str) -> Effect {
    Effect::Own { provisions: names(provisions) }
}

#[test]
fn the_instance_is_told_only_when_its_list_changed() {
    let (mut one, session, id) = One::member();
    assert_eq!(one.see(id, "", None), []);
    for (list, told) in [("1 2", true), ("1 2", false), ("2 1", true), ("2", true), ("2", false), ("", true)]
    {
        let [Effect::Look { id }] = one.tell(Event::Changed { session })[..] else { panic!("it looks") };
        let effects = one.see(id, list, None);
        assert_eq!(effects, if told { vec![own(list)] } else { Vec::new() }, "{list}");
    }
}

#[test]
fn a_leader_writes_the_shares_that_differ_over_the_versions_it_saw() {
    let (mut one, _, id) = One::member();
    let owners = vec![owner("a", Some("1 3")), owner("b", None)];
    let fleet = Fleet { owners, provisions: names("1 2 3") };
    let effects = one.see(id, "1 3", Some(fleet));
    let share = Share { member: Member::from("b"), version: 3, provisions: names("2") };
    let [ref told, Effect::Deal { ref shares, .. }] = effects[..] else { panic!("it deals: {effects:?}") };
    assert_eq!((told, shares), (&own("1 3"), &vec![share]));
}

#[test]
fn what_changes_while_dealing_is_looked_at_afterwards_and_not_before() {
    let (mut one, session, id) = One::member();
    let fleet = Fleet { owners: vec![owner("a", None)], provisions: names("1") };
    let effects = one.see(id, "", Some(fleet));
    let [Effect::Deal { id, .. }] = effects[..] else { panic!("it deals: {effects:?}") };
    assert_eq!(one.tell(Event::Changed { session }), []);
    assert_eq!(one.tell(Event::Changed { session }), []);
    let effects = one.tell(Event::Dealt { id, ending: Ending::Applied(()) });
    let [Effect::Look { id }] = effects[..] else { panic!("it looks: {effects:?}") };
    assert_eq!(one.see(id, "", None), [], "once is enough");
}

#[test]
fn a_lost_watch_costs_a_minute() {
    let (mut one, _, id) = One::member();
    let before = one.now.mono;
    assert_eq!(one.see(id, "", None), []);
    assert!(matches!(one.wait()[..], [Effect::Look { .. }]));
    assert_eq!(one.now.mono.since(before), Span::from_secs(60));
}

#[test]
fn without_a_session_nothing_is_owned_and_another_one_is_made() {
    let (mut one, session, id) = One::member();
    assert_eq!(one.see(id, "1", None), [own("1")]);
    assert_eq!(one.tell(Event::SessionOver { session }), [own(""), Effect::GiveUp]);
    assert_eq!(one.tell(Event::Changed { session }), [], "of another session");
    let [Effect::Join { id: again }] = one.wait()[..] else { panic!("it joins") };
    assert_eq!(one.tell(Event::Joined { id: again, ending: Ending::Unknown }), []);
    let [Effect::Join { id: again }] = one.wait()[..] else { panic!("it joins") };
    let effects = one.tell(Event::Joined { id: again, ending: Ending::Applied(()) });
    let [Effect::Look { id }] = effects[..] else { panic!("it looks: {effects:?}") };
    assert_eq!(one.tell(Event::SessionOver { session }), [], "that is long past");
    assert_eq!(one.see(id, "1", None), [own("1")]);
}

#[test]
fn a_deleted_node_ends_the_membership() {
    let (mut one, session, id) = One::member();
    assert_eq!(one.see(id, "1", None), [own("1")]);
    let [Effect::Look { id }] = one.tell(Event::Changed { session })[..] else { panic!("it looks") };
    let sight = Sight { is_member: false, own: Vec::new(), fleet: None };
    let effects = one.tell(Event::Looked { id, ending: Ending::Applied(sight) });
    assert_eq!(effects, [own(""), Effect::GiveUp]);
    assert!(matches!(one.wait()[..], [Effect::Join { .. }]));
}

#[test]
fn a_store_that_does_not_answer_takes_nothing_away_until_the_session_is_over() {
    let (mut one, session, id) = One::member();
    assert_eq!(one.see(id, "1", None), [own("1")]);
    for ending in [Ending::Unknown, refused(RefusalKind::Unavailable)] {
        let [Effect::Look { id }] = one.wait()[..] else { panic!("it looks") };
        assert_eq!(one.tell(Event::Looked { id, ending }), []);
    }
    assert_eq!(one.machine.owned(), names("1"));
    let [Effect::Look { id }] = one.tell(Event::Changed { session })[..] else { panic!("it looks") };
    let effects = one.tell(Event::Looked { id, ending: refused(RefusalKind::Fenced) });
    assert_eq!(effects, [own(""), Effect::GiveUp]);
}

#[test]
fn who_leaves_owns_nothing_and_never_comes_back() {
    let (mut one, session, id) = One::member();
    assert_eq!(one.see(id, "1", None), [own("1")]);
    let [Effect::Look { id }] = one.tell(Event::Changed { session })[..] else { panic!("it looks") };
    assert_eq!(one.tell(Event::ShutDown), [own(""), Effect::Leave]);
    assert_eq!(one.see(id, "1", None), []);
    for event in [
        Event::Changed { session },
        Event::SessionOver { session },
        Event::Timer,
        Event::ShutDown,
        Event::Started,
    ] {
        assert_eq!(one.tell(event), []);
    }
    assert_eq!(one.machine.poll_timeout(), None);
}

/// The store: who holds which nodes, and what owner nodes list.
#[derive(Debug, Default)]
struct Store {
    candidates: BTreeMap<String, u64>,
    owners: BTreeMap<Member, (u64, Owner)>,
    provisions: BTreeSet<Provision>,
    numbers: u64,
    changes: u64,
}

impl Store {
    fn join(&mut self) -> Joined {
        self.numbers += 1;
        let session = self.numbers;
        let candidate = format!("leader{session:010}");
        // The names of owners are in another order than their coming.
        let member = Member::from(format!("{:04x}", session * 40_503 % 65_536));
        let owner = Owner { member: member.clone(), version: 0, share: None };
        self.candidates.insert(candidate.clone(), session);
        self.owners.insert(member.clone(), (session, owner));
        self.changes += 1;
        Joined { session, candidate, member }
    }

    fn end(&mut self, session: u64) {
        self.candidates.retain(|_, of| *of != session);
        self.owners.retain(|_, (of, _)| *of != session);
        self.changes += 1;
    }

    fn is_live(&self, session: u64) -> bool {
        self.candidates.values().any(|of| *of == session)
    }

    fn look(&self, joined: &Joined) -> Ending<Sight> {
        if !self.is_live(joined.session) {
            return refused(RefusalKind::Fenced);
        }
        let candidates: Vec<String> = self.candidates.keys().cloned().collect();
        let owner = self.owners.get(&joined.member);
        Ending::Applied(Sight {
            is_member: owner.is_some(),
            own: owner.and_then(|(_, owner)| owner.share.clone()).unwrap_or_default(),
            fleet: leads(&candidates, &joined.candidate).then(|| Fleet {
                owners: self.owners.values().map(|(_, owner)| owner.clone()).collect(),
                provisions: self.provisions.iter().cloned().collect(),
            }),
        })
    }

    fn write(&mut self, joined: &Joined, shares: &[Share]) -> Ending<()> {
        if !self.is_live(joined.session) {
            return refused(RefusalKind::Fenced);
        }
        let mut ending = Ending::Applied(());
        for share in shares {
            match self.owners.get_mut(&share.member) {
                Some((_, owner)) if owner.version == share.version => {
                    owner.version += 1;
                    owner.share = Some(share.provisions.clone());
                    self.changes += 1;
                }
                Some(_) => ending = refused(RefusalKind::Conflict),
                None => {}
            }
        }
        ending
    }
}

#[derive(Clone, Debug)]
struct Joined {
    session: u64,
    candidate: String,
    member: Member,
}

struct Instance {
    machine: Provisioning,
    joined: Option<Joined>,
    pending: Vec<Effect>,
    /// The last thing it was told.
    owned: Vec<Provision>,
    /// What changed in the store before it was last told of a change.
    seen: u64,
    has_left: bool,
}

/// Instances that share provisions, and what may happen to them.
struct Fleets {
    store: Store,
    instances: Vec<Instance>,
    now: Now,
}

#[derive(Clone, Debug)]
enum Step {
    Start,
    /// Answers the oldest effect under way of an instance, well or badly.
    Answer(usize, Fault),
    Watch(usize),
    LoseWatch(usize),
    ExpireAtStore(usize),
    NoticeExpiry(usize),
    Kill(usize),
    Leave(usize),
    Provide(u8),
    Withdraw(u8),
    Tick,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Refused,
    LostRequest,
    LostAnswer,
}

impl Fleets {
    fn new() -> Self {
        Self { store: Store::default(), instances: Vec::new(), now: Now::default() }
    }

    fn start(&mut self) {
        let machine = Provisioning::new(Config::default());
        self.instances.push(Instance {
            machine,
            joined: None,
            pending: Vec::new(),
            owned: Vec::new(),
            seen: 0,
            has_left: false,
        });
        self.tell(self.instances.len() - 1, Event::Started);
    }

    fn tell(&mut self, index: usize, event: Event) {
        let instance = &mut self.instances[index];
        instance.machine.handle(self.now, event);
        while let Some(effect) = instance.machine.poll_effect() {
            match effect {
                Effect::Own { provisions } => {
                    assert_ne!(instance.owned, provisions, "told without a change");
                    instance.owned = provisions;
                }
                Effect::GiveUp | Effect::Leave => {
                    instance.has_left = effect == Effect::Leave;
                    instance.pending.clear();
                    if let Some(joined) = instance.joined.take() {
                        self.store.end(joined.session);
                    }
                    assert!(instance.owned.is_empty(), "owns something without a session");
                }
                Effect::Join { .. } | Effect::Look { .. } | Effect::Deal { .. } => {
                    instance.pending.push(effect);
                }
            }
        }
        assert_eq!(instance.owned, instance.machine.owned());
        assert!(instance.pending.len() <= 1, "one thing at a time");
    }

    fn answer(&mut self, index: usize, fault: Fault) {
        let Some(effect) = self.instances[index].pending.pop() else { return };
        let done = matches!(fault, Fault::None | Fault::LostAnswer);
        let worse = |well: Ending<()>| match fault {
            Fault::None => well,
            Fault::Refused => refused(RefusalKind::Unavailable),
            Fault::LostRequest | Fault::LostAnswer => Ending::Unknown,
        };
        let joined = self.instances[index].joined.clone();
        let event = match effect {
            Effect::Join { id } => {
                let made = done.then(|| self.store.join());
                // Without an answer it is given up: the store ends it later, as it ends what it does not hear of.
                self.instances[index].joined = made.filter(|_| matches!(fault, Fault::None));
                Event::Joined { id, ending: worse(Ending::Applied(())) }
            }
            Effect::Look { id } => {
                let sight = self.store.look(&joined.expect("only members look"));
                let ending = match worse(Ending::Applied(())) {
                    Ending::Applied(()) => sight,
                    Ending::Refused(refusal) => Ending::Refused(refusal),
                    Ending::Unknown => Ending::Unknown,
                };
                Event::Looked { id, ending }
            }
            Effect::Deal { id, shares } => {
                let joined = joined.expect("only members deal");
                let well = if done { self.store.write(&joined, &shares) } else { Ending::Applied(()) };
                Event::Dealt { id, ending: worse(well) }
            }
            Effect::Own { .. } | Effect::GiveUp | Effect::Leave => panic!("not answered"),
        };
        self.tell(index, event);
    }

    fn watch(&mut self, index: usize) {
        let changes = self.store.changes;
        let instance = &mut self.instances[index];
        if let Some(session) = instance.machine.session()
            && instance.seen != changes
        {
            instance.seen = changes;
            self.tell(index, Event::Changed { session });
        }
    }

    fn notice(&mut self, index: usize) {
        let instance = &self.instances[index];
        if let Some(joined) = &instance.joined
            && !self.store.is_live(joined.session)
            && let Some(session) = instance.machine.session()
        {
            self.tell(index, Event::SessionOver { session });
        }
    }

    fn tick(&mut self) {
        self.now.mono += Span::from_secs(1);
        for index in 0..self.instances.len() {
            if self.instances[index].machine.poll_timeout().is_some_and(|due| due <= self.now.mono) {
                self.tell(index, Event::Timer);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let count = self.instances.len();
        let pick = |index: &usize| (count > 0).then(|| index % count);
        match step {
            Step::Start => {
                if count < 6 {
                    self.start();
                }
            }
            Step::Answer(index, fault) => {
                if let Some(index) = pick(index) {
                    self.answer(index, *fault);
                }
            }
            Step::Watch(index) => {
                if let Some(index) = pick(index) {
                    self.watch(index);
                }
            }
            Step::LoseWatch(index) => {
                if let Some(index) = pick(index) {
                    self.instances[index].seen = self.store.changes;
                }
            }
            Step::ExpireAtStore(index) => {
                if let Some(joined) = pick(index).and_then(|index| self.instances[index].joined.clone()) {
                    self.store.end(joined.session);
                }
            }
            Step::NoticeExpiry(index) => {
                if let Some(index) = pick(index) {
                    self.notice(index);
                }
            }
            // Its session goes on until the store has not heard of it for long.
            Step::Kill(index) => {
                if let Some(index) = pick(index) {
                    self.instances.remove(index);
                }
            }
            Step::Leave(index) => {
                if let Some(index) = pick(index) {
                    self.tell(index, Event::ShutDown);
                }
            }
            Step::Provide(number) => {
                self.store.provisions.insert(Provision::from(number.to_string()));
                self.store.changes += 1;
            }
            Step::Withdraw(number) => {
                self.store.provisions.remove(&Provision::from(number.to_string()));
                self.store.changes += 1;
            }
            Step::Tick => self.tick(),
        }
    }

    /// No more faults, but watches stay lost; sessions of the dead end, and a minute or two pass.
    fn settle(&mut self) {
        self.instances.retain(|instance| !instance.has_left);
        let live: BTreeSet<u64> =
            self.instances.iter().filter_map(|instance| Some(instance.joined.as_ref()?.session)).collect();
        let dead: Vec<u64> =
            self.store.candidates.values().copied().filter(|of| !live.contains(of)).collect();
        for session in dead {
            self.store.end(session);
        }
        for _ in 0..200 {
            for index in 0..self.instances.len() {
                self.notice(index);
                while !self.instances[index].pending.is_empty() {
                    self.answer(index, Fault::None);
                }
            }
            self.tick();
        }
    }

    /// What everybody owns is what the naive dealer would give them.
    fn check(&self) {
        let provisions: Vec<Provision> = self.store.provisions.iter().cloned().collect();
        let mut members: Vec<(&Member, &Vec<Provision>)> = self
            .instances
            .iter()
            .map(|instance| (&instance.joined.as_ref().expect("everybody joined").member, &instance.owned))
            .collect();
        members.sort();
        let dealt: Vec<&Vec<Provision>> = members.iter().map(|(_, owned)| *owned).collect();
        assert_eq!(dealt, deal(members.len(), &provisions).iter().collect::<Vec<_>>());
        let mut all: Vec<Provision> = dealt.into_iter().flatten().cloned().collect();
        all.sort();
        if !self.instances.is_empty() {
            assert_eq!(all, provisions, "dealt exactly once");
        }
        assert_eq!(self.store.owners.len(), self.instances.len());
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = 0_usize..6;
    let fault = prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Refused),
        1 => Just(Fault::LostRequest),
        1 => Just(Fault::LostAnswer),
    ];
    let step = prop_oneof![
        3 => Just(Step::Start),
        12 => (index.clone(), fault).prop_map(|(index, fault)| Step::Answer(index, fault)),
        8 => index.clone().prop_map(Step::Watch),
        2 => index.clone().prop_map(Step::LoseWatch),
        1 => index.clone().prop_map(Step::ExpireAtStore),
        2 => index.clone().prop_map(Step::NoticeExpiry),
        1 => index.clone().prop_map(Step::Kill),
        1 => index.prop_map(Step::Leave),
        3 => (0_u8..12).prop_map(Step::Provide),
        1 => (0_u8..12).prop_map(Step::Withdraw),
        4 => Just(Step::Tick),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn whatever_happened_every_provision_ends_up_with_one_living_owner(steps in steps()) {
        let mut fleets = Fleets::new();
        for step in &steps {
            fleets.step(step);
        }
        fleets.settle();
        fleets.check();
        let (changes, versions) = (fleets.store.changes, fleets.store.numbers);
        fleets.settle();
        fleets.check();
        prop_assert_eq!((fleets.store.changes, fleets.store.numbers), (changes, versions), "it comes to rest");
    }
}

/// As in the examples of upstream: eight provisions, and instances that come and go.
#[test]
fn instances_come_and_go_and_shares_follow() {
    let mut fleets = Fleets::new();
    for number in 0..8 {
        fleets.step(&Step::Provide(number));
    }
    let sizes = |fleets: &mut Fleets| {
        fleets.settle();
        fleets.check();
        let mut sizes: Vec<usize> = fleets.instances.iter().map(|instance| instance.owned.len()).collect();
        sizes.sort_unstable();
        sizes
    };
    fleets.start();
    assert_eq!(sizes(&mut fleets), [8]);
    fleets.start();
    assert_eq!(sizes(&mut fleets), [4, 4]);
    for _ in 0..8 {
        fleets.start();
    }
    assert_eq!(sizes(&mut fleets), [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    // The leader among them.
    for _ in 0..7 {
        fleets.step(&Step::Kill(0));
    }
    assert_eq!(sizes(&mut fleets), [2, 3, 3]);
    fleets.step(&Step::Leave(0));
    assert_eq!(sizes(&mut fleets), [4, 4]);
}
