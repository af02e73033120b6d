//! The ports of Backbeat and their adapters.
//!
//! One folder is one port: the narrow trait that the drivers call (its documentation is its contract), the adapters,
//! and the conformance suite that every adapter passes. An adapter carries out what it is asked and reports how it
//! ended; it never decides what happens next.

pub mod admin;
pub mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod coordination;
pub mod credentials;
pub mod embedded;
pub mod http;
pub mod journal;
pub mod objects;
mod query;
pub mod queue;
pub mod site;
pub mod stats;
mod timestamp;
pub mod tls;
mod xml;
