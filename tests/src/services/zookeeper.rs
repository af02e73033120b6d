//! A ZooKeeper of a test's own.

use super::own::{Server, says};
use super::{quiet_port, script};
use crate::authority::{Authority, Issued};
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
        Self::make(None)
    }

    /// An empty server that also listens at [`Self::protected_address`], where it says to be `own`, to those that
    /// `clients` issued certificates for.
    ///
    /// # Errors
    /// If it does not start.
    pub fn protected(own: &Issued, clients: &Authority) -> Result<Self> {
        Self::make(Some((own, clients)))
    }

    fn make(protected: Option<(&Issued, &Authority)>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = Server::new("ZooKeeper", folder.path());
        let mut zookeeper = Self { folder, port: quiet_port()?, server };
        if let Some((own, clients)) = protected {
            let properties = format!(
                "secureClientPort={}\nsecureClientPortAddress=127.0.0.1\n\
                 serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
                 ssl.keyStore.location={}\nssl.keyStore.type=PEM\n\
                 ssl.trustStore.location={}\nssl.trustStore.type=PEM\nssl.clientAuth=need\n",
                zookeeper.port + 1,
                own.both.display(),
                clients.file().display(),
            );
            std::fs::write(zookeeper.folder.path().join("properties"), properties)?;
        }
        zookeeper.resume()?;
        Ok(zookeeper)
    }

    /// Where a protected one listens besides, `host:port`.
    pub fn protected_address(&self) -> String {
        format!("127.0.0.1:{}", self.port + 1)
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
