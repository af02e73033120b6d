//! What is fuzzed: one function a target, each over everything of one kind that comes from outside.
//!
//! A target fails by panicking: no input may make a parser panic, use memory or time without bound, or lose what the model
//! promises to keep. The binaries in `src/bin` hand these functions to the engine; `ci/fuzz` runs them.

#[cfg(feature = "stack")]
mod files;
mod model;
#[cfg(feature = "stack")]
mod site;
#[cfg(feature = "stack")]
mod tolerance;
mod world;

#[cfg(feature = "stack")]
pub use files::{configuration, embedded_files};
pub use model::{journal_record, metadata_key, object_metadata, queue_message, replication_configuration};
#[cfg(feature = "stack")]
pub use site::{internal_bodies, raw_connection, s3_request};
pub use world::world;
