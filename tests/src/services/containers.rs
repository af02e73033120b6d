//! Services in containers, which the program of `tests/containers` starts and holds. It is built when it is needed: nothing
//! of it is part of any suite.

use super::own::says;
use super::{READY_TIME_MAX, quiet_port};
use crate::binary::workspace;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Whether services that the environment does not name are to be started in containers.
pub fn are_wanted() -> bool {
    env::var_os("BACKBEAT_TEST_CONTAINERS").is_some_and(|value| value == "1")
}

/// Containers, which are removed when this is dropped, and also when this process ends in another way.
pub(super) struct Containers {
    holder: Child,
}

impl Containers {
    /// Starts the services of those names; where they are, by name.
    pub(super) fn start(names: &[&'static str]) -> Result<(Self, BTreeMap<&'static str, String>)> {
        let ports: BTreeMap<_, _> =
            names.iter().map(|name| Ok((*name, quiet_port()?))).collect::<Result<_>>()?;
        let mut command = Command::new(program()?);
        command.args(ports.iter().map(|(name, port)| format!("{}={port}", name.to_lowercase())));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What interrupts this process is not for it: it has to remove the containers afterwards.
        command.process_group(0);
        let mut containers =
            Self { holder: command.spawn().context("failed to start the holder of containers")? };
        containers.wait()?;
        if let Some(port) = ports.get("ZOOKEEPER") {
            wait_for_zookeeper(*port)?;
        }
        let address = |(name, port): (_, u16)| (name, format!("127.0.0.1:{port}"));
        Ok((containers, ports.into_iter().map(address).collect()))
    }

    /// Until the program says that they are ready. It gives up by itself.
    fn wait(&mut self) -> Result<()> {
        let stdout = self.holder.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() == "ready" {
            return Ok(());
        }
        let mut said = String::new();
        self.holder.stderr.take().context("no standard error")?.read_to_string(&mut said)?;
        bail!("in containers: {}", said.trim())
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        drop(self.holder.stdin.take());
        match self.holder.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => eprintln!("containers may be left behind: their holder ended with {status}"),
            Err(error) => eprintln!("containers may be left behind: {error}"),
        }
    }
}

fn program() -> Result<PathBuf> {
    let target = workspace().join("target/containers");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace()).args(["build", "--quiet", "--locked", "--release"]);
    cargo.args(["--manifest-path", "tests/containers/Cargo.toml", "--target-dir"]).arg(&target);
    let status = cargo.status().context("failed to start cargo")?;
    ensure!(status.success(), "cannot build tests/containers: {status}");
    Ok(target.join("release/backbeat-containers"))
}

fn wait_for_zookeeper(port: u16) -> Result<()> {
    let until = Instant::now() + READY_TIME_MAX;
    // To "ruok" it says yes before it serves anybody.
    while !says(port, b"srvr", b"Zookeeper version") {
        ensure!(Instant::now() < until, "ZooKeeper in a container does not answer at port {port}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
