//! Where the real services are: one place for all suites.
//!
//! A service that the environment names (`BACKBEAT_TEST_REDIS=host:port`) is used as it is. Otherwise `ci/services`
//! starts what is installed, and what it started is stopped when the [`Services`] are dropped. Tests keep to keys and
//! folders of their own.

mod ceph;
mod kafka;
mod moto;
mod own;
mod redis;
mod zookeeper;

pub use ceph::{CEPH_KEYS, OwnCeph, ceph_programs};
pub use kafka::{Door, OwnKafka};
pub use moto::OwnMoto;
pub use redis::{OwnRedis, redis_program};
pub use zookeeper::OwnZookeeper;

use crate::binary::workspace;
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::env;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a server may take to start.
const READY_TIME_MAX: Duration = Duration::from_mins(5);

/// The services that there are.
pub struct Services {
    found: BTreeMap<&'static str, Result<String, String>>,
    were_started: bool,
}

impl Services {
    /// Finds the services of those names, for example `REDIS`.
    pub fn find(names: &[&'static str]) -> Self {
        let variable = |name: &str| format!("BACKBEAT_TEST_{name}");
        let mut found: BTreeMap<&'static str, Result<String, String>> =
            names.iter().filter_map(|name| Some((*name, Ok(env::var(variable(name)).ok()?)))).collect();
        let mut were_started = false;
        if found.len() < names.len() {
            let started = start(&mut were_started);
            for name in names {
                found.entry(name).or_insert_with(|| match &started {
                    Ok(addresses) => addresses
                        .get(&variable(name))
                        .cloned()
                        .ok_or_else(|| format!("ci/services knows no {name}")),
                    Err(error) => Err(format!("{name} is not there: {error:#}")),
                });
            }
        }
        Self { found, were_started }
    }

    /// The address of one of them, `host:port`, or what is missing.
    ///
    /// # Errors
    /// What is missing, for people.
    ///
    /// # Panics
    /// If it was not among the names.
    pub fn address(&self, name: &str) -> Result<String, String> {
        self.found.get(name).expect("the suite asked for it").clone()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if self.were_started {
            // What cannot be stopped is seen by ci/services status.
            drop(script("stop").output());
        }
    }
}

/// Starts what is installed; the variables that `ci/services env` prints.
fn start(were_started: &mut bool) -> Result<BTreeMap<String, String>> {
    let ran_before = script("status").output().is_ok_and(|output| output.status.success());
    let output = script("start").arg("--installed").output().context("failed to run ci/services")?;
    *were_started = !ran_before;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ci/services start: {}", said.trim());
    let output = script("env").output().context("failed to run ci/services")?;
    ensure!(output.status.success(), "ci/services env: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8(output.stdout)?;
    let variable = |line: &str| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    Ok(text.lines().filter_map(variable).collect())
}

fn script(word: &str) -> Command {
    let mut command = Command::new(workspace().join("ci/services"));
    command.arg(word).current_dir(workspace()).stdin(Stdio::null());
    command
}

/// A name that no other case of any run uses.
pub fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    format!("test-{since}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A free port that the system does not give to outgoing connections.
fn quiet_port() -> Result<u16> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let first = u64::from(std::process::id() % 5_000) + NEXT.fetch_add(1, Ordering::Relaxed) * 10;
    (first..first + 5_000)
        .filter_map(|offset| u16::try_from(10_000 + offset % 5_000).ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no free port")
}
