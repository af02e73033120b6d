//! The data directory of the embedded stack: which folders it has, its format, and copies of it.

mod backup;
mod layout;

pub use backup::{BackupError, Backups, Written};
pub use layout::{Layout, LayoutError};
