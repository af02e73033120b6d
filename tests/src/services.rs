//! Where the real services are: one place for all suites.
//!
//! A service that the environment names (`BACKBEAT_TEST_REDIS=host:port`) is used as it is. Otherwise `ci/services`
//! starts what is installed, and what it started is stopped when the [`Services`] are dropped. Tests keep to keys and
//! folders of their own.

mod kafka;

pub use kafka::OwnKafka;

use crate::binary::workspace;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to start.
const READY_TIME_MAX: Duration = Duration::from_mins(2);

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

/// The program that is a Redis server, or what is missing. Debian's `redis-tools` has it under another name.
///
/// # Errors
/// What is missing, for people.
pub fn redis_program() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    ["redis-server", "redis-check-rdb"]
        .iter()
        .flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
        .ok_or_else(|| "no redis-server (./ci/services install)".to_owned())
}

/// A Redis server of a test's own, which may be stopped and started again on the same port.
pub struct OwnRedis {
    folder: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    is_sentinel: bool,
    child: Option<Child>,
}

impl OwnRedis {
    /// A server with these lines in its configuration.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(settings: &[&str]) -> Result<Self> {
        Self::make(settings, false)
    }

    /// A sentinel with these lines in its configuration.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_sentinel(settings: &[&str]) -> Result<Self> {
        Self::make(settings, true)
    }

    fn make(settings: &[&str], is_sentinel: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let settings = settings.iter().map(|&line| line.to_owned()).collect();
        let mut own = Self { folder, port: quiet_port()?, settings, is_sentinel, child: None };
        own.resume()?;
        Ok(own)
    }

    /// The port, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If that fails.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts it again, and waits until it answers.
    ///
    /// # Errors
    /// If it does not.
    pub fn resume(&mut self) -> Result<()> {
        let file = self.folder.path().join("redis.conf");
        let mut text = format!("port {}\nbind 127.0.0.1\ndir {}\n", self.port, self.folder.path().display());
        if !self.is_sentinel {
            text.push_str("save \"\"\nappendonly no\n");
        }
        for line in &self.settings {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(&file, text)?;
        let log = fs::File::create(self.folder.path().join("log"))?;
        let mut command = Command::new(redis_program().map_err(anyhow::Error::msg)?);
        command.arg0("redis-server").arg(&file).stdin(Stdio::null()).stderr(Stdio::null()).stdout(log);
        if self.is_sentinel {
            command.arg("--sentinel");
        }
        self.child = Some(command.spawn().context("failed to start redis-server")?);
        let until = Instant::now() + READY_TIME_MAX;
        while Instant::now() < until {
            if self.answers() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("redis-server does not answer: {}", fs::read_to_string(self.folder.path().join("log"))?)
    }

    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(b"PING\r\n")?;
            let mut first = [0; 1];
            stream.read_exact(&mut first)?;
            // Without a password it says no, and is ready to.
            Ok(first == *b"+" || first == *b"-")
        };
        ask().unwrap_or(false)
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        // There is nothing to do about a failure here.
        drop(self.kill());
    }
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
