//! A ZooKeeper of a test's own.

use super::own::{Server, says};
use super::{quiet_port, script};
use anyhow::Result;
use std::time::Duration;

/// A server that may be killed and started again with what it has stored: nodes and sessions.
pub struct OwnZookeeper {
    folder: tempfile::TempDir,
    port: u16,
    server: Server,
}

impl OwnZookeeper {
    /// An empty server.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = Server::new("ZooKeeper", folder.path());
        let mut own = Self { folder, port: quiet_port()?, server };
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
        self.server.kill()
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// If it does not end within a minute.
    pub fn terminate(&mut self) -> Result<()> {
        self.server.terminate()
    }

    /// Stopped for a while.
    ///
    /// # Errors
    /// If it does not run.
    pub fn freeze(&self, time: Duration) -> Result<()> {
        self.server.freeze(time)
    }

    /// Starts it again, and waits until it serves.
    ///
    /// # Errors
    /// If it does not.
    pub fn resume(&mut self) -> Result<()> {
        let mut command = script("zookeeper");
        command.arg(self.folder.path()).arg(self.port.to_string());
        self.server.start(command)?;
        let port = self.port;
        self.server.wait_until(move || Ok(says(port, b"srvr", b"Zookeeper version")))
    }
}
