//! The drivers: each joins one machine of the core to the ports it works with.
//!
//! A driver is one task that owns its machine. Whatever happens outside comes to it as an event, whatever the machine asks
//! for is carried out beside the loop and answered exactly once: what does not answer in time ends as unknown. A driver
//! decides nothing and repeats nothing.

mod aging;
mod answers;
mod backlog;
mod clock;
mod consumption;
pub mod counters;
pub mod exceptions;
mod losses;
mod observe;
mod ownership;
pub mod populator;
mod position;
pub mod processor;
mod progress;
pub mod provisioning;
mod publisher;
mod sites;
pub mod status;
mod topics;

pub use aging::Aging;
pub use backlog::{BACKLOG_PATH_DEFAULT, BacklogNodes};
pub use clock::Clock;
pub use consumption::{Handle, QueueMachine};
pub use observe::{ProcessorObserver, StatusObserver};
pub use ownership::Ownership;
pub use position::PositionNodes;
pub use progress::Progress;
pub use publisher::{Publisher, Publishing};
pub use sites::Sites;
pub use topics::Topics;

#[cfg(test)]
mod tests;
