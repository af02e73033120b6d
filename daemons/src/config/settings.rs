//! What the machines are told, from the configuration.

use std::time::Duration;

use backbeat_backends::site::Limits;
use backbeat_core::IntakeLimits;
use backbeat_core::id::{Site, Topic};
use backbeat_core::model::{FilterConfig, Owner, StatusConfig, expand_replay_topics};
use backbeat_core::parts::{BreakerPolicy, RetryPolicy};
use backbeat_core::processor::copy::CopyConfig;
use backbeat_core::request::minting::TargetKind;
use backbeat_core::time::Span;
use backbeat_core::{populator, processor, status};

use super::{Config, Locations, Replication, Retry};
use crate::driver::Topics;

/// Entries that a machine holds beyond what it works on, per unit of its concurrency.
const READ_AHEAD: usize = 20;

/// Objects of at least so many bytes are noted down while they are copied: below it, copying again costs less than a note.
const NOTED_SIZE_MIN: u64 = 256 << 20;

/// Bytes stored between two notes.
const NOTE_INTERVAL: u64 = 128 << 20;

/// Versions of a key looked at where a target mints version ids: one listing of S3.
const LOOK_DEPTH: u32 = 100;

/// Entries of one partition that are parked at most (decision D6).
const PARKED_MAX: usize = 10_000;

/// Bytes of data on their way at once (decision D10).
const BYTES_MAX: u64 = 48 << 20;

/// Time that partitions and shutdowns have to drain.
pub(crate) const DRAIN_MAX: Span = Span::from_secs(20);

/// The names of the topics.
pub(crate) fn topics(config: &Config) -> Topics {
    let replication = config.replication();
    let gc = config.value("/extensions/gc/topic").and_then(|topic| topic.as_str());
    Topics {
        exceptions: Topic::from(format!("{}-exceptions", replication.topic)),
        replication: Topic::from(replication.topic),
        replays: replication.replay_topics.into_iter().map(|replay| replay.topic_name.into()).collect(),
        status: replication.replication_status_topic.into(),
        failed: replication.replication_failed_topic.into(),
        gc: Topic::from(gc.unwrap_or("backbeat-gc")),
    }
}

fn intake(replication: &Replication, concurrency: usize) -> IntakeLimits {
    IntakeLimits { read_ahead_max: concurrency * READ_AHEAD, lane_max: replication.lane.max_queued }
}

fn expanded(replication: &Replication) -> Vec<Topic> {
    let topics = replication.replay_topics.iter();
    let topics: Vec<(Topic, u32)> =
        topics.map(|replay| (Topic::from(replay.topic_name.as_str()), replay.retries)).collect();
    expand_replay_topics(&topics)
}

/// What clients may use of an embedded site. A quota or a number of records of 0 is none.
pub(crate) fn site_limits(config: &Config) -> Limits {
    let value = |name: &str| config.value(&format!("/embedded/site/{name}"));
    let whole = |name: &str| value(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let count = |name: &str, default: usize| match usize::try_from(whole(name)) {
        Ok(0) | Err(_) => default,
        Ok(count) => count,
    };
    let seconds = |name: &str, default: Duration| {
        let seconds = value(name).and_then(serde_json::Value::as_f64);
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(default)
    };
    let default = Limits::default();
    Limits {
        connections_max: count("connections", default.connections_max),
        head_bytes_max: count("headBytes", default.head_bytes_max),
        head_time_max: seconds("headTimeoutS", default.head_time_max),
        body_silence_max: seconds("bodyTimeoutS", default.body_silence_max),
        answer_silence_max: seconds("answerTimeoutS", default.answer_silence_max),
        data_bytes_max: Some(whole("dataBytes")).filter(|bytes| *bytes > 0),
        journal_records_max: Some(whole("journalRecords")).filter(|records| *records > 0),
    }
}

/// How long records stay in the journal of a site that runs alone, where nobody knows who has read them. Nothing: for ever.
pub(crate) fn journal_age_max(config: &Config) -> Option<Duration> {
    let hours = config.value("/embedded/site/journalHours").and_then(serde_json::Value::as_u64);
    hours.filter(|hours| *hours > 0).map(|hours| Duration::from_secs(hours.saturating_mul(3_600)))
}

/// Of the embedded stack, and of a daemon where it does not say otherwise.
pub(crate) fn populator(config: &Config, locations: &Locations) -> populator::Config {
    let batch = config.value("/queuePopulator/batchMaxRead").and_then(serde_json::Value::as_u64);
    // Records are a few KiB each: what is in memory at once stays in the order of ten MiB.
    let batch_max = usize::try_from(batch.unwrap_or(10_000)).unwrap_or(usize::MAX).min(1_000);
    populator::Config {
        filter: FilterConfig { cold_locations: locations.cold.clone(), ..FilterConfig::default() },
        batch_max,
        in_flight_max: 2_000,
        wait: Span::from_secs(30),
        save_interval: Span::from_secs(1),
        save_records: 10_000,
        retry_delay: Span::from_secs(1),
        bootstrap: populator::Bootstrap::Oldest,
        after_cut: populator::AfterLoss::GoOn,
        // Another journal may be the wrong one: somebody looks, and removes the stored position if it is right.
        after_replaced: populator::AfterLoss::Stop,
        // The embedded site compares before it writes: no update is ever lost.
        watch: None,
    }
}

pub(crate) fn processor(
    replication: &Replication,
    site: &Site,
    owner_id: &str,
    owner_display_name: &str,
) -> processor::Config {
    let concurrency = replication.queue_processor.concurrency;
    let retry = replication.queue_processor.retry.scality.as_ref();
    processor::Config {
        copy: CopyConfig {
            site: site.clone(),
            target: TargetKind::KeepsVersions,
            look_depth: LOOK_DEPTH,
            owner: Owner::new(owner_id, owner_display_name),
            retry: retry.map_or(RetryPolicy::CLASS_DEFAULT, Retry::policy),
            parts_max: replication.queue_processor.parts_concurrency,
            part_deadline: Span::from_secs(600),
            noted_size_min: NOTED_SIZE_MIN,
            note_interval: NOTE_INTERVAL,
        },
        concurrency,
        intake: intake(replication, concurrency),
        parked_max: PARKED_MAX,
        bytes_max: BYTES_MAX,
        hold_delay: Span::from_secs(30),
        facts_ttl: Span::from_secs(5),
        exceptions_refresh: Span::from_secs(60),
        replays_max: u32::try_from(expanded(replication).len()).unwrap_or(u32::MAX),
        breaker: BreakerPolicy::default(),
        publish_delay: Span::from_secs(1),
    }
}

pub(crate) fn status(replication: &Replication, locations: &Locations) -> status::Config {
    let concurrency = replication.replication_status_processor.concurrency;
    let retry = replication.replication_status_processor.retry.as_ref();
    status::Config {
        decision: StatusConfig {
            replay_topics: expanded(replication),
            monitor_failures: replication.monitor_replication_failures,
            transient_locations: locations.transient.clone(),
        },
        concurrency,
        intake: intake(replication, concurrency),
        retry: retry.map_or(RetryPolicy::CLASS_DEFAULT, Retry::policy),
        requeues_max: 3,
        hold_delay: Span::from_secs(30),
    }
}
