//! Plans as text: small named scenarios that people read, keep and replay.
//!
//! One thing a line, `#` begins a comment. Times are seconds with six decimals. What a line does not say is as in the smallest
//! world: one site that keeps version ids, one partition, one processor, one key, no options.

use std::fmt::Write as _;

use backbeat_core::request::minting::TargetKind;

use super::{Act, Broken, Operation, Plan, Strike};
use super::{Change, Put};
use crate::faults::Fault;
use crate::ids::{KeyId, ProcId, SiteId};
use crate::mutants::{self, Planted};
use crate::scenario::{SECOND, Shape, key_names, site_names};

/// The first line of every file.
const HEADER: &str = "backbeat-sim plan 1";

/// A plan with what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regression {
    /// The run.
    pub plan: Plan,
    /// With this planted bug it breaks.
    pub mutant: Option<Planted>,
    /// The invariant that breaks.
    pub breaks: Option<String>,
}

/// A line that is not one of a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Unreadable {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Options of a shape: their names and where they are.
type Option_ = (&'static str, fn(&mut Shape) -> &mut bool);
const OPTIONS: [Option_; 6] = [
    ("wire", |shape| &mut shape.wire),
    ("replays", |shape| &mut shape.replays),
    ("repeats", |shape| &mut shape.repeats),
    ("nulls", |shape| &mut shape.nulls),
    ("source-compares", |shape| &mut shape.source_compares),
    ("marks-changes", |shape| &mut shape.marks_changes),
];

fn seconds(at: u64) -> String {
    format!("{}.{:06}", at / SECOND, at % SECOND)
}

/// Writes a plan; `comment` goes to the top.
pub fn write(regression: &Regression, comment: &str) -> String {
    let mut text = format!("{HEADER}\n");
    for line in comment.lines() {
        let _infallible = writeln!(text, "# {line}");
    }
    let mut put = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    let Regression { plan, mutant, breaks } = regression;
    if let Some(mutant) = mutant {
        put(format!("mutant {} # {}", mutant.name(), mutant.about()));
    }
    if let Some(breaks) = breaks {
        put(format!("breaks {breaks}"));
    }
    put(format!("seed {}", plan.seed));
    put(format!("latencies {} up to {}", plan.latencies, seconds(plan.shape.latency_max)));
    for kind in &plan.shape.kinds {
        put(format!("site {}", kind_name(*kind)));
    }
    put(format!("partitions {}", plan.shape.partitions));
    put(format!("processors {}", plan.shape.processors));
    put(format!("keys {}", plan.shape.keys.len()));
    let mut shape = plan.shape.clone();
    for (name, option) in OPTIONS {
        if *option(&mut shape) {
            put(format!("option {name}"));
        }
    }
    for (fault, measure) in &plan.measures {
        put(format!("throughout {} {measure} # {}", fault.id(), fault.about()));
    }
    // One story, in the order of time.
    let mut strikes = plan.strikes.iter().peekable();
    for operation in &plan.operations {
        while let Some(strike) = strikes.next_if(|strike| strike.at < operation.at) {
            put(strike_line(strike));
        }
        put(format!("operation {}", operation_words(operation, plan.shape.repeats)));
    }
    strikes.for_each(|strike| put(strike_line(strike)));
    put(format!("heal {}", seconds(plan.heal_at)));
    match plan.broken {
        Broken::Nothing => {}
        Broken::Site(site) => put(format!("broken site {}", site.0)),
        Broken::Process(process) => put(format!("broken process {}", process.0)),
    }
    for operation in &plan.fresh {
        put(format!("fresh {}", operation_words(operation, plan.shape.repeats)));
    }
    text
}

fn kind_name(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::KeepsVersions => "keeps-ids",
        TargetKind::MintsVersions { conditional: true } => "mints-ids-conditionally",
        TargetKind::MintsVersions { conditional: false } => "mints-ids",
    }
}

fn strike_line(strike: &Strike) -> String {
    let skip = if strike.skip == 0 { String::new() } else { format!(" skip {}", strike.skip) };
    let (at, fault) = (seconds(strike.at), strike.fault);
    format!("strike {at} {} roll {}{skip} # {}", fault.id(), strike.roll, fault.about())
}

fn operation_words(operation: &Operation, repeats: bool) -> String {
    let value = |value: u32| if repeats { format!(" {value}") } else { String::new() };
    let back = |back: u32| if back == 0 { String::new() } else { format!(" back {back}") };
    let words = match operation.act {
        Act::Put(Put::Whole) => "put".to_owned(),
        Act::Put(Put::Multipart(parts)) => format!("put-parts {parts}"),
        Act::Put(Put::Empty) => "put-empty".to_owned(),
        Act::Put(Put::Marker) => "put-marker".to_owned(),
        Act::Put(Put::Replica) => "put-replica".to_owned(),
        Act::Put(Put::Null(_)) => panic!("no client puts what is older than its bucket's replication"),
        Act::Change(places, Change::Tags(tags)) => format!("tag{}{}", value(tags), back(places)),
        Act::Change(places, Change::Acl(acl)) => format!("acl{}{}", value(acl), back(places)),
        Act::Change(places, Change::NoTags) => format!("untag{}", back(places)),
        Act::Change(places, Change::Replica) => format!("become-replica{}", back(places)),
        Act::Delete(places) => format!("delete{}", back(places)),
    };
    format!("{} key {} {words}", seconds(operation.at), operation.key.0)
}

