//! The embedded durable store: one [`Store`] per data directory, shared by every embedded port adapter and by the
//! embedded S3 site.
//!
//! What it promises: a write that was acknowledged survives `kill -9` at any later moment; writes of many callers
//! share one durable commit (group commit, decision D14); a write that was refused left nothing behind; every record
//! carries a checksum of its own that is verified at each read; a directory belongs to one process at a time.

mod directory;
mod disk;
mod error;
mod in_use;
mod range;
mod record;
mod store;
mod transaction;
mod whole;

pub use directory::{DATABASE_FILE, FORMAT_FILE, FORMAT_VERSION, LOCK_FILE, OlderFormat};
pub use disk::DiskFaults;
pub use error::StoreError;
pub use in_use::name_damaged_files;
pub use range::KeyRange;
pub use store::{Closed, Store, StoreOptions};
pub use transaction::{Read, ReadTxn, Row, Table, WriteTxn};
pub use whole::Record;
