//! The consumers of topics that have no machine: metrics, final failures, the data mover's requests. And what keeps the
//! stats store true to the topics when it was emptied.
//!
//! What they do may be done twice, in any order across partitions, and nothing waits for it. So one loop serves them all
//! ([`start`]); what is particular is a [`Work`].

mod data_mover;
mod failures;
mod insistence;
mod metrics;
mod reading;
mod repair;

pub use data_mover::DataMoverWork;
pub use failures::{FailureWork, unlist};
pub use metrics::MetricsWork;
pub use reading::{ConsumerHandle, Membership, Work, start};
pub use repair::{Repair, RepairSchedule};
