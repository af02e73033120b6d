//! The ports of Backbeat and their adapters.

pub mod embedded;
pub mod http;
