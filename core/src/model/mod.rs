//! What an entry is: keys, version ids, object metadata, statuses, journal records and queue messages.
//!
//! Everything here is a value: parsed once, immutable, cheap to clone, and written back without losing what this engine does not
//! understand.

mod deciding;
mod digest;
mod entry;
mod filter;
mod gc_action;
mod json_text;
mod key;
mod location;
mod log;
mod log_page;
mod members;
mod message;
mod metadata_error;
mod model_defaults;
mod object_md;
mod object_ref;
mod ranges;
mod records;
mod replication_configuration;
mod replication_info;
mod resync;
mod revision;
mod routing;
mod status;
mod status_decision;
mod stored_replication;
mod version_id;
mod xml_element;

pub use entry::{AccountId, ObjectEntry, origin_op};
pub use filter::{Decision, FilterConfig, IgnoreReason, Publish, SiteCount, decide};
pub use gc_action::GcAction;
pub use json_text::{JsonError, RawJson, Text};
pub use key::{
    METASTORE, MPU_BUCKET_PREFIX, USERS_BUCKET, USERS_BUCKET_SEPARATOR, VERSION_SEPARATOR,
    encode_uri_component, is_master, object_key, queue_key, strip_format_prefix, version_key, version_suffix,
};
pub use location::{Location, Part, reduce};
pub use log::{Field, LogEntry, LogError, LogRecord, PopulatorEntry, StoredValue};
pub use log_page::LogPage;
pub use message::{Message, parse_message};
pub use metadata_error::MetadataError;
pub use object_md::{Encryption, ObjectMd, Owner};
pub use object_ref::{ObjectRef, VersionRef};
pub use ranges::{ByteRange, PartRanges};
pub use records::{FailureRecord, MetricKind, SiteMetric};
pub use replication_configuration::{
    ConfigurationError, ConfigurationRules, Endpoint, ReplicationConfiguration, ReplicationRule,
    is_bucket_name,
};
pub use replication_info::{Backend, PREFERRED_READ, ReplicationInfo};
pub use resync::{Resync, ResyncDecision, Standing};
pub use revision::{Fingerprint, Revision, StateTag, StateTagError};
pub use routing::{SiteConfig, SiteKind, Task, dedupe_key, ordering_key, route, route_object};
pub use status::{ContentFlag, OverallStatus, SiteStatus, overall_of};
pub use status_decision::{
    NoChange, Report, ReportError, StatusAction, StatusConfig, StatusPlan, decide_status,
    expand_replay_topics,
};
pub use stored_replication::{StoredReplication, StoredRule};
pub use version_id::{VersionId, VersionIdError};
