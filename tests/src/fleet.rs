//! The production daemons as processes, over real services, between the sites of a `dev --sites-only`.

use crate::binary;
use crate::dev::Addresses;
use crate::process::Process;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The raft session that the source's journal is read as.
pub const SESSION: u32 = 1;

/// Where the services of a fleet are, `host:port` each.
#[derive(Clone, Debug)]
pub struct Places {
    /// A broker of Kafka.
    pub kafka: String,
    /// ZooKeeper, with the folder of this fleet.
    pub zookeeper: String,
    /// Redis.
    pub redis: String,
}

/// The folder of a fleet: its configuration, and the logs of its daemons.
pub struct Fleet {
    folder: PathBuf,
    configuration: Value,
    topic_prefix: String,
}

impl Fleet {
    /// Writes the configuration of a fleet between `sites` into `folder`, which exists. Topics begin with
    /// `topic_prefix`.
    pub fn new(folder: &Path, sites: &Addresses, places: &Places, topic_prefix: &str) -> Result<Self> {
        let server = |address: &str| -> Result<Value> {
            let (host, port) = address.rsplit_once(':').with_context(|| format!("no port in {address}"))?;
            Ok(json!({"host": host, "port": port.parse::<u16>()?}))
        };
        let mut bucketd = server(sites.journal.as_deref().context("the sites serve no journal")?)?;
        bucketd["raftSessions"] = json!([SESSION]);
        let list = sites.targets.iter().map(|(site, address)| json!({"site": site, "servers": [address]}));
        let retry = json!({"maxRetries": 5, "timeoutS": 300,
            "backoff": {"min": 200, "max": 2_000, "jitter": 0.1, "factor": 1.5}});
        let account = json!({"type": "account", "account": "dev"});
        let configuration = json!({
            "replicationGroupId": "RG001  ",
            "zookeeper": {"connectionString": places.zookeeper, "autoCreateNamespace": true, "sessionTimeoutMs": 6_000},
            "kafka": {"hosts": places.kafka, "sessionTimeoutMs": 6_000},
            "redis": server(&places.redis)?,
            "queuePopulator": {
                "cronRule": "*/5 * * * * *", "zookeeperPath": "/queue-populator",
                "logSource": "bucketd", "bucketd": bucketd, "probeServer": {"port": 0},
            },
            "extensions": {"replication": {
                "source": {"s3": server(&sites.source)?, "auth": account},
                "destination": {"auth": account, "bootstrapList": list.collect::<Vec<_>>()},
                "replayTopics": [{"topicName": "backbeat-replication-replay-0", "retries": 5}],
                "queueProcessor": {"groupId": "backbeat-replication-group", "retry": {"scality": retry},
                    "probeServer": {"port": 0}},
                "replicationStatusProcessor": {"groupId": "backbeat-replication-group", "retry": retry,
                    "probeServer": {"port": 0}},
            }},
        });
        let accounts = json!({"accounts": [{
            "name": "dev", "arn": "arn:aws:iam::000000000000:root", "displayName": "backbeat-dev",
            "canonicalID": "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be",
            "keys": {"access": "backbeat-dev", "secret": "backbeat-dev-secret"},
        }]});
        let fleet =
            Self { folder: folder.to_path_buf(), configuration, topic_prefix: topic_prefix.to_owned() };
        std::fs::write(fleet.folder.join("authdata.json"), accounts.to_string())?;
        fleet.write()?;
        Ok(fleet)
    }

    /// Changes the configuration on disk; null takes the key out of it.
    pub fn configure(&mut self, pointer: &str, value: Value) -> Result<()> {
        let (section, name) = pointer.rsplit_once('/').context("a JSON pointer")?;
        let place = self.configuration.pointer_mut(section).with_context(|| format!("no {section}"))?;
        if value.is_null() {
            place.as_object_mut().with_context(|| format!("{section} is no section"))?.remove(name);
        } else {
            place[name] = value;
        }
        self.write()
    }

    /// Adds an account to `authdata.json`.
    pub fn add_account(&self, name: &str, access: &str, secret: &str) -> Result<()> {
        let file = self.folder.join("authdata.json");
        let mut known: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let account = json!({"name": name, "arn": "arn:aws:iam::000000000001:root", "displayName": name,
            "canonicalID": name, "keys": {"access": access, "secret": secret}});
        known["accounts"].as_array_mut().context("a list of accounts")?.push(account);
        std::fs::write(file, known.to_string()).context("the accounts")
    }

    /// What the configuration says at `pointer`; null if nothing.
    pub fn value(&self, pointer: &str) -> Value {
        self.configuration.pointer(pointer).cloned().unwrap_or_default()
    }

    fn write(&self) -> Result<()> {
        let text = self.configuration.to_string();
        // In one step: daemons read it while they run.
        let (file, new) = (self.folder.join("config.json"), self.folder.join("config.json.new"));
        std::fs::write(&new, text).and_then(|()| std::fs::rename(new, file)).context("the configuration")
    }

    /// What its topics begin with.
    pub fn topic_prefix(&self) -> &str {
        &self.topic_prefix
    }

    /// What the daemons said on standard error, all together.
    pub fn log(&self) -> PathBuf {
        self.folder.join("daemons.log")
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary::backbeat()?);
        command.arg("--config").arg(self.folder.join("config.json")).arg("--json").args(arguments);
        command.env("KAFKA_TOPIC_PREFIX", &self.topic_prefix).env("NO_COLOR", "1");
        for variable in ["S3AUTH_CONFIG", "BOOTSTRAP_SITE_NAME", "BACKBEAT_QUEUEPOPULATOR_EXTENSIONS"] {
            command.env_remove(variable);
        }
        Ok(command)
    }

    /// Starts a daemon; it is not ready yet.
    pub fn start(&self, arguments: &[&str]) -> Result<Process> {
        Process::start(self.command(arguments)?, &self.log())
    }

    /// Starts a daemon and waits until it is ready.
    pub fn start_ready(&self, arguments: &[&str]) -> Result<Process> {
        let mut daemon = self.start(arguments)?;
        let line = daemon.ready_line().with_context(|| arguments.join(" "))?;
        ensure!(line.contains("\"ready\":true"), "{} said {line}", arguments.join(" "));
        Ok(daemon)
    }

    /// Runs a daemon that is not expected to stay, to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(arguments)?;
        command.stdin(Stdio::null()).output().context("failed to start a daemon")
    }

    /// SIGTERM, which must end a daemon well.
    pub fn terminate(daemon: Process) -> Result<()> {
        let status = daemon.terminate(Duration::from_mins(1))?;
        ensure!(status.code() == Some(0), "SIGTERM ended a daemon with {status}");
        Ok(())
    }
}
