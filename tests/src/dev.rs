//! `backbeat dev` as a process that can be killed and started again where it was.

use crate::binary;
use crate::process::Process;
pub use crate::process::READY_TIME_MAX;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The sites of every suite.
pub const SITES: [&str; 2] = ["paris", "tokyo"];

/// Where the parts of a running `dev` listen: hosts and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// S3 of the source.
    pub source: String,
    /// S3 of every target, by the name of its site.
    pub targets: Vec<(String, String)>,
    /// The API; the sites alone have none.
    pub api: Option<String>,
    /// The source's journal in bucketd's form, if it was asked for.
    pub journal: Option<String>,
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
            api: document.get("api").map(address).transpose()?,
            journal: document.get("journal").map(address).transpose()?,
        })
    }

    fn ports(&self) -> Option<Ports> {
        let port = |address: &str| address.rsplit_once(':')?.1.parse().ok();
        let targets = self.targets.iter().map(|(_, address)| port(address)).collect::<Option<_>>()?;
        let optional = |address: &Option<String>| address.as_deref().map_or(Some(0), port);
        let (api, journal) = (optional(&self.api)?, optional(&self.journal)?);
        Some(Ports { source: port(&self.source)?, api, journal, targets })
    }
}

/// Ports, each 0 until it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of the source's S3.
    pub source: u16,
    /// Of the API.
    pub api: u16,
    /// Of the journal.
    pub journal: u16,
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
    are_sites_alone: bool,
}

/// A running `dev`.
pub type Dev = Process;

impl Place {
    /// A place under `directory`, which exists, at ports of the system's choice.
    pub fn new(directory: &Path) -> Self {
        let ports = Ports { source: 0, api: 0, journal: 0, targets: vec![0; SITES.len()] };
        Self {
            directory: directory.to_path_buf(),
            sites: Some(SITES),
            ports,
            addresses: None,
            are_sites_alone: false,
        }
    }

    /// The same with one target, which is named after its port.
    pub fn with_site_names_of_ports(directory: &Path) -> Self {
        let ports = Ports { source: 0, api: 0, journal: 0, targets: vec![0] };
        Self {
            directory: directory.to_path_buf(),
            sites: None,
            ports,
            addresses: None,
            are_sites_alone: false,
        }
    }

    /// A place under `directory`, which exists, at free ports that the system does not give to outgoing connections: one
    /// of those could otherwise sit on a port while the process that listened there is being restarted.
    pub fn at_quiet_ports(directory: &Path) -> Result<Self> {
        let mut place = Self::new(directory);
        let first = 15_000 + u16::try_from(std::process::id() % 10_000).expect("a number below 10,000 fits");
        let mut candidates = (first..30_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
        let Ports { source, api, journal, targets } = &mut place.ports;
        for port in [source, api, journal].into_iter().chain(targets) {
            *port = candidates.next().context("no free port")?;
        }
        Ok(place)
    }

    /// The same without an engine, for daemons in processes of their own.
    pub fn with_sites_alone(mut self) -> Self {
        self.are_sites_alone = true;
        self.ports.api = 0;
        self
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
        let Ports { source, api, journal, targets } = &self.ports;
        let mut command = Command::new(binary::backbeat()?);
        command.args(["dev", "--json", "--data-dir"]).arg(self.data());
        command.args(["--source-port", &source.to_string(), "--api-port", &api.to_string()]);
        if self.are_sites_alone {
            command.args(["--sites-only", "--journal-port", &journal.to_string()]);
        }
        for (number, port) in targets.iter().enumerate() {
            match self.sites {
                Some(sites) => command.arg("--target").arg(format!("{}={port}", sites[number])),
                None => command.arg("--target-port").arg(port.to_string()),
            };
        }
        Process::start(command, &self.log())
    }

    /// Waits until the process says that it is ready; the ports are known from then on.
    pub fn wait_until_ready(&mut self, dev: &mut Dev) -> Result<()> {
        let line = dev.ready_line().context("dev")?;
        let found = Addresses::parse(&line)?;
        let found_ports = found.ports().with_context(|| format!("a port is missing in {line}"))?;
        let is_kept = |asked: u16, found: u16| asked == 0 || asked == found;
        let Ports { source, api, journal, targets } = &self.ports;
        let are_targets_kept = targets.len() == found_ports.targets.len()
            && targets.iter().zip(&found_ports.targets).all(|(asked, found)| is_kept(*asked, *found));
        let is_journal_kept = !self.are_sites_alone || is_kept(*journal, found_ports.journal);
        let is_source_kept = is_kept(*source, found_ports.source);
        if !is_source_kept || !is_kept(*api, found_ports.api) || !is_journal_kept || !are_targets_kept {
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
}
