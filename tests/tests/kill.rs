//! `kill -9` at random moments while a real client writes: nothing lost, doubled, reordered or left PENDING.
//!
//! `BACKBEAT_KILLS` says how often (12 by default, 50 in CI, 200 with `./ci/test --chaos`), `BACKBEAT_SEED` makes the plan
//! of an earlier run again. What the machine does between two kills is not repeatable; the plan is.

use anyhow::{Context as _, Result, ensure};
use backbeat_tests::client::python;
use backbeat_tests::dev::Place;
use backbeat_tests::storm::{Random, Storm, number, seed};
use backbeat_tests::suite::{self, Test};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

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

impl Moment {
    fn drawn(random: &mut Random) -> Self {
        match random.below(10) {
            0 | 1 => Self::AfterStart(Duration::from_millis(random.below(120))),
            2..=4 => Self::AfterReady(Duration::from_millis(random.below(300))),
            5..=8 => Self::AfterReady(Duration::from_millis(300 + random.below(2000))),
            _ => Self::AfterReady(Duration::from_millis(3000 + random.below(4000))),
        }
    }
}

fn storm() -> Result<()> {
    let kills = number("BACKBEAT_KILLS")?.unwrap_or(12);
    let seed = seed()?;
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
    let mut client = Storm::start(place.addresses()?, seed)?;
    let began = Instant::now();
    let (mut starts, mut start_time_max) = (0, Duration::ZERO);
    for kill in 0..kills {
        let moment = Moment::drawn(&mut random);
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
    client.stop()?;
    let versions = client.verify()?;
    ensure!(versions > kills, "too little was written to prove anything: {versions} versions");
    let status = dev.terminate(Duration::from_secs(30))?;
    ensure!(status.code() == Some(0), "SIGTERM ended dev with {status}");
    Ok(())
}
