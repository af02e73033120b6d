//! The metrics of the replication daemons (replication reference appendix B). Names and labels are those that
//! dashboards and alerts of existing installations use.

use super::{Family, Kind};

/// The label `origin` of everything that replication does.
pub const ORIGIN: (&str, &str) = ("origin", "replication");

macro_rules! families {
    ($($(#[$doc:meta])* $ident:ident: $kind:expr, $name:literal, $help:literal;)*) => {
        $($(#[$doc])* #[doc = $help] pub static $ident: Family =
            Family { name: $name, help: $help, kind: $kind };)*
    };
}

const STAGE_MS: Kind =
    Kind::Histogram(&[10.0, 100.0, 1_000.0, 10_000.0, 30_000.0, 60_000.0, 120_000.0, 300_000.0]);
const STATUS_SECONDS: Kind = Kind::Histogram(&[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0]);

families! {
    READ_OFFSET: Kind::Gauge, "s3_replication_read_offset", "Position of the populator in the journal.";
    LOG_SIZE: Kind::Gauge, "s3_replication_log_size", "Position of the newest record of the journal.";
    JOURNAL_LOSSES: Kind::Gauge, "s3_replication_journal_losses",
        "How often the journal had lost records before they were queued, since the populator started.";
    OVERWRITTEN: Kind::Gauge, "s3_replication_lost_updates",
        "How often a status write had overwritten what was written meanwhile, since the populator started.";
    RESTORED: Kind::Gauge, "s3_replication_restored_updates",
        "How often something overwritten was written back, since the populator started.";
    POPULATOR_MESSAGES: Kind::Counter, "s3_replication_populator_messages_total",
        "Messages published by the populator, by outcome.";
    POPULATOR_OBJECTS: Kind::Counter, "s3_replication_populator_objects_total",
        "Objects queued by the populator.";
    POPULATOR_BYTES: Kind::Counter, "s3_replication_populator_bytes_total", "Bytes queued by the populator.";
    DATA_STATUS: Kind::Counter, "s3_replication_data_status_changed_total",
        "Outcomes of copies with data reported by the site processors.";
    METADATA_STATUS: Kind::Counter, "s3_replication_metadata_status_changed_total",
        "Outcomes of copies without data reported by the site processors.";
    SOURCE_DATA_BYTES: Kind::Counter, "s3_replication_source_data_bytes_total",
        "Bytes of data that copies read at the source.";
    DATA_BYTES: Kind::Counter, "s3_replication_data_bytes_total", "Bytes of data that targets acknowledged.";
    METADATA_BYTES: Kind::Counter, "s3_replication_metadata_bytes_total",
        "Bytes of metadata that targets acknowledged.";
    DATA_READ: Kind::Counter, "s3_replication_data_read_total", "Parts read at the source.";
    DATA_WRITE: Kind::Counter, "s3_replication_data_write_total", "Writes that targets acknowledged.";
    STAGE_TIME: STAGE_MS, "s3_replication_stage_time_elapsed", "Milliseconds that a stage of a copy took.";
    STATUS_CHANGED: Kind::Counter, "s3_replication_status_changed_total",
        "Statuses written to the source.";
    STATUS_DURATION: STATUS_SECONDS, "s3_replication_status_process_duration_seconds",
        "Seconds that writing a status to the source took.";
    REPLAYS_QUEUED: Kind::Counter, "s3_replication_replay_objects_queued_total",
        "Objects queued for another attempt.";
    DELIVERY_REPORTS: Kind::Counter, "s3_backbeat_queue_delivery_reports_total",
        "Messages acknowledged by the queue, by outcome.";
    CONSUMED_MESSAGE_AT: Kind::Gauge, "s3_backbeat_queue_latest_consumed_message_timestamp",
        "When the newest message that was consumed had been published, in seconds since the epoch.";
    CONSUME_EVENT_AT: Kind::Gauge, "s3_backbeat_queue_latest_consume_event_timestamp",
        "When a message was last consumed, in seconds since the epoch.";
    BACKLOG_AGING: Kind::Gauge, "s3_backbeat_queue_backlog_past_half_retention",
        "1 while the oldest message of a partition that is not done is older than half of the topic's retention.ms, else 0.";
    REBALANCES: Kind::Counter, "s3_backbeat_queue_rebalance_total",
        "Rebalances, by how they ended.";
}