/// The words of one line, taken one by one.
struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn number<N: TryFrom<u64>>(&mut self, what: &str) -> Result<N, String> {
        let word = self.word(what)?;
        let number = word.parse::<u64>().map_err(|_| format!("{what} is a number, not {word:?}"))?;
        N::try_from(number).map_err(|_| format!("{what} is too large: {word}"))
    }

    fn count<N: TryFrom<u64>>(&mut self, what: &str, max: u64) -> Result<N, String> {
        let number = self.number::<u64>(what)?;
        if number == 0 || number > max {
            return Err(format!("{what} is a number from 1 to {max}, not {number}"));
        }
        N::try_from(number).map_err(|_| format!("{what} is too large: {number}"))
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        let found = self.word(word)?;
        if found == word { Ok(()) } else { Err(format!("expected {word:?} instead of {found:?}")) }
    }

    /// A number after its name, zero where the name is not there.
    fn named(&mut self, name: &str) -> Result<u32, String> {
        if self.0.next_if(|word| *word == name).is_some() { self.number(name) } else { Ok(0) }
    }

    fn seconds(&mut self) -> Result<u64, String> {
        const WHAT: &str = "seconds with six decimals";
        let word = self.word(WHAT)?;
        let wrong = || format!("{WHAT} are needed instead of {word:?}");
        let (whole, part) = word.split_once('.').ok_or_else(wrong)?;
        let part = Some(part).filter(|part| part.len() == 6).ok_or_else(wrong)?;
        let (whole, part) = (whole.parse::<u32>(), part.parse::<u32>());
        match (whole, part) {
            (Ok(whole), Ok(part)) => Ok(u64::from(whole) * SECOND + u64::from(part)),
            _ => Err(wrong()),
        }
    }

    fn fault(&mut self) -> Result<Fault, String> {
        let id = self.word("the id of a fault")?;
        Fault::ALL
            .iter()
            .copied()
            .find(|fault| fault.id() == id)
            .ok_or_else(|| format!("no fault has the id {id:?}: `backbeat-sim list` has them"))
    }

    fn operation(&mut self) -> Result<Operation, String> {
        let at = self.seconds()?;
        self.expect("key")?;
        let key = KeyId(self.number("a key")?);
        let word = self.word("an operation")?;
        let value = |words: &mut Self| match words.0.peek().map(|word| word.parse::<u32>()) {
            Some(Ok(value)) => {
                words.0.next();
                value
            }
            _ => 0,
        };
        let act = match word {
            "put" => Act::Put(Put::Whole),
            "put-parts" => Act::Put(Put::Multipart(self.count("a number of parts", 100)?)),
            "put-empty" => Act::Put(Put::Empty),
            "put-marker" => Act::Put(Put::Marker),
            "put-replica" => Act::Put(Put::Replica),
            "tag" | "acl" => {
                let value = value(self);
                let change = if word == "tag" { Change::Tags(value) } else { Change::Acl(value) };
                Act::Change(self.named("back")?, change)
            }
            "untag" => Act::Change(self.named("back")?, Change::NoTags),
            "become-replica" => Act::Change(self.named("back")?, Change::Replica),
            "delete" => Act::Delete(self.named("back")?),
            other => return Err(format!("no operation is called {other:?}")),
        };
        Ok(Operation { at, key, act })
    }
}

/// Reads a plan.
pub fn read(text: &str) -> Result<Regression, Unreadable> {
    let mut lines = (1..).zip(text.lines());
    if lines.next().is_none_or(|(_, line)| line.trim() != HEADER) {
        return Err(Unreadable { line: 1, reason: format!("the first line is {HEADER:?}") });
    }
    let mut shape = Shape { source_compares: false, ..Shape::smallest() };
    shape.kinds.clear();
    let plan = Plan {
        seed: 0,
        latencies: 0,
        shape,
        heal_at: 0,
        broken: Broken::Nothing,
        measures: Vec::new(),
        operations: Vec::new(),
        fresh: Vec::new(),
        strikes: Vec::new(),
    };
    let mut regression = Regression { plan, mutant: None, breaks: None };
    for (line, text) in lines {
        let words = text.split('#').next().unwrap_or("");
        let mut words = Words(words.split_whitespace().peekable());
        let Some(first) = words.0.next() else { continue };
        let read = read_line(&mut regression, first, &mut words).and_then(|()| match words.0.next() {
            Some(word) => Err(format!("nothing is expected after the line, but there is {word:?}")),
            None => Ok(()),
        });
        read.map_err(|reason| Unreadable { line, reason })?;
    }
    let plan = &mut regression.plan;
    if plan.shape.kinds.is_empty() {
        plan.shape.kinds.push(TargetKind::KeepsVersions);
    }
    plan.shape.sites = site_names(plan.shape.kinds.len());
    plan.operations.sort_by_key(|operation| operation.at);
    plan.fresh.sort_by_key(|operation| operation.at);
    plan.strikes.sort_by_key(|strike| strike.at);
    plan.normalise();
    Ok(regression)
}

