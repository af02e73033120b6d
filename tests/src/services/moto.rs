//! A moto of a test's own: S3, IAM and STS that nobody here wrote.

use super::own::{Server, says};
use super::quiet_port;
use crate::client;
use anyhow::{Error, Result};
use std::process::{Command, Stdio};

/// A server that keeps nothing.
pub struct OwnMoto {
    _folder: tempfile::TempDir,
    port: u16,
    server: Server,
}

impl OwnMoto {
    /// An empty server. After `free_actions` it looks at signatures and policies.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(free_actions: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut server = Server::new("moto", folder.path());
        let port = quiet_port()?;
        let mut command = Command::new(client::moto().map_err(Error::msg)?);
        command.args(["-H", "127.0.0.1", "-p"]).arg(port.to_string()).stdin(Stdio::null());
        command.env("INITIAL_NO_AUTH_ACTION_COUNT", free_actions.to_string());
        server.start(command)?;
        server.wait_until(move || Ok(says(port, b"GET /moto-api/data.json HTTP/1.0\r\n\r\n", b"HTTP/")))?;
        Ok(Self { _folder: folder, port, server })
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
}
