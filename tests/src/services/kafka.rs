//! A Kafka broker of a test's own.

use super::{READY_TIME_MAX, quiet_port, script};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// What a broker says when it is ready.
const READY: &str = "Kafka Server started";

/// A broker that is a cluster by itself, and may be killed and started again with what it has stored.
pub struct OwnKafka {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl OwnKafka {
    /// An empty broker.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start() -> Result<Self> {
        let mut own = Self { folder: tempfile::tempdir()?, port: quiet_port()?, child: None };
        own.resume()?;
        Ok(own)
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
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

    /// Starts it again, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn resume(&mut self) -> Result<()> {
        let said = self.folder.path().join("log");
        let log = fs::File::create(&said)?;
        let mut command = script("kafka");
        command.arg(self.folder.path()).arg(self.port.to_string()).stderr(log.try_clone()?).stdout(log);
        let child = self.child.insert(command.spawn().context("failed to start Kafka")?);
        let until = Instant::now() + READY_TIME_MAX;
        while Instant::now() < until && child.try_wait()?.is_none() {
            if fs::read_to_string(&said)?.contains(READY) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("Kafka does not become ready: {}", fs::read_to_string(&said)?)
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        // There is nothing to do about a failure here.
        drop(self.kill());
    }
}
