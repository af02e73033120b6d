//! How the embedded store refuses.

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use std::io;
use std::path::{Path, PathBuf};

/// Why the embedded store did not do what was asked.
///
/// The error is `Clone` because one failed group commit answers every caller that was part of it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process, or another store of this process, holds the directory.
    #[error("data directory {directory} is in use by another process: stop it or choose another directory")]
    InUse {
        /// The directory that is locked.
        directory: PathBuf,
    },
    /// The directory was written by a newer version of this program.
    #[error(
        "{file} says format {found:?}, this version knows formats up to {known:?}: use the newer version that wrote it"
    )]
    NewerFormat {
        /// The file that names the format.
        file: PathBuf,
        /// What it says.
        found: String,
        /// What this version writes.
        known: &'static str,
    },
    /// The directory is none of this program's.
    #[error(
        "{file} says format {found:?}, this version knows {known:?}: it is no data directory of this program"
    )]
    UnknownFormat {
        /// The file that names the format.
        file: PathBuf,
        /// What it says.
        found: String,
        /// What this version writes.
        known: &'static str,
    },
    /// No space is left. The write was refused and left nothing behind.
    #[error("no space left for {file}: the write was refused, free some space and repeat it")]
    Full {
        /// The file that could not grow.
        file: PathBuf,
    },
    /// The disk failed in another way. The write was refused and left nothing behind.
    #[error("cannot use {file}: {message}")]
    Io {
        /// The file that was used.
        file: PathBuf,
        /// What the system said.
        message: String,
    },
    /// The disk failed while the commit was made durable: the write may or may not be there. Neither success nor
    /// failure may be concluded.
    #[error("the outcome of a write to {file} is unknown: {message}")]
    Unknown {
        /// The file that was written.
        file: PathBuf,
        /// What the system said.
        message: String,
    },
    /// One record does not match its checksum.
    #[error(
        "record {key:?} of table {table} in {file} does not match its checksum: restore the file from a copy"
    )]
    Corrupt {
        /// The database file.
        file: PathBuf,
        /// The table of the record.
        table: String,
        /// Its key, with bytes that are no text escaped.
        key: String,
    },
    /// The database file itself is torn or damaged beyond single records.
    #[error("{file} is damaged: {message}: restore it from a copy")]
    Damaged {
        /// The database file.
        file: PathBuf,
        /// What was found.
        message: String,
    },
    /// A caller's closure panicked; it left no effect.
    #[error("a write to {file} was abandoned: its closure panicked")]
    Panicked {
        /// The database file.
        file: PathBuf,
    },
    /// The store is closed.
    #[error("the store {file} is closed")]
    Closed {
        /// The database file.
        file: PathBuf,
    },
}

impl StoreError {
    /// True if nothing of the write can be there: repeating it is safe.
    pub fn is_definite(&self) -> bool {
        !matches!(self, StoreError::Unknown { .. })
    }

    /// The ending of a call that failed for this reason: refused as unavailable where nothing can have been written.
    pub fn into_ending<T>(self) -> Ending<T> {
        if self.is_definite() {
            Ending::Refused(Refusal::new(RefusalKind::Unavailable, self.to_string()))
        } else {
            Ending::Unknown
        }
    }

    pub(super) fn io(file: &Path, error: &io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            StoreError::Full { file: file.into() }
        } else {
            StoreError::Io { file: file.into(), message: error.to_string() }
        }
    }

    pub(super) fn database(file: &Path, error: redb::Error) -> Self {
        if let redb::Error::Io(error) = error {
            // Something else than a database, or a page behind the end of the file.
            if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) {
                return StoreError::Damaged { file: file.into(), message: error.to_string() };
            }
            return Self::io(file, &error);
        }
        if matches!(error, redb::Error::PreviousIo) {
            return StoreError::Io { file: file.into(), message: "an earlier disk error closed it".into() };
        }
        StoreError::Damaged { file: file.into(), message: error.to_string() }
    }
}
