//! What can go wrong: the catalogue, the plan that a seed draws from it, and the counters that prove each fault struck.
//!
//! The plan is drawn swarm style: each fault is absent from a run with probability one half, and where it is present its
//! strength is random. Omission finds bugs that a uniform mixture hides.

mod catalogue;
mod plan;

pub use catalogue::{Class, Fault, Shape};
pub use plan::{FaultCounters, FaultPlan};
