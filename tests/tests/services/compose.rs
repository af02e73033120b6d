//! The compose file of `packaging/`, brought up where containers are asked for: all of a site in containers, between sites that
//! are processes of this machine.

use crate::daemons::Client;
use anyhow::{Context as _, Result, ensure};
use backbeat_backends::conformance::run;
use backbeat_tests::dev::Place;
use backbeat_tests::fleet::Fleet;
use backbeat_tests::services::{ComposedSite, DAEMONS, containers, quiet_port};
use backbeat_tests::suite::Test;
use serde_json::json;
use std::fs;

const BUCKET: &str = "photos";

/// None without containers: what they take is not asked of everybody.
pub(crate) fn tests() -> Vec<Test> {
    let test = Test::new("compose::a_site_of_containers_replicates", Ok::<_, String>(()), replicates);
    if containers::are_wanted() { vec![test] } else { Vec::new() }
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

    let mut replicated: Result<()> = Ok(());
    let replicate = async {
        let source = Client::at(&addresses.source);
        let targets: Vec<Client> = addresses.targets.iter().map(|(_, address)| Client::at(address)).collect();
        for site in targets.iter().chain([&source]) {
            site.make_bucket(BUCKET).await?;
        }
        source.replicate(BUCKET, "paris,tokyo").await?;
        for number in 0..20 {
            source.put(&format!("/{BUCKET}/{number}"), None, "hello").await?;
        }
        for number in 0..20 {
            let path = format!("/{BUCKET}/{number}");
            for target in &targets {
                target.wait_for(&path, "REPLICA").await?;
            }
            source.wait_for(&path, "COMPLETED").await?;
        }
        Ok(())
    };
    run(async { replicated = replicate.await });
    replicated.with_context(|| composed.log().unwrap_or_default())?;
    let ended = composed.stop()?;
    ensure!(ended.iter().all(|code| *code == 0), "{DAEMONS:?} ended with {ended:?}");
    Ok(())
}
