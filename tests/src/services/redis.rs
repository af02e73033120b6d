//! Redis servers of a test's own.

use super::own::says;
use super::{READY_TIME_MAX, quiet_port};
use crate::authority::{Authority, Issued};
use anyhow::{Context as _, Result, bail, ensure};
use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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

    /// A server that also listens at [`Self::protected_port`], where it says to be `own`, to those that `clients` issued
    /// certificates for.
    ///
    /// # Errors
    /// If it does not start.
    pub fn protected(own: &Issued, clients: &Authority) -> Result<Self> {
        let port = quiet_port()?;
        let settings = vec![
            format!("tls-port {}", port + 1),
            format!("tls-cert-file {}", own.certificate.display()),
            format!("tls-key-file {}", own.key.display()),
            format!("tls-ca-cert-file {}", clients.file().display()),
        ];
        Self::at(port, settings, false)
    }

    /// The port of a protected one, on loopback.
    pub fn protected_port(&self) -> u16 {
        self.port + 1
    }

    /// A sentinel with these lines in its configuration.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_sentinel(settings: &[&str]) -> Result<Self> {
        Self::make(settings, true)
    }

    fn make(settings: &[&str], is_sentinel: bool) -> Result<Self> {
        let settings = settings.iter().map(|&line| line.to_owned()).collect();
        Self::at(quiet_port()?, settings, is_sentinel)
    }

    fn at(port: u16, settings: Vec<String>, is_sentinel: bool) -> Result<Self> {
        let mut own = Self { folder: tempfile::tempdir()?, port, settings, is_sentinel, child: None };
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

    /// `FLUSHALL`: takes away everything that is in it.
    ///
    /// # Errors
    /// If it does not.
    pub fn flush(&self) -> Result<()> {
        ensure!(says(self.port, b"FLUSHALL\r\n", b"+OK"), "Redis does not flush");
        Ok(())
    }

    fn answers(&self) -> bool {
        // Without a password it says no, and is ready to.
        says(self.port, b"PING\r\n", b"+") || says(self.port, b"PING\r\n", b"-")
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        // There is nothing to do about a failure here.
        drop(self.kill());
    }
}
