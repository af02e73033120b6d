//! Commands of the binary, one file each.

pub mod filter;
mod lines;
pub mod version_id;
