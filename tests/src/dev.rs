//! `backbeat dev` as a process that can be killed and started again where it was.

use crate::binary;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The sites of every suite.
pub const SITES: [&str; 2] = ["paris", "tokyo"];
/// How long a start may take, recovery after a kill included.
pub const READY_TIME_MAX: Duration = Duration::from_mins(1);

/// Where the parts of a running `dev` listen: hosts and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// S3 of the source.
    pub source: String,
    /// S3 of every target, by the name of its site.
    pub targets: Vec<(String, String)>,
    /// The API.
    pub api: String,
}

impl Addresses {
    /// Reads the first line that `dev --json` prints.
    pub fn parse(line: &str) -> Result<Self> {
        let document: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line:?}"))?;
        let address = |part: &Value| -> Result<String> {
            let endpoint =
                part["endpoint"].as_str().with_context(|| format!("an endpoint is missing in {line}"))?;
            Ok(endpoint.trim_start_matches("http://").to_owned())
        };
        let target = |target: &Value| -> Result<(String, String)> {
            let site =
                target["site"].as_str().with_context(|| format!("a target without a name in {line}"))?;
            Ok((site.to_owned(), address(target)?))
        };
        let targets = document["targets"].as_array().with_context(|| format!("no targets in {line}"))?;
        Ok(Self {
            source: address(&document["source"])?,
            targets: targets.iter().map(target).collect::<Result<_>>()?,
            api: address(&document["api"])?,
        })
    }

    fn ports(&self) -> Option<Ports> {
        let port = |address: &str| address.rsplit_once(':')?.1.parse().ok();
        let targets = self.targets.iter().map(|(_, address)| port(address)).collect::<Option<_>>()?;
        Some(Ports { source: port(&self.source)?, api: port(&self.api)?, targets })
    }
}

/// Ports, each 0 until it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of the source's S3.
    pub source: u16,
    /// Of the API.
    pub api: u16,
    /// Of the targets' S3.
    pub targets: Vec<u16>,
}

/// A data directory, the sites and their ports.
pub struct Place {
    directory: PathBuf,
    /// Names of the targets; without, there is one that is named after its port.
    sites: Option<[&'static str; SITES.len()]>,
    ports: Ports,
    addresses: Option<Addresses>,
}

/// A running `dev`.
pub struct Dev {
    child: Child,
    lines: Receiver<String>,
}

impl Place {
    /// A place under `directory`, which exists, at ports of the system's choice.
    pub fn new(directory: &Path) -> Self {
        let ports = Ports { source: 0, api: 0, targets: vec![0; SITES.len()] };
        Self { directory: directory.to_path_buf(), sites: Some(SITES), ports, addresses: None }
    }

    /// The same with one target, which is named after its port.
    pub fn with_site_names_of_ports(directory: &Path) -> Self {
        let ports = Ports { source: 0, api: 0, targets: vec![0] };
        Self { directory: directory.to_path_buf(), sites: None, ports, addresses: None }
    }

    /// A place under `directory`, which exists, at free ports that the system does not give to outgoing connections: one
    /// of those could otherwise sit on a port while the process that listened there is being restarted.
    pub fn at_quiet_ports(directory: &Path) -> Result<Self> {
        let mut place = Self::new(directory);
        let first = 15_000 + u16::try_from(std::process::id() % 10_000).expect("a number below 10,000 fits");
        let mut candidates = (first..30_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
        let Ports { source, api, targets } = &mut place.ports;
        for port in [source, api].into_iter().chain(targets) {
            *port = candidates.next().context("no free port")?;
        }
        Ok(place)
    }

    /// The ports, once it has been ready.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Where it listens, once it has been ready.
    pub fn addresses(&self) -> Result<&Addresses> {
        self.addresses.as_ref().context("dev has not been ready yet")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What the processes said on standard error, all starts together.
    pub fn log(&self) -> PathBuf {
        self.directory.join("dev.log")
    }

    /// Starts a process on the data and, after the first time, on the same ports; it is not ready yet.
    pub fn start(&self) -> Result<Dev> {
        let Ports { source, api, targets } = &self.ports;
        let mut command = Command::new(binary::backbeat()?);
        command.args(["dev", "--json", "--data-dir"]).arg(self.data());
        command.args(["--source-port", &source.to_string(), "--api-port", &api.to_string()]);
        for (number, port) in targets.iter().enumerate() {
            match self.sites {
                Some(sites) => command.arg("--target").arg(format!("{}={port}", sites[number])),
                None => command.arg("--target-port").arg(port.to_string()),
            };
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .context("failed to open the log")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().context("failed to start backbeat dev")?;
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let (sender, lines) = channel();
        // Reads until the process ends, so that it never waits for us.
        thread::spawn(move || stdout.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Ok(Dev { child, lines })
    }

    /// Waits until the process says that it is ready; the ports are known from then on.
    pub fn wait_until_ready(&mut self, dev: &mut Dev) -> Result<()> {
        let line = match dev.lines.recv_timeout(READY_TIME_MAX) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                bail!("dev is not ready after {READY_TIME_MAX:?}; {}", self.tail())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("dev ended before it was ready: {:?}; {}", dev.child.wait(), self.tail())
            }
        };
        let found = Addresses::parse(&line)?;
        let found_ports = found.ports().with_context(|| format!("a port is missing in {line}"))?;
        let is_kept = |asked: u16, found: u16| asked == 0 || asked == found;
        let Ports { source, api, targets } = &self.ports;
        let are_targets_kept = targets.len() == found_ports.targets.len()
            && targets.iter().zip(&found_ports.targets).all(|(asked, found)| is_kept(*asked, *found));
        if !is_kept(*source, found_ports.source) || !is_kept(*api, found_ports.api) || !are_targets_kept {
            bail!("dev listens at {found_ports:?}, asked for {:?}", self.ports);
        }
        self.ports = found_ports;
        self.addresses = Some(found);
        Ok(())
    }

    /// Starts a process and waits until it is ready.
    pub fn start_ready(&mut self) -> Result<Dev> {
        let mut dev = self.start()?;
        self.wait_until_ready(&mut dev)?;
        Ok(dev)
    }

    fn tail(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("its last words:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

impl Dev {
    /// `kill -9`, and the end of it.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("dev ended by itself: {status}");
        }
        self.child.kill().context("failed to kill dev")?;
        self.child.wait().context("failed to wait for dev")?;
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
        /// The system counts in hundredths of a second, wherever programs can see it.
        const TICKS_PER_S: f64 = 100.0;
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        // Behind the name, which may hold anything: the state is field 3, user and system time are 14 and 15.
        let (_, fields) = stat.rsplit_once(')').with_context(|| format!("{path} has another form"))?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        let ticks = ticks.sum::<Result<f64, _>>().with_context(|| format!("{path} has another form"))?;
        Ok(ticks / TICKS_PER_S)
    }

    /// `kill -TERM`, and how it ended.
    pub fn terminate(mut self, time_max: Duration) -> Result<ExitStatus> {
        let kill = format!("kill -TERM {}", self.child.id());
        Command::new("sh").args(["-c", &kill]).status().context("failed to run kill")?;
        let deadline = Instant::now() + time_max;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("dev has not ended {time_max:?} after SIGTERM");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Already ended in the good case; there is nothing to do about a failure here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
