//! `kill -9` at random moments while a real client writes: nothing lost, doubled, reordered or left PENDING.
//!
//! `BACKBEAT_KILLS` says how often (12 by default, 50 in CI, 200 with `./ci/test --chaos`), `BACKBEAT_SEED` makes the plan
//! of an earlier run again. What the machine does between two kills is not repeatable; the plan is.

use anyhow::{Context as _, Result, bail, ensure};
use backbeat_tests::client::{python, script};
use backbeat_tests::dev::Place;
use backbeat_tests::suite::{self, Test};
use serde_json::Value;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    suite::run(vec![Test::new("nothing_is_lost_doubled_reordered_or_pending", python(), storm)])
}

/// When one process of the series is killed.
#[derive(Debug)]
enum Moment {
    /// So long after it was started: perhaps while it recovers.
    AfterStart(Duration),
    /// So long after it was ready.
    AfterReady(Duration),
}

/// SplitMix64: the plan of a seed is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    fn moment(&mut self) -> Moment {
        match self.below(10) {
            0 | 1 => Moment::AfterStart(Duration::from_millis(self.below(120))),
            2..=4 => Moment::AfterReady(Duration::from_millis(self.below(300))),
            5..=8 => Moment::AfterReady(Duration::from_millis(300 + self.below(2000))),
            _ => Moment::AfterReady(Duration::from_millis(3000 + self.below(4000))),
        }
    }
}

fn number(variable: &str) -> Result<Option<u64>> {
    let Some(text) = env::var_os(variable) else { return Ok(None) };
    let text = text.to_string_lossy();
    text.parse().map(Some).with_context(|| format!("{variable} is not a number: {text}"))
}

fn storm() -> Result<()> {
    let kills = number("BACKBEAT_KILLS")?.unwrap_or(12);
    let fresh = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(since.subsec_micros())
    };
    let seed = number("BACKBEAT_SEED")?.unwrap_or_else(fresh);
    println!(
        "{kills} kills, again with: BACKBEAT_SEED={seed} BACKBEAT_KILLS={kills} cargo test --release -p backbeat-tests --test kill"
    );

    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let result = Place::at_quiet_ports(directory.path()).and_then(|place| storm_in(place, kills, seed));
    if result.is_err() {
        println!("everything is kept in {}", directory.keep().display());
    }
    result
}

fn storm_in(mut place: Place, kills: u64, seed: u64) -> Result<()> {
    let mut random = Random(seed);
    let mut dev = place.start_ready()?;
    let mut client = Client::start(&place, seed)?;
    client.expect("writing")?;
    let began = Instant::now();
    let (mut starts, mut start_time_max) = (0, Duration::ZERO);
    for kill in 0..kills {
        let moment = random.moment();
        match moment {
            // The process of the first kill is ready already, which is as good.
            Moment::AfterStart(delay) => thread::sleep(delay),
            Moment::AfterReady(delay) => {
                if starts > 0 {
                    let started = Instant::now();
                    place.wait_until_ready(&mut dev).with_context(|| format!("after kill {kill}"))?;
                    start_time_max = start_time_max.max(started.elapsed());
                }
                thread::sleep(delay);
            }
        }
        dev.kill().with_context(|| format!("kill {kill}, {moment:?}"))?;
        client.check_alive()?;
        dev = place.start()?;
        starts += 1;
    }
    place.wait_until_ready(&mut dev).context("after the last kill")?;
    println!("{kills} kills in {:.0?}, the longest wait for a start {start_time_max:.1?}", began.elapsed());
    // A little peace, so that writes after the last kill are part of it.
    thread::sleep(Duration::from_secs(1));
    client.say("stop")?;
    client.expect("stopped")?;
    client.say("verify")?;
    let report: Value = serde_json::from_str(&client.line()?).context("the report is not JSON")?;
    println!("{} versions after {}", report["versions"], report["ops"]);
    let wrong: Vec<&str> = report["wrong"]
        .as_array()
        .context("no list in the report")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    ensure!(
        wrong.is_empty(),
        "{} things are wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
    ensure!(report["versions"].as_u64() > Some(kills), "too little was written to prove anything: {report}");
    let status = dev.terminate(Duration::from_secs(30))?;
    ensure!(status.code() == Some(0), "SIGTERM ended dev with {status}");
    Ok(())
}

/// The writing client.
struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    fn start(place: &Place, seed: u64) -> Result<Self> {
        let mut command = script("storm.py", &["--seed", &seed.to_string()], place.addresses()?)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("failed to start python3")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, stdin, stdout })
    }

    fn say(&mut self, word: &str) -> Result<()> {
        writeln!(self.stdin, "{word}").context("the client does not listen")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line).context("the client cannot be read")? == 0 {
            bail!("the client ended: {:?}", self.child.wait());
        }
        Ok(line.trim_end().to_owned())
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == word, "the client said {line:?} instead of {word:?}");
        Ok(())
    }

    fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the client ended: {status}"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Already ended in the good case; there is nothing to do about a failure here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
