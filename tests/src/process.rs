//! A process of the binary: what it says once it is ready, and every way to end it.

use anyhow::{Context as _, Result, bail};
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a start may take, recovery after a kill included.
pub const READY_TIME_MAX: Duration = Duration::from_mins(1);

/// A running process.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, which writes standard error to the end of `log`; it is not ready yet.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let errors =
            OpenOptions::new().create(true).append(true).open(log).context("failed to open the log")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let (sender, lines) = channel();
        // Reads until the process ends, so that it never waits for us.
        thread::spawn(move || stdout.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Ok(Self { child, lines, log: log.to_path_buf() })
    }

    /// The first line that it prints, which is when it is ready.
    pub fn ready_line(&mut self) -> Result<String> {
        match self.lines.recv_timeout(READY_TIME_MAX) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("not ready after {READY_TIME_MAX:?}; {}", self.last_words())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("ended before it was ready: {:?}; {}", self.child.wait(), self.last_words())
            }
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("its last words:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// `kill -9`, and the end of it.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended by itself: {status}; {}", self.last_words());
        }
        self.child.kill().context("failed to kill it")?;
        self.child.wait().context("failed to wait for it")?;
        Ok(())
    }

    /// Bytes of memory, as the system counts them under `name` (`VmRSS:` now, `VmHWM:` at most so far).
    pub fn memory(&self, name: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line
            .and_then(|rest| rest.split_whitespace().next())
            .with_context(|| format!("{path} has no {name}"))?;
        Ok(kib.parse::<u64>().with_context(|| format!("{name} is not a number"))? << 10)
    }

    /// Seconds of processor time so far, of all threads.
    pub fn processor_s(&self) -> Result<f64> {
        processor_s(self.child.id())
    }

    /// Sends it a signal, `STOP` for example.
    pub fn signal(&self, name: &str) -> Result<()> {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().context("failed to run kill")?;
        anyhow::ensure!(status.success(), "{kill}: {status}");
        Ok(())
    }

    /// `kill -TERM`, and how it ended.
    pub fn terminate(mut self, time_max: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.end_within(time_max).context("after SIGTERM")
    }

    /// Waits for it to end by itself.
    pub fn end_within(&mut self, time_max: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + time_max;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("it has not ended within {time_max:?}; {}", self.last_words());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended in the good case; there is nothing to do about a failure here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Seconds of processor time that a process has used so far, all threads.
///
/// # Errors
/// If there is no such process.
pub fn processor_s(process: u32) -> Result<f64> {
    /// The system counts in hundredths of a second, wherever programs can see it.
    const TICKS_PER_S: f64 = 100.0;
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    // Behind the name, which may hold anything: the state is field 3, user and system time are 14 and 15.
    let (_, fields) = stat.rsplit_once(')').with_context(|| format!("{path} has another form"))?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let ticks = ticks.sum::<Result<f64, _>>().with_context(|| format!("{path} has another form"))?;
    Ok(ticks / TICKS_PER_S)
}
