//! Kafka brokers of a test's own.

use super::own::Server;
use super::{quiet_port, script};
use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// What a broker says when it is ready.
const READY: &str = "Kafka Server started";

/// A further listener of a broker.
pub struct Door {
    /// What is spoken there, by Kafka's names.
    pub protocol: &'static str,
    /// Its configuration, without what its names begin with.
    pub properties: Vec<(&'static str, String)>,
}

/// Behind the ports that the script takes.
fn door_address(port: u16, number: usize) -> Result<String> {
    Ok(format!("127.0.0.1:{}", port + 3 + u16::try_from(number)?))
}

/// A broker that may be killed and started again with what it has stored. It is a cluster by itself or one of several.
pub struct OwnKafka {
    folder: PathBuf,
    port: u16,
    /// Its number, from 1, and the ports of all brokers of its cluster.
    member: usize,
    ports: Vec<u16>,
    server: Server,
    /// Goes with it, unless its folder is somebody else's.
    _own: Option<TempDir>,
}

impl OwnKafka {
    /// An empty broker that is a cluster by itself.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start() -> Result<Self> {
        let own = tempfile::tempdir()?;
        let mut cluster = Self::cluster(own.path(), 1, 0, |_, _| unreachable!("it has no doors"))?;
        Ok(Self { _own: Some(own), ..cluster.remove(0) })
    }

    /// An empty broker that is a cluster by itself, with these doors beside the one that [`Self::address`] tells, and
    /// with these users of SCRAM, each in the form `SCRAM-SHA-512=[name=NAME,password=PASSWORD]`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn protected(doors: &[Door], users: &[String]) -> Result<Self> {
        let own = tempfile::tempdir()?;
        let port = quiet_port()?;
        let (mut listeners, mut told, mut protocols) = (String::new(), String::new(), String::new());
        let mut properties = String::new();
        for (number, door) in doors.iter().enumerate() {
            let address = door_address(port, number)?;
            write!(listeners, ",DOOR{number}://{address}")?;
            write!(told, ",DOOR{number}://{address}")?;
            write!(protocols, ",DOOR{number}:{}", door.protocol)?;
            for (name, value) in &door.properties {
                writeln!(properties, "listener.name.door{number}.{name}={value}")?;
            }
        }
        fs::write(own.path().join("listeners"), format!("{listeners}\n{told}\n{protocols}\n"))?;
        fs::write(own.path().join("properties"), properties)?;
        fs::write(own.path().join("users"), users.iter().fold(String::new(), |all, user| all + user + "\n"))?;
        let server = Server::new("Kafka", own.path());
        let folder = own.path().to_path_buf();
        let mut broker = Self { folder, port, member: 1, ports: vec![port], server, _own: Some(own) };
        broker.resume()?;
        Ok(broker)
    }

    /// Where a door is, by its number from 0.
    ///
    /// # Errors
    /// If there cannot be so many.
    pub fn door(&self, number: usize) -> Result<String> {
        door_address(self.port, number)
    }

    /// An empty cluster of `brokers` with so many `doors` each, beside the one that [`Self::address`] tells, and with its data in
    /// `folder`. Clients that come through a door are told to find each broker where `advertised` says: it is asked with
    /// the number of the door, from 0, and its address.
    ///
    /// # Errors
    /// If it does not start.
    pub fn cluster(
        folder: &Path,
        brokers: usize,
        doors: usize,
        mut advertised: impl FnMut(usize, &str) -> Result<String>,
    ) -> Result<Vec<Self>> {
        let ports: Vec<u16> = (0..brokers).map(|_| quiet_port()).collect::<Result<_>>()?;
        let mut cluster = Vec::new();
        for (index, &port) in ports.iter().enumerate() {
            let folder = folder.join(format!("broker-{}", index + 1));
            fs::create_dir(&folder)?;
            if doors > 0 {
                let (mut listeners, mut told, mut protocols) = (String::new(), String::new(), String::new());
                for door in 0..doors {
                    let address = door_address(port, door)?;
                    write!(listeners, ",DOOR{door}://{address}")?;
                    write!(told, ",DOOR{door}://{}", advertised(door, &address)?)?;
                    write!(protocols, ",DOOR{door}:PLAINTEXT")?;
                }
                fs::write(folder.join("listeners"), format!("{listeners}\n{told}\n{protocols}\n"))?;
            }
            let server = Server::new("Kafka", &folder);
            cluster.push(Self { folder, port, member: index + 1, ports: ports.clone(), server, _own: None });
        }
        // None is ready before most of them are there.
        for broker in &mut cluster {
            broker.begin()?;
        }
        for broker in &mut cluster {
            broker.wait()?;
        }
        Ok(cluster)
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

    /// SIGTERM: it hands over what it leads.
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

    /// Starts it again, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn resume(&mut self) -> Result<()> {
        self.begin()?;
        self.wait()
    }

    fn begin(&mut self) -> Result<()> {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        let mut command = script("kafka");
        command.arg(&self.folder).arg(self.port.to_string());
        command.arg(self.member.to_string()).arg(ports.join(","));
        self.server.start(command)
    }

    fn wait(&mut self) -> Result<()> {
        let log = self.server.log();
        let is_ready = move || {
            let text = fs::read_to_string(&log).context("failed to read the log of a broker")?;
            Ok(text.contains(READY))
        };
        self.server.wait_until(is_ready)
    }
}
