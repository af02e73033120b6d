//! Existing objects, replicated once more by the command, between daemons that are processes.

use crate::daemons::{Client, System, TIME_MAX, fails, places};
use crate::kafka::delete_before;
use anyhow::{Result, ensure};
use backbeat_backends::conformance::run;
use backbeat_tests::fleet::{Fleet, Places};
use backbeat_tests::services::Services;
use backbeat_tests::suite::Test;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::Value;
use std::time::{Duration, Instant};

const BUCKET: &str = "photos";

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let places = places(services);
    vec![Test::new(
        "resync::what_kafka_deleted_before_it_was_done_is_queued_again",
        places.clone(),
        move || lost_backlog(&places.clone().unwrap_or_else(|missing| panic!("{missing}"))),
    )]
}

/// Waits until a topic holds so many messages, and says where each of its partitions ends.
async fn filled(kafka: &str, topic: &str, wanted: i64) -> Result<Vec<(i32, i64)>> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka).create()?;
    let until = Instant::now() + TIME_MAX;
    loop {
        let metadata = client.fetch_metadata(Some(topic), TIME_MAX)?;
        let partitions = metadata.topics().first().map(|topic| topic.partitions().len()).unwrap_or_default();
        let ends = (0..i32::try_from(partitions)?)
            .map(|partition| Ok((partition, client.fetch_watermarks(topic, partition, TIME_MAX)?.1)))
            .collect::<Result<Vec<_>>>()?;
        if ends.iter().map(|(_, end)| end).sum::<i64>() >= wanted {
            return Ok(ends);
        }
        ensure!(Instant::now() < until, "{topic} holds {ends:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn lost_backlog(places: &Places) -> Result<()> {
    let system = System::start(places)?;
    let topic = format!("{}backbeat-replication", system.fleet.topic_prefix());
    let mut ended = Ok(());
    let work = async {
        let source = Client::at(&system.addresses.source);
        let paris = Client::at(&system.addresses.targets[0].1);
        for site in [&source, &paris] {
            site.make_bucket(BUCKET).await?;
        }
        source.replicate(BUCKET, "paris").await?;
        let keys: Vec<String> = (0..5).map(|number| format!("/{BUCKET}/k{number}")).collect();
        let populator = system.fleet.start_ready(&["queue-populator"])?;
        for key in &keys {
            source.put(key, None, "hello").await?;
        }
        // Nobody has worked on them yet.
        let ends = filled(&places.kafka, &topic, 5).await?;
        delete_before(&places.kafka, &topic, &ends).await;
        let processor = system.fleet.start_ready(&["queue-processor", "--site", "paris"])?;
        let status = system.fleet.start_ready(&["replication-status-processor"])?;
        let last = format!("/{BUCKET}/last");
        source.put(&last, None, "hello").await?;
        source.wait_for(&last, "COMPLETED").await?;
        for key in &keys {
            source.wait_for(key, "PENDING").await?;
        }

        let resync = |bucket: &str, site: &str| {
            let from = format!("s3://{bucket}/k");
            let arguments = ["replication", "resync", &from, "--site", site, "--status", "pending"];
            system.fleet.run(&arguments)
        };
        let output = resync(BUCKET, "paris")?;
        let told: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(output.status.code() == Some(0) && told["queued"]["pending"]["versions"] == 5, "{output:?}");
        for key in &keys {
            source.wait_for(key, "COMPLETED").await?;
            paris.wait_for(key, "REPLICA").await?;
        }
        let output = resync("nothing-here", "paris")?;
        ensure!(output.status.code() == Some(4), "{output:?}");
        let arguments = ["replication", "resync", "s3://photos", "--site", "rome"];
        let (code, told) = fails(&system.fleet, &arguments)?;
        ensure!(code == Some(4) && told.contains("paris, tokyo"), "{code:?}: {told}");
        [populator, processor, status].into_iter().try_for_each(Fleet::terminate)
    };
    run(async { ended = work.await });
    ended
}
