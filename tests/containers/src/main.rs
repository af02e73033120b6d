//! Redis, ZooKeeper and Kafka in containers, for as long as somebody holds its standard input open.
//!
//! ```text
//! backbeat-containers redis=PORT zookeeper=PORT kafka=PORT
//! ```
//!
//! starts those that are named, on loopback at these ports (Kafka takes the two after its own, too), and prints `ready`. At
//! the end of standard input, however the other side ended, the containers are removed. They use the network of
//! the machine: that works with every engine on Linux, also one that has no bridge, and nothing is published to others.

mod service;

use anyhow::{Context as _, Result, ensure};
use service::Service;
use std::env;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let services: Vec<(Service, u16)> =
        env::args().skip(1).map(|word| parse(&word)).collect::<Result<_>>()?;
    ensure!(!services.is_empty(), "usage: backbeat-containers [redis=PORT] [zookeeper=PORT] [kafka=PORT]");
    // If one does not start, those that did are removed on the way out.
    let containers =
        services.iter().map(|(service, port)| service.start(*port)).collect::<Result<Vec<_>>>()?;
    println!("ready");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new()).context("standard input")?;
    for container in containers {
        container.rm().context("failed to remove a container")?;
    }
    Ok(())
}

fn parse(word: &str) -> Result<(Service, u16)> {
    let (name, port) = word.split_once('=').with_context(|| format!("{word} is not NAME=PORT"))?;
    Ok((Service::named(name)?, port.parse().with_context(|| format!("{word}: no port"))?))
}