fn read_line(regression: &mut Regression, first: &str, words: &mut Words<'_>) -> Result<(), String> {
    let plan = &mut regression.plan;
    match first {
        "mutant" => {
            let name = words.word("the name of a planted bug")?;
            let planted = mutants::named(name).ok_or_else(|| format!("no planted bug is named {name:?}"))?;
            regression.mutant = Some(planted);
        }
        "breaks" => regression.breaks = Some(words.word("the id of an invariant")?.to_owned()),
        "seed" => plan.seed = words.number("a seed")?,
        "latencies" => {
            plan.latencies = words.number("a seed")?;
            words.expect("up")?;
            words.expect("to")?;
            plan.shape.latency_max = words.seconds()?.max(200);
        }
        "site" => {
            let name = words.word("a kind of site")?;
            let kinds = [
                TargetKind::KeepsVersions,
                TargetKind::MintsVersions { conditional: true },
                TargetKind::MintsVersions { conditional: false },
            ];
            let kind = kinds.into_iter().find(|kind| kind_name(*kind) == name);
            plan.shape.kinds.push(kind.ok_or_else(|| format!("no kind of site is called {name:?}"))?);
            if plan.shape.kinds.len() > 8 {
                return Err("there are at most 8 sites".to_owned());
            }
        }
        "partitions" => plan.shape.partitions = words.count("a number of partitions", 64)?,
        "processors" => plan.shape.processors = words.count("a number of processors", 8)?,
        "keys" => plan.shape.keys = key_names(words.count("a number of keys", 1_000)?),
        "option" => {
            let name = words.word("an option")?;
            let option = OPTIONS.iter().find(|(known, _)| *known == name);
            let (_, option) = option.ok_or_else(|| format!("no option is called {name:?}"))?;
            *option(&mut plan.shape) = true;
        }
        "throughout" => {
            let (fault, measure) = (words.fault()?, words.number("a measure")?);
            plan.measures.push((fault, measure));
        }
        "operation" => plan.operations.push(words.operation()?),
        "fresh" => plan.fresh.push(words.operation()?),
        "strike" => {
            let (at, fault) = (words.seconds()?, words.fault()?);
            words.expect("roll")?;
            let roll = words.number("a roll")?;
            plan.strikes.push(Strike { at, fault, roll, skip: words.named("skip")? });
        }
        "heal" => plan.heal_at = words.seconds()?,
        "broken" => {
            plan.broken = match words.word("site or process")? {
                "site" => Broken::Site(SiteId(words.number("a site")?)),
                "process" => Broken::Process(ProcId(words.number("a process")?)),
                other => return Err(format!("a site or a process stays broken, not a {other:?}")),
            };
        }
        other => return Err(format!("no line begins with {other:?}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner;
    use crate::scenario::Scenario;

    #[test]
    fn a_plan_reads_as_it_was_written() {
        for (scenario, seed) in [(Scenario::Standard, 1), (Scenario::Standard, 2), (Scenario::Minting, 5)] {
            for seed in seed * 10..seed * 10 + 4 {
                let plan = runner::run(scenario, seed, false).plan;
                let mutant = Some(Planted::NoLanes);
                let written = Regression { plan, mutant, breaks: Some("FIFO-3".to_owned()) };
                let text = write(&written, "two lines\nof comment");
                let read = read(&text).expect("what was written is readable");
                assert!(write(&read, "two lines\nof comment") == text, "{scenario:?} {seed}");
                let again = runner::run_plan(&read.plan, false);
                assert_eq!(again.hash, runner::run(scenario, seed, false).hash, "{scenario:?} {seed}");
            }
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        for (line, what) in [
            ("operation 1.5 key 0 put", "six decimals"),
            ("operation 1.500000 key 0 dance", "no operation is called"),
            ("operation 1.500000 key 0 put twice", "nothing is expected"),
            ("strike 1.500000 K99 roll 1", "no fault has the id"),
            ("partitions 0", "from 1 to 64"),
            ("site mars", "no kind of site"),
            ("mutant none", "no planted bug"),
            ("broken leg", "a site or a process"),
            ("option gold", "no option"),
            ("keys many", "is a number"),
            ("keys", "is missing"),
            ("hello", "no line begins"),
        ] {
            let error = read(&format!("{HEADER}\n# fine\n{line}\n")).expect_err(line);
            assert_eq!(error.line, 3, "{line}");
            assert!(error.reason.contains(what), "{line}: {error}");
        }
        assert_eq!(read("").expect_err("nothing is no plan").line, 1);
    }
}
