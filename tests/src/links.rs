//! The links of one machine: a relay to each thing that its daemons talk to.

use crate::dev::Addresses;
use crate::fleet::Places;
use crate::relay::{Flow, Relay};
use anyhow::{Context as _, Result};
use std::time::Duration;
use tokio::runtime::Runtime;

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// S3 of the source.
    Source,
    /// S3 of a target, by its number.
    Target(usize),
    /// The source's journal.
    Journal,
    /// Every broker of Kafka.
    Kafka,
    /// ZooKeeper.
    Zookeeper,
    /// Redis.
    Redis,
}

/// The links of one machine.
pub struct Links {
    relays: Vec<(End, Relay)>,
}

impl Links {
    /// Links to the sites, to ZooKeeper and to Redis, `host:port` each. Kafka is added broker by broker.
    ///
    /// # Errors
    /// If no port of loopback is to be had.
    pub fn new(runtime: &Runtime, sites: &Addresses, zookeeper: &str, redis: &str) -> Result<Self> {
        let mut links = Self { relays: Vec::new() };
        links.add(runtime, End::Source, &sites.source)?;
        for (number, (_, address)) in sites.targets.iter().enumerate() {
            links.add(runtime, End::Target(number), address)?;
        }
        links.add(runtime, End::Journal, sites.journal.as_deref().context("the sites serve no journal")?)?;
        links.add(runtime, End::Zookeeper, zookeeper)?;
        links.add(runtime, End::Redis, redis)?;
        Ok(links)
    }

    /// Adds a link; tells its address on this side.
    ///
    /// # Errors
    /// If no port of loopback is to be had.
    pub fn add(&mut self, runtime: &Runtime, end: End, address: &str) -> Result<String> {
        let relay = runtime.block_on(Relay::to(address))?;
        let here = relay.address().to_owned();
        self.relays.push((end, relay));
        Ok(here)
    }

    /// Where the sites are for this machine.
    ///
    /// # Errors
    /// If there is no link to one of them.
    pub fn sites(&self, sites: &Addresses) -> Result<Addresses> {
        let targets = sites.targets.iter().enumerate();
        let targets = targets.map(|(number, (site, _))| Ok((site.clone(), self.one(End::Target(number))?)));
        Ok(Addresses {
            source: self.one(End::Source)?,
            targets: targets.collect::<Result<_>>()?,
            api: None,
            journal: Some(self.one(End::Journal)?),
        })
    }

    /// Where the services are for this machine; `folder` is the one in ZooKeeper.
    ///
    /// # Errors
    /// If there is no link to one of them.
    pub fn places(&self, folder: &str) -> Result<Places> {
        let brokers: Vec<&str> = self.to(End::Kafka).map(Relay::address).collect();
        Ok(Places {
            kafka: brokers.join(","),
            zookeeper: format!("{}/{folder}", self.one(End::Zookeeper)?),
            redis: self.one(End::Redis)?,
        })
    }

    /// Changes how all links to an end carry what is said, for a while.
    pub fn set_for(&self, end: End, flow: Flow, time: Duration) {
        self.to(end).for_each(|relay| relay.set_for(flow, time));
    }

    /// Heals all links.
    pub fn heal(&self) {
        self.relays.iter().for_each(|(_, relay)| relay.heal());
    }

    fn to(&self, end: End) -> impl Iterator<Item = &Relay> {
        self.relays.iter().filter(move |(found, _)| *found == end).map(|(_, relay)| relay)
    }

    fn one(&self, end: End) -> Result<String> {
        let relay = self.to(end).next().with_context(|| format!("no link to {end:?}"))?;
        Ok(relay.address().to_owned())
    }
}
