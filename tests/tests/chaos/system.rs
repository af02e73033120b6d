//! Everything that can be struck: daemons on two machines, the services, the sites, and the links between them.

use crate::strike::Strike;
use anyhow::{Context as _, Result, ensure};
use backbeat_tests::dev::{Dev, Place};
use backbeat_tests::fleet::Fleet;
use backbeat_tests::links::{End, Links};
use backbeat_tests::process::Process;
use backbeat_tests::relay::Flow;
use backbeat_tests::services::{OwnKafka, OwnRedis, OwnZookeeper};
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The daemons of each machine.
const DAEMONS: [&str; 3] = ["queue-populator", "queue-processor", "replication-status-processor"];

/// Two of them, so that partitions and journals change hands.
pub(crate) const MACHINES: usize = 2;

/// The system. What is dropped first talks to what is dropped later.
pub(crate) struct System {
    daemons: Vec<Daemon>,
    dev: Option<Dev>,
    place: Place,
    machines: Vec<Machine>,
    kafka: Vec<OwnKafka>,
    zookeeper: OwnZookeeper,
    redis: OwnRedis,
    /// The relays run on it.
    _runtime: Runtime,
}

struct Machine {
    fleet: Fleet,
    links: Links,
}

struct Daemon {
    name: &'static str,
    machine: usize,
    process: Option<Process>,
}

impl Daemon {
    fn label(&self) -> String {
        format!("{} of machine {}", self.name, self.machine)
    }
}

impl System {
    /// Starts everything, with what it writes in `directory`.
    pub(crate) fn start(directory: &Path, brokers: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut place = Place::at_quiet_ports(directory)?.with_sites_alone();
        let dev = place.start_ready()?;
        let (zookeeper, redis) = (OwnZookeeper::start()?, OwnRedis::start(&[])?);
        let redis_address = format!("127.0.0.1:{}", redis.port());
        let sites = place.addresses()?.clone();
        let mut links = (0..MACHINES)
            .map(|_| Links::new(&runtime, &sites, &zookeeper.address(), &redis_address))
            .collect::<Result<Vec<_>>>()?;
        let kafka = OwnKafka::cluster(directory, brokers, MACHINES, |machine, address| {
            links[machine].add(&runtime, End::Kafka, address)
        })?;
        let machines = links.into_iter().enumerate().map(|(number, links)| {
            let folder = directory.join(format!("machine-{number}"));
            std::fs::create_dir(&folder)?;
            let fleet = Fleet::new(&folder, &links.sites(&sites)?, &links.places("chaos")?, "")?;
            Ok(Machine { fleet, links })
        });
        let machines = machines.collect::<Result<Vec<_>>>()?;
        let daemons = DAEMONS
            .iter()
            .flat_map(|&name| (0..MACHINES).map(move |machine| Daemon { name, machine, process: None }));
        let mut system = Self {
            daemons: daemons.collect(),
            dev: Some(dev),
            place,
            machines,
            kafka,
            zookeeper,
            redis,
            _runtime: runtime,
        };
        for index in 0..system.daemons.len() {
            system.begin(index)?;
        }
        Ok(system)
    }

    /// How many daemons there are.
    pub(crate) fn daemons(&self) -> usize {
        self.daemons.len()
    }

    /// The sites.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Does it.
    pub(crate) fn strike(&mut self, strike: Strike) -> Result<()> {
        match strike {
            Strike::Kill(index) => {
                let mut process = self.take(index)?;
                if let Some(status) = process.ended()? {
                    self.excuse(index, status)?;
                } else {
                    process.kill()?;
                }
                self.begin(index)
            }
            Strike::Restart(index) => {
                self.end(index)?;
                self.begin(index)
            }
            Strike::Freeze(index, time) => {
                freeze(self.daemons[index].process.as_ref().context("it runs")?, time)
            }
            Strike::Sites => {
                self.dev.take().context("they run")?.kill()?;
                self.dev = Some(self.place.start_ready()?);
                Ok(())
            }
            Strike::FreezeSites(time) => freeze(self.dev.as_ref().context("they run")?, time),
            Strike::Kafka(broker, time) => {
                self.kafka[broker].kill()?;
                thread::sleep(time);
                self.kafka[broker].resume()
            }
            Strike::RestartKafka(broker) => {
                self.kafka[broker].terminate()?;
                self.kafka[broker].resume()
            }
            Strike::FreezeKafka(broker, time) => self.kafka[broker].freeze(time),
            Strike::Redis => {
                self.redis.kill()?;
                self.redis.resume()
            }
            Strike::FlushRedis => self.redis.flush(),
            Strike::Zookeeper => {
                self.zookeeper.kill()?;
                self.zookeeper.resume()
            }
            Strike::RestartZookeeper => {
                self.zookeeper.terminate()?;
                self.zookeeper.resume()
            }
            Strike::FreezeZookeeper(time) => self.zookeeper.freeze(time),
            Strike::CutZookeeper => {
                for machine in &self.machines {
                    machine.links.set_for(End::Zookeeper, Flow::Cut, Duration::ZERO);
                }
                Ok(())
            }
            Strike::Link { machine, end, flow, time } => {
                self.machines[machine].links.set_for(end, flow, time);
                Ok(())
            }
        }
    }

    /// Heals every link.
    pub(crate) fn heal(&self) {
        self.machines.iter().for_each(|machine| machine.links.heal());
    }

    /// Starts what ended because something that it needs was away, as a supervisor does.
    pub(crate) fn supervise(&mut self) -> Result<()> {
        for index in 0..self.daemons.len() {
            if let Some(status) = self.daemons[index].process.as_mut().context("it runs")?.ended()? {
                self.excuse(index, status)?;
                self.begin(index)?;
            }
        }
        Ok(())
    }

    /// Ends everything well.
    pub(crate) fn finish(mut self) -> Result<()> {
        for index in 0..self.daemons.len() {
            self.end(index)?;
        }
        let status = self.dev.take().context("they run")?.terminate(Duration::from_mins(1))?;
        ensure!(status.code() == Some(0), "SIGTERM ended the sites with {status}");
        Ok(())
    }

    fn begin(&mut self, index: usize) -> Result<()> {
        let daemon = &mut self.daemons[index];
        daemon.process = Some(self.machines[daemon.machine].fleet.start(&[daemon.name])?);
        Ok(())
    }

    fn take(&mut self, index: usize) -> Result<Process> {
        self.daemons[index].process.take().context("it runs")
    }

    /// Ends a daemon well.
    fn end(&mut self, index: usize) -> Result<()> {
        loop {
            let mut process = self.take(index)?;
            // One that is told before it catches signals ends by the signal.
            match process.ready_line() {
                Ok(_) => return Fleet::terminate(process).with_context(|| self.daemons[index].label()),
                Err(error) => match process.ended()? {
                    Some(status) => self.excuse(index, status).context(error)?,
                    None => return Err(error.context(self.daemons[index].label())),
                },
            }
            self.begin(index)?;
        }
    }

    /// A daemon may end because it lost what it needs (1), or did not find it when it started (5).
    fn excuse(&self, index: usize, status: ExitStatus) -> Result<()> {
        let label = self.daemons[index].label();
        ensure!(matches!(status.code(), Some(1 | 5)), "{label} ended: {status}");
        println!("{label} ended with {status} and is started again");
        Ok(())
    }
}

fn freeze(process: &Process, time: Duration) -> Result<()> {
    process.signal("STOP")?;
    thread::sleep(time);
    process.signal("CONT")
}
