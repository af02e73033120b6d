//! The production daemons over real services, all of them killed, frozen and cut off while a real client writes: nothing
//! lost, doubled, reordered or left PENDING.
//!
//! `BACKBEAT_STRIKES` says how often something is struck (15 by default, more with `./ci/test --chaos`), `BACKBEAT_BROKERS`
//! how many brokers there are (1 by default, 3 with `./ci/test --chaos`), `BACKBEAT_SEED` makes the plan of an earlier run
//! again. What the machine does between two strikes is not repeatable; the plan is.

mod strike;
mod system;

use crate::strike::Plan;
use crate::system::{MACHINES, System};
use anyhow::{Context as _, Result, ensure};
use backbeat_tests::client::python;
use backbeat_tests::services::Services;
use backbeat_tests::storm::{Storm, number, seed};
use backbeat_tests::suite::{self, Test};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    suite::check_arguments();
    // It breaks its own; that these are there shows that they can be started.
    let services = Services::find(&["KAFKA", "REDIS", "ZOOKEEPER"]);
    let needed = python()
        .and_then(|_| services.address("KAFKA"))
        .and_then(|_| services.address("REDIS"))
        .and_then(|_| services.address("ZOOKEEPER"));
    suite::run(vec![Test::new("nothing_is_lost_doubled_reordered_or_pending", needed, chaos)])
}

fn chaos() -> Result<()> {
    let strikes = number("BACKBEAT_STRIKES")?.unwrap_or(15);
    let brokers = usize::try_from(number("BACKBEAT_BROKERS")?.unwrap_or(1))?;
    let seed = seed()?;
    println!(
        "{strikes} strikes, again with: BACKBEAT_SEED={seed} BACKBEAT_STRIKES={strikes} BACKBEAT_BROKERS={brokers} \
         cargo test --release -p backbeat-tests --test chaos"
    );
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let result = chaos_in(directory.path(), strikes, brokers, seed);
    if result.is_err() {
        println!("everything is kept in {}", directory.keep().display());
    }
    result
}

fn chaos_in(directory: &Path, strikes: u64, brokers: usize, seed: u64) -> Result<()> {
    let mut system = System::start(directory, brokers)?;
    let mut plan = Plan::new(seed, system.daemons(), MACHINES, brokers);
    let mut storm = Storm::start(system.place().addresses()?, seed)?;
    let mut counts = BTreeMap::<&str, u64>::new();
    let began = Instant::now();
    for number in 0..strikes {
        thread::sleep(plan.pause());
        let strike = plan.next();
        println!("{:>6.1?} strike {number}: {strike:?}", began.elapsed());
        *counts.entry(strike.kind()).or_default() += 1;
        system.strike(strike).with_context(|| format!("strike {number}, {strike:?}"))?;
        system.supervise().with_context(|| format!("after strike {number}, {strike:?}"))?;
        storm.check_alive()?;
    }
    println!("{strikes} strikes in {:.0?}:", began.elapsed());
    for (kind, count) in counts {
        println!("{count:>6} {kind}");
    }
    system.heal();
    // A little peace, so that writes after the last strike are part of it.
    thread::sleep(Duration::from_secs(1));
    storm.stop()?;
    let versions = verify(&mut storm, &mut system)?;
    ensure!(versions > strikes, "too little was written to prove anything: {versions} versions");
    system.finish()
}

/// Compares, while what ends is started again as before.
fn verify(storm: &mut Storm, system: &mut System) -> Result<u64> {
    thread::scope(|scope| {
        let verifying = scope.spawn(|| storm.verify());
        while !verifying.is_finished() {
            system.supervise()?;
            thread::sleep(Duration::from_millis(200));
        }
        verifying.join().expect("it does not panic")
    })
}
