//! Where the real services are: one place for all suites.
//!
//! A service that the environment names (`BACKBEAT_TEST_REDIS=host:port`) is used as it is. With
//! `BACKBEAT_TEST_CONTAINERS=1` the others are started in containers, otherwise `ci/services` starts what is installed; what
//! was started is stopped when the [`Services`] are dropped. Tests keep to keys and folders of their own.

mod ceph;
mod compose;
pub mod containers;
mod kafka;
mod moto;
mod own;
mod redis;
mod zookeeper;

pub use ceph::{CEPH_KEYS, OwnCeph, ceph_programs};
pub use compose::{ComposedSite, DAEMONS};
pub use kafka::{Door, OwnKafka};
pub use moto::OwnMoto;
pub use redis::{OwnRedis, redis_program};
pub use zookeeper::OwnZookeeper;

use self::containers::Containers;
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
    started: Started,
}

/// What is to be ended with the services.
enum Started {
    Nothing,
    /// What `ci/services` started.
    Processes,
    /// They end with this.
    Containers {
        _all: Containers,
    },
}

impl Services {
    /// Finds the services of those names, for example `REDIS`.
    pub fn find(names: &[&'static str]) -> Self {
        let named = |name: &&'static str| Some((*name, Ok(env::var(variable(name)).ok()?)));
        let mut found: BTreeMap<_, _> = names.iter().filter_map(named).collect();
        let missing: Vec<_> = names.iter().copied().filter(|name| !found.contains_key(name)).collect();
        let mut started = Started::Nothing;
        if !missing.is_empty() {
            let addresses = start(&missing, &mut started);
            for name in missing {
                let address = match &addresses {
                    Ok(addresses) => {
                        addresses.get(name).cloned().ok_or_else(|| format!("ci/services knows no {name}"))
                    }
                    Err(error) => Err(format!("{name} is not there: {error:#}")),
                };
                found.insert(name, address);
            }
        }
        Self { found, started }
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
        if matches!(self.started, Started::Processes) {
            // What cannot be stopped is seen by ci/services status.
            drop(script("stop").output());
        }
    }
}

/// What names the address of a service in the environment.
fn variable(name: &str) -> String {
    format!("BACKBEAT_TEST_{name}")
}

/// Starts the services of those names, in containers or what is installed; where they are, by name.
fn start(names: &[&'static str], started: &mut Started) -> Result<BTreeMap<&'static str, String>> {
    if containers::are_wanted() {
        let (all, addresses) = Containers::start(names)?;
        *started = Started::Containers { _all: all };
        return Ok(addresses);
    }
    let ran_before = script("status").output().is_ok_and(|output| output.status.success());
    let output = script("start").arg("--installed").output().context("failed to run ci/services")?;
    if !ran_before {
        *started = Started::Processes;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ci/services start: {}", said.trim());
    let output = script("env").output().context("failed to run ci/services")?;
    ensure!(output.status.success(), "ci/services env: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8(output.stdout)?;
    let address = |name: &&'static str| {
        let line = format!("export {}=", variable(name));
        Some((*name, text.lines().find_map(|text| text.strip_prefix(&line))?.to_owned()))
    };
    Ok(names.iter().filter_map(address).collect())
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
///
/// # Errors
/// If there is none.
pub fn quiet_port() -> Result<u16> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let first = u64::from(std::process::id() % 5_000) + NEXT.fetch_add(1, Ordering::Relaxed) * 10;
    (first..first + 5_000)
        .filter_map(|offset| u16::try_from(10_000 + offset % 5_000).ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no free port")
}
