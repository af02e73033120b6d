//! The production daemons over the record log of a metadata daemon. What the source's journal says stands in a log of its own,
//! which is served as a metadata daemon serves it.

use crate::daemons::{Client, System, places};
use crate::record_log::{Daemon, installed};
use anyhow::{Context as _, Result};
use backbeat_backends::conformance::{applied, run};
use backbeat_backends::journal::Journal as _;
use backbeat_backends::journal::bucketd::{BucketdConfig, BucketdJournal};
use backbeat_core::id::Seq;
use backbeat_core::time::Span;
use backbeat_tests::fleet::{Fleet, Places, SESSION};
use backbeat_tests::services::Services;
use backbeat_tests::suite::Test;
use serde_json::{Value, json};

const BUCKET: &str = "photos";

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let places = installed().and_then(|_| places(services));
    vec![Test::new(
        "record_log_daemons::what_a_log_says_arrives_though_its_readers_are_killed",
        places.clone(),
        move || killed_readers(&places.clone().unwrap_or_else(|missing| panic!("{missing}"))),
    )]
}

/// Whatever is new in the source's journal goes into the log.
async fn copy(journal: &BucketdJournal, log: &Daemon) {
    let mut next = Seq(1);
    loop {
        let batch = applied(journal.read(Some(next), 100, Span::from_secs(1)).await);
        batch.records.iter().for_each(|(_, record)| log.write(record));
        next = batch.next;
    }
}

fn killed_readers(places: &Places) -> Result<()> {
    let mut system = System::start(places)?;
    let log = Daemon::start();
    system.fleet.configure("/queuePopulator/bucketd", Value::Null)?;
    system.fleet.configure("/queuePopulator/logSource", json!("dmd"))?;
    system.fleet.configure("/queuePopulator/dmd", json!({"host": "127.0.0.1", "port": log.port}))?;
    let endpoint = system.addresses.journal.clone().context("the sites serve no journal")?;
    let journal = BucketdJournal::new(BucketdConfig::new(endpoint, SESSION));
    let mut ended = Ok(());
    let work = async {
        let source = Client::at(&system.addresses.source);
        source.make_bucket(BUCKET).await?;
        for (_, address) in &system.addresses.targets {
            Client::at(address).make_bucket(BUCKET).await?;
        }
        source.replicate(BUCKET, "paris,tokyo").await?;
        let others = system.fleet.start_ready(&["run", "queue-processor", "replication-status-processor"])?;
        let mut reader = system.fleet.start_ready(&["queue-populator"])?;
        // One of two reads. It is killed in one of these turns at least, and the other one goes on where it was.
        for turn in 0..3 {
            let next = system.fleet.start_ready(&["queue-populator"])?;
            let keys: Vec<String> =
                (0..20).map(|number| format!("/{BUCKET}/k{}-{turn}", number % 7)).collect();
            for (number, key) in keys.iter().enumerate() {
                source.put(key, None, &format!("{turn} {number}")).await?;
            }
            std::mem::replace(&mut reader, next).kill()?;
            for key in &keys {
                source.wait_for(key, "COMPLETED").await?;
            }
        }
        for (_, address) in &system.addresses.targets {
            Client::at(address).wait_for(&format!("/{BUCKET}/k5-2"), "REPLICA").await?;
        }
        [reader, others].into_iter().try_for_each(Fleet::terminate)
    };
    run(async {
        tokio::select! {
            () = copy(&journal, &log) => {}
            done = work => ended = done,
        }
    });
    ended
}
