//! A server process of a test's own: started, struck, and started again.

use super::READY_TIME_MAX;
use crate::process::Process;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to end.
const END_TIME_MAX: Duration = Duration::from_mins(1);

/// A server and what it said, each start in a file of its own.
pub(super) struct Server {
    name: &'static str,
    folder: PathBuf,
    starts: u64,
    process: Option<Process>,
}

impl Server {
    /// One that is not started yet, with its logs in `folder`.
    pub(super) fn new(name: &'static str, folder: &Path) -> Self {
        Self { name, folder: folder.to_path_buf(), starts: 0, process: None }
    }

    /// What it said on standard error since it was started last.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join(format!("log-{}", self.starts))
    }

    pub(super) fn start(&mut self, command: Command) -> Result<()> {
        self.starts += 1;
        self.process = Some(Process::start(command, &self.log())?);
        Ok(())
    }

    /// Waits until it is ready as `is_ready` knows.
    pub(super) fn wait_until(&mut self, is_ready: impl Fn() -> Result<bool>) -> Result<()> {
        let until = Instant::now() + READY_TIME_MAX;
        while Instant::now() < until && self.running()?.ended()?.is_none() {
            if is_ready()? {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("{} does not become ready: {}", self.name, fs::read_to_string(self.log())?)
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::kill).context(self.name)
    }

    /// SIGTERM.
    pub(super) fn terminate(&mut self) -> Result<()> {
        let process = self.process.take().with_context(|| format!("{} does not run", self.name))?;
        // The status of a virtual machine that a signal ended says nothing.
        process.terminate(END_TIME_MAX).map(|_| ()).context(self.name)
    }

    /// Stopped for a while.
    pub(super) fn freeze(&self, time: Duration) -> Result<()> {
        let process = self.process.as_ref().with_context(|| format!("{} does not run", self.name))?;
        process.signal("STOP")?;
        thread::sleep(time);
        process.signal("CONT")
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("{} does not run", self.name))
    }
}

/// Whether what listens at a port of loopback answers `words` with something that begins so.
pub(super) fn says(port: u16, words: &[u8], answer: &[u8]) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(words)?;
        let mut first = vec![0; answer.len()];
        stream.read_exact(&mut first)?;
        Ok(first == answer)
    };
    ask().unwrap_or(false)
}
