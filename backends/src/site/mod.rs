//! The embedded S3 site: a whole S3 server in one process, with the personality of CloudServer's file back end.
//!
//! Bytes lie in files under the data directory, metadata and the journal of every metadata change in the embedded store.
//! It serves the S3 protocol and the internal routes of the replication engine on loopback, and lets the engine read its
//! journal in process. What it answers was compared with captures of CloudServer (wire reference, observed page); where
//! it differs on purpose `docs/differences.md` says so.

mod access;
mod acl;
mod admission;
mod attributes;
mod backup;
mod bucket;
mod buckets;
mod changes;
mod check;
mod checksums;
mod cloud;
mod conditions;
mod config;
mod copy;
mod cors;
mod data;
mod entrances;
mod error;
mod form;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod headers;
mod internal;
mod journal;
mod json;
mod lifecycle;
mod listing;
mod lists;
mod lock;
mod long_path;
mod metadata;
mod multipart;
mod notification;
mod object;
mod opening;
mod patience;
mod pieces;
mod placeholder;
pub mod raft_log;
mod random;
mod read;
mod receive;
mod repair;
mod replication;
mod revision;
mod s3;
mod server;
mod tags;
mod tolerant;
mod uri;
mod versioning;
mod write;

pub use backup::Copied;
pub use check::{Checked, Problem, check};
pub use config::{Account, CloudLocation, Limits, ReplicationEndpoint, SiteConfig};
pub use entrances::Entrances;
pub use error::SiteError;
pub use journal::{EntryKind, Journal, JournalEntry, JournalRecord};
pub use metadata::Site;
pub use server::serve;
#[cfg(test)]
pub(crate) use uri::query;
