//! The embedded site over HTTP, as clients and the replication engine see it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backups;
mod checksums;
mod clients;
mod conditions;
mod copies;
mod data;
mod durability;
mod edges;
mod everyday;
mod harness;
mod journal;
mod multipart;
mod objects;
mod protection;
mod raft_log;
mod replay;
mod routes;
mod settings;
mod signatures;
mod versions;
