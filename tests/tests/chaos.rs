//! The production daemons over real services, all of them killed, frozen and cut off while a real client writes: nothing
//! lost, doubled, reordered or left PENDING.
//!
//! `BACKBEAT_STRIKES` says how often something is struck (15 by default, more with `./ci/test --chaos`), `BACKBEAT_SEED`
//! makes the plan of an earlier run again. What the machine does between two strikes is not repeatable; the plan is.

use anyhow::{Context as _, Result, ensure};
use backbeat_tests::client::python;
use backbeat_tests::dev::{Dev, Place, SITES};
use backbeat_tests::fleet::{Fleet, Places};
use backbeat_tests::process::Process;
use backbeat_tests::services::{OwnKafka, OwnRedis, Services, unique};
use backbeat_tests::storm::{Random, Storm, number, seed};
use backbeat_tests::suite::{self, Test};
use std::process::{ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// The daemons: two of each, so that partitions change hands.
const DAEMONS: [&str; 6] = [
    "queue-populator",
    "queue-populator",
    "queue-processor",
    "queue-processor",
    "replication-status-processor",
    "replication-status-processor",
];

fn main() -> ExitCode {
    let services = Services::find(&["KAFKA", "REDIS", "ZOOKEEPER"]);
    let needed = python()
        .and_then(|_| services.address("KAFKA"))
        .and_then(|_| services.address("REDIS"))
        .and_then(|_| services.address("ZOOKEEPER"));
    let zookeeper = needed.clone().unwrap_or_default();
    suite::run(vec![Test::new("nothing_is_lost_doubled_reordered_or_pending", needed, move || {
        chaos(&zookeeper)
    })])
}

/// What is done to the system.
#[derive(Clone, Copy, Debug)]
enum Strike {
    /// `kill -9`, and started again.
    Kill(usize),
    /// SIGTERM, which must end well, and started again.
    Restart(usize),
    /// Frozen for a while.
    Freeze(usize, Duration),
    /// The sites, `kill -9`.
    Sites,
    /// The sites frozen for a while: requests hang.
    FreezeSites(Duration),
    /// The broker, `kill -9`.
    Kafka,
    /// Redis, `kill -9`, with everything in it.
    Redis,
}

impl Strike {
    fn drawn(random: &mut Random) -> Self {
        let daemon = usize::try_from(random.below(DAEMONS.len() as u64)).expect("small");
        let time = Duration::from_millis(500 + random.below(8_000));
        match random.below(20) {
            0..=6 => Self::Kill(daemon),
            7..=9 => Self::Restart(daemon),
            10..=12 => Self::Freeze(daemon, time),
            13..=14 => Self::Sites,
            15..=16 => Self::FreezeSites(time),
            17..=18 => Self::Kafka,
            _ => Self::Redis,
        }
    }
}

/// Everything that can be struck.
struct System {
    place: Place,
    dev: Option<Dev>,
    kafka: OwnKafka,
    redis: OwnRedis,
    fleet: Fleet,
    daemons: Vec<Option<Process>>,
}

impl System {
    fn strike(&mut self, strike: Strike) -> Result<()> {
        match strike {
            Strike::Kill(index) => {
                let mut daemon = self.take(index)?;
                if let Some(status) = daemon.ended()? {
                    excuse(index, status)?;
                } else {
                    daemon.kill()?;
                }
                self.daemons[index] = Some(self.fleet.start(&[DAEMONS[index]])?);
            }
            Strike::Restart(index) => {
                self.end(index)?;
                self.daemons[index] = Some(self.fleet.start(&[DAEMONS[index]])?);
            }
            Strike::Freeze(index, time) => {
                let daemon = self.daemons[index].as_ref().context("it runs")?;
                daemon.signal("STOP")?;
                thread::sleep(time);
                daemon.signal("CONT")?;
            }
            Strike::Sites => {
                self.dev.take().context("it runs")?.kill()?;
                self.dev = Some(self.place.start_ready()?);
            }
            Strike::FreezeSites(time) => {
                let dev = self.dev.as_ref().context("it runs")?;
                dev.signal("STOP")?;
                thread::sleep(time);
                dev.signal("CONT")?;
            }
            Strike::Kafka => {
                self.kafka.kill()?;
                self.kafka.resume()?;
            }
            Strike::Redis => {
                self.redis.kill()?;
                self.redis.resume()?;
            }
        }
        Ok(())
    }

    fn take(&mut self, index: usize) -> Result<Process> {
        self.daemons[index].take().context("it runs")
    }

    /// Ends a daemon well.
    fn end(&mut self, index: usize) -> Result<()> {
        let mut daemon = self.take(index)?;
        loop {
            // One that is told before it catches signals ends by the signal.
            match daemon.ready_line() {
                Ok(_) => return Fleet::terminate(daemon).context(DAEMONS[index]),
                Err(error) => match daemon.ended()? {
                    Some(status) => excuse(index, status).context(error)?,
                    None => return Err(error),
                },
            }
            daemon = self.fleet.start(&[DAEMONS[index]])?;
        }
    }

    /// Starts what ended because something that it needs was away, as a supervisor does.
    fn supervise(&mut self) -> Result<()> {
        for (index, daemon) in self.daemons.iter_mut().enumerate() {
            if let Some(status) = daemon.as_mut().context("it runs")?.ended()? {
                excuse(index, status)?;
                *daemon = Some(self.fleet.start(&[DAEMONS[index]])?);
            }
        }
        Ok(())
    }
}

/// A daemon may end because it lost what it needs (1), or did not find it when it started (5).
fn excuse(index: usize, status: ExitStatus) -> Result<()> {
    ensure!(matches!(status.code(), Some(1 | 5)), "{} ended: {status}", DAEMONS[index]);
    println!("{} ended with {status} and is started again", DAEMONS[index]);
    Ok(())
}

fn chaos(zookeeper: &str) -> Result<()> {
    let strikes = number("BACKBEAT_STRIKES")?.unwrap_or(15);
    let seed = seed()?;
    println!(
        "{strikes} strikes, again with: BACKBEAT_SEED={seed} BACKBEAT_STRIKES={strikes} cargo test --release -p backbeat-tests --test chaos"
    );
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let result = chaos_in(directory.path(), zookeeper, strikes, seed);
    if result.is_err() {
        println!("everything is kept in {}", directory.keep().display());
    }
    result
}

fn chaos_in(directory: &std::path::Path, zookeeper: &str, strikes: u64, seed: u64) -> Result<()> {
    let mut random = Random(seed);
    let mut place = Place::at_quiet_ports(directory)?.with_sites_alone();
    let dev = place.start_ready()?;
    let (kafka, redis) = (OwnKafka::start()?, OwnRedis::start(&[])?);
    let places = Places {
        kafka: kafka.address(),
        zookeeper: format!("{zookeeper}/{}", unique()),
        redis: format!("127.0.0.1:{}", redis.port()),
    };
    let fleet = Fleet::new(directory, place.addresses()?, &places, "")?;
    let daemons = DAEMONS.iter().map(|daemon| Ok(Some(fleet.start(&[daemon])?))).collect::<Result<_>>()?;
    let mut storm = Storm::start(place.addresses()?, seed)?;
    let mut system = System { place, dev: Some(dev), kafka, redis, fleet, daemons };
    let began = Instant::now();
    for number in 0..strikes {
        thread::sleep(Duration::from_millis(random.below(3_000)));
        let strike = Strike::drawn(&mut random);
        println!("{:>6.1?} strike {number}: {strike:?}", began.elapsed());
        system.strike(strike).with_context(|| format!("strike {number}, {strike:?}"))?;
        system.supervise().with_context(|| format!("after strike {number}, {strike:?}"))?;
        storm.check_alive()?;
    }
    println!("{strikes} strikes at the daemons of {} sites in {:.0?}", SITES.len(), began.elapsed());
    // A little peace, so that writes after the last strike are part of it.
    thread::sleep(Duration::from_secs(1));
    storm.stop()?;
    system.supervise()?;
    let healed = Instant::now();
    let versions = storm.verify()?;
    println!("settled {:.0?} after the last strike", healed.elapsed());
    ensure!(versions > strikes, "too little was written to prove anything: {versions} versions");
    for index in 0..DAEMONS.len() {
        system.end(index)?;
    }
    let status = system.dev.take().context("it runs")?.terminate(Duration::from_secs(30))?;
    ensure!(status.code() == Some(0), "SIGTERM ended the sites with {status}");
    Ok(())
}
