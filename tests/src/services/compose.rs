//! A whole site of containers, as `packaging/compose.yaml` has it.

use super::own::says;
use super::{quiet_port, script, unique};
use crate::binary::workspace;
use crate::fleet::Places;
use anyhow::{Context as _, Result, ensure};
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The daemons of a site, as the compose file calls them.
pub const DAEMONS: [&str; 3] = ["queue-populator", "queue-processor", "replication-status-processor"];
/// How long all of it may take to start. Daemons are started again until their services are there.
const READY_TIME_MAX: Duration = Duration::from_mins(3);

/// A site of containers on this machine's network, at free ports of loopback. It is taken down when this is dropped.
pub struct ComposedSite {
    folder: TempDir,
    project: String,
    program: Vec<&'static str>,
    kafka: u16,
    zookeeper: u16,
    redis: u16,
    configuration: Option<String>,
}

impl ComposedSite {
    /// One that is not there yet.
    ///
    /// # Errors
    /// If there is no program for compose files, or no port.
    pub fn plan() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            project: unique(),
            program: program()?,
            kafka: quiet_port()?,
            zookeeper: quiet_port()?,
            redis: quiet_port()?,
            configuration: None,
        })
    }

    /// Where its services are going to be.
    pub fn places(&self) -> Places {
        Places {
            kafka: format!("127.0.0.1:{}", self.kafka),
            zookeeper: format!("127.0.0.1:{}/backbeat", self.zookeeper),
            redis: format!("127.0.0.1:{}", self.redis),
        }
    }

    /// Brings it up with the daemons' configuration in `folder`, which everybody may read, and waits until the daemons' probes at
    /// `probes` say that they are ready.
    ///
    /// # Errors
    /// If they do not become ready; what the containers said.
    pub fn up(&mut self, folder: &Path, probes: &[u16]) -> Result<()> {
        let mut zookeeper = script("configuration");
        let zookeeper = zookeeper.args(["zookeeper", "/data", &self.zookeeper.to_string()]).output()?;
        ensure!(zookeeper.status.success(), "ci/services: {}", String::from_utf8_lossy(&zookeeper.stderr));
        fs::write(self.zookeeper_file(), zookeeper.stdout)?;
        self.configuration = Some(folder.to_str().context("a path in UTF-8")?.to_owned());
        self.compose(&["up", "--detach"])?;
        let until = Instant::now() + READY_TIME_MAX;
        let is_ready = |port: &u16| {
            says(
                *port,
                b"GET /_/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                b"HTTP/1.1 200",
            )
        };
        while !probes.iter().all(is_ready) {
            ensure!(Instant::now() < until, "the daemons are not ready: {}", self.log()?);
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Stops it; how each of [`DAEMONS`] ended.
    ///
    /// # Errors
    /// If it does not stop.
    pub fn stop(&self) -> Result<Vec<i64>> {
        self.compose(&["stop"])?;
        let ended = |daemon| {
            let id = self.compose(&["ps", "--all", "--quiet", daemon])?;
            let mut docker = Command::new("docker");
            let code = said(docker.args(["inspect", "--format", "{{.State.ExitCode}}", id.trim()]))?;
            code.trim().parse().with_context(|| format!("{daemon} ended with {code}"))
        };
        DAEMONS.into_iter().map(ended).collect()
    }

    /// What the containers said last.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn log(&self) -> Result<String> {
        self.compose(&["logs", "--no-color", "--tail", "30"])
    }

    fn zookeeper_file(&self) -> std::path::PathBuf {
        self.folder.path().join("zoo.cfg")
    }

    fn compose(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.program[0]);
        command.args(&self.program[1..]).args(["--file", "packaging/compose.yaml"]);
        command.args(["--file", "tests/containers/compose.host.yaml"]).args(arguments);
        command.current_dir(workspace()).env("COMPOSE_PROJECT_NAME", &self.project);
        command
            .env("ZOOKEEPER_CONF", self.zookeeper_file())
            .env("ZOOKEEPER_PORT", self.zookeeper.to_string());
        command.env("KAFKA_PORT", self.kafka.to_string());
        command.env("KAFKA_CONTROLLER_PORT", (self.kafka + 1).to_string());
        command.env("REDIS_PORT", self.redis.to_string());
        if let Some(configuration) = &self.configuration {
            command.env("BACKBEAT_CONF", configuration);
        }
        for (name, tested) in [
            ("BACKBEAT_IMAGE", "BACKBEAT_TEST_IMAGE"),
            ("KAFKA_IMAGE", "BACKBEAT_TEST_KAFKA_IMAGE"),
            ("REDIS_IMAGE", "BACKBEAT_TEST_REDIS_IMAGE"),
            ("ZOOKEEPER_IMAGE", "BACKBEAT_TEST_ZOOKEEPER_IMAGE"),
        ] {
            if let Some(image) = env::var_os(tested) {
                command.env(name, image);
            }
        }
        said(&mut command)
    }
}

impl Drop for ComposedSite {
    fn drop(&mut self) {
        if self.configuration.is_some()
            && let Err(error) = self.compose(&["down", "--volumes", "--timeout", "5"])
        {
            eprintln!("containers of {} may be left behind: {error:#}", self.project);
        }
    }
}

/// The newer program is a part of `docker`.
fn program() -> Result<Vec<&'static str>> {
    let answers = |words: &[&'static str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("version").stdin(Stdio::null());
        command.output().is_ok_and(|output| output.status.success())
    };
    let programs = [&["docker", "compose"][..], &["docker-compose"][..]];
    let found = programs.into_iter().find(|words| answers(words));
    Ok(found.context("neither `docker compose` nor `docker-compose` is installed")?.to_vec())
}

/// What a command says that has to succeed.
fn said(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().context("failed to start it")?;
    ensure!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&stderr).trim());
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
