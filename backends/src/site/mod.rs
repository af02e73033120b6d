//! The embedded S3 site: a whole S3 server in one process, with the personality of CloudServer's file back end.
//!
//! Bytes lie in files under the data directory, metadata and the journal of every metadata change in the embedded store.
//! It serves the S3 protocol and the internal routes of the replication engine on loopback, and lets the engine read its
//! journal in process. What it answers was compared with captures of CloudServer (wire reference, observed page); where
//! it differs on purpose `docs/differences.md` says so.

mod access;
mod bucket;
mod changes;
mod cloud;
mod config;
mod data;
mod error;
mod internal;
mod journal;
mod listing;
mod long_path;
mod metadata;
mod multipart;
mod object;
mod placeholder;
mod receive;
mod replication;
mod s3;
mod s3_objects;
mod server;
mod timestamp;
mod versioning;

pub use config::{Account, CloudLocation, ReplicationEndpoint, SiteConfig};
pub use journal::{EntryKind, Journal, JournalEntry, JournalRecord};
pub use metadata::{Site, SiteError};
pub use server::serve;
