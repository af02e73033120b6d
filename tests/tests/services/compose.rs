//! Where containers are asked for: those of services are gone with what asked for them; the compose file of `packaging/` is
//! brought up, all of a site in containers, between sites that are processes of this machine.

use crate::daemons::Client;
use anyhow::{Context as _, Result, ensure};
use backbeat_backends::conformance::run;
use backbeat_tests::dev::{Addresses, Place};
use backbeat_tests::fleet::Fleet;
use backbeat_tests::services::{ComposedSite, DAEMONS, Services, containers, quiet_port};
use backbeat_tests::suite::Test;
use serde_json::json;
use std::env;
use std::fs;
use std::net::TcpStream;
use std::process::Command;

const BUCKET: &str = "photos";
const OBJECTS: u32 = 20;

/// None without containers: what they take is not asked of everybody.
pub(crate) fn tests() -> Vec<Test> {
    let test = |name, test: fn() -> Result<()>| Test::new(name, Ok::<_, String>(()), test);
    let mut tests = Vec::new();
    if containers::are_wanted() {
        tests.push(test("compose::a_site_of_containers_replicates", replicates));
    }
    // One that the environment names is not started.
    if containers::are_wanted() && env::var_os("BACKBEAT_TEST_REDIS").is_none() {
        tests.push(test("containers::they_are_gone_with_their_services", gone));
    }
    tests
}

fn gone() -> Result<()> {
    let before = all()?;
    let services = Services::find(&["REDIS"]);
    let address = services.address("REDIS").map_err(anyhow::Error::msg)?;
    TcpStream::connect(&address).context("it does not listen")?;
    ensure!(all()? != before, "it is in no container");
    drop(services);
    ensure!(TcpStream::connect(&address).is_err(), "it listens still");
    ensure!(all()? == before, "its container is there still");
    Ok(())
}

/// What the engine knows of, also what has ended.
fn all() -> Result<String> {
    let output = Command::new("docker").args(["ps", "--all", "--quiet"]).output()?;
    ensure!(output.status.success(), "docker: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn replicates() -> Result<()> {
    let mut composed = ComposedSite::plan()?;
    let directory = tempfile::tempdir()?;
    let mut place = Place::new(directory.path()).with_sites_alone();
    let _sites = place.start_ready()?;
    let addresses = place.addresses()?;
    // The image's user reads it.
    let folder = directory.path().join("conf");
    fs::create_dir(&folder)?;
    let mut fleet = Fleet::new(&folder, addresses, &composed.places(), "")?;
    let probes = [quiet_port()?, quiet_port()?, quiet_port()?];
    let sections = [
        "/queuePopulator/probeServer",
        "/extensions/replication/queueProcessor/probeServer",
        "/extensions/replication/replicationStatusProcessor/probeServer",
    ];
    for (section, port) in sections.into_iter().zip(probes) {
        fleet.configure(section, json!({"bindAddress": "127.0.0.1", "port": port}))?;
    }
    composed.up(&folder, &probes)?;
    let mut prepared: Result<()> = Ok(());
    run(async { prepared = prepare(addresses).await });
    prepared?;
    arrive(addresses, "before").with_context(|| composed.log().unwrap_or_default())?;
    let ended = composed.stop()?;
    ensure!(ended.iter().all(|code| *code == 0), "{DAEMONS:?} ended with {ended:?}");
    // It keeps what it has stored.
    composed.up(&folder, &probes)?;
    arrive(addresses, "after").with_context(|| composed.log().unwrap_or_default())
}

/// Has everything in a bucket replicated.
async fn prepare(addresses: &Addresses) -> Result<()> {
    let source = Client::at(&addresses.source);
    for (_, target) in &addresses.targets {
        Client::at(target).make_bucket(BUCKET).await?;
    }
    source.make_bucket(BUCKET).await?;
    source.replicate(BUCKET, "paris,tokyo").await
}

/// Writes objects below `prefix` and waits until they have arrived everywhere.
fn arrive(addresses: &Addresses, prefix: &str) -> Result<()> {
    let mut arrived: Result<()> = Ok(());
    let paths: Vec<String> = (0..OBJECTS).map(|number| format!("/{BUCKET}/{prefix}/{number}")).collect();
    let arrive = async {
        let source = Client::at(&addresses.source);
        for path in &paths {
            source.put(path, None, "hello").await?;
        }
        for path in &paths {
            for (_, target) in &addresses.targets {
                Client::at(target).wait_for(path, "REPLICA").await?;
            }
            source.wait_for(path, "COMPLETED").await?;
        }
        Ok(())
    };
    run(async { arrived = arrive.await });
    arrived
}
