//! What is fuzzed: one function a target, each over everything of one kind that comes from outside.
//!
//! A target fails by panicking: no input may make a parser panic, use memory or time without bound, or lose what the model
//! promises to keep. The binaries in `src/bin` hand these functions to the engine; `ci/fuzz` runs them.

#[cfg(feature = "stack")]
mod files;
mod model;
#[cfg(feature = "stack")]
mod site;
mod world;

#[cfg(feature = "stack")]
pub use files::{configuration, embedded_files};
pub use model::{journal_record, metadata_key, object_metadata, queue_message, replication_configuration};
#[cfg(feature = "stack")]
pub use site::{internal_bodies, raw_connection, s3_request};
pub use world::world;

/// Lets panics of a library pass that is known to panic on bad input; the code around it has to catch them. All others end
/// the process.
#[cfg(feature = "stack")]
fn tolerate(library: &'static str) {
    let ends = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_none_or(|place| !place.file().contains(library)) {
            ends(panic);
        }
    }));
}
