//! A data directory: who owns it, and which format it has.

use super::StoreError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The database file of a data directory.
pub const DATABASE_FILE: &str = "backbeat.redb";
/// The file that names the format of a data directory.
pub const FORMAT_FILE: &str = "FORMAT";
/// The file whose lock is the ownership of a data directory.
pub const LOCK_FILE: &str = "LOCK";
/// What [`FORMAT_FILE`] says in directories of this version.
///
/// In directories of format 1 the bytes of objects lie in files only. This version reads them, and writes what the one
/// before it would not understand.
pub const FORMAT_VERSION: &str = "backbeat embedded store 2";
/// What comes before the number in [`FORMAT_FILE`].
const FORMAT_NAME: &str = "backbeat embedded store ";
/// The number in [`FORMAT_VERSION`].
const FORMAT_NUMBER: u64 = 2;

/// What becomes of a directory of an older format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OlderFormat {
    /// It gets the format of this version: older ones refuse it from then on.
    #[default]
    TakeOver,
    /// It stays as it is: for those who only read.
    Keep,
}

/// An opened and locked data directory. The lock lasts as long as the value.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Drop for Directory {
    /// Lets go of the lock itself: a process that is being started at this moment may hold a copy of the descriptor.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(directory = %self.path.display(), %error, "the lock was not released, it ends with the process");
        }
    }
}

impl Directory {
    /// Creates the directory if needed, locks it and checks its format.
    pub(super) fn open(path: &Path, older: OlderFormat) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(|error| StoreError::io(path, &error))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| StoreError::io(&lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { directory: path.into() }),
            Err(TryLockError::Error(error)) => return Err(StoreError::io(&lock_path, &error)),
        }
        let directory = Self { path: path.into(), lock };
        directory.check_format(older)?;
        Ok(directory)
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    /// Makes file creations and renames in the directory durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| StoreError::io(&self.path, &error))
    }

    fn check_format(&self, older: OlderFormat) -> Result<(), StoreError> {
        let file = self.path.join(FORMAT_FILE);
        let unknown =
            |found: String| StoreError::UnknownFormat { file: file.clone(), found, known: FORMAT_VERSION };
        match fs::read(&file) {
            Ok(bytes) => {
                let found = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                match found.strip_prefix(FORMAT_NAME).map(str::parse::<u64>) {
                    _ if found == FORMAT_VERSION => Ok(()),
                    Some(Ok(1..FORMAT_NUMBER)) if older == OlderFormat::Keep => Ok(()),
                    Some(Ok(1..FORMAT_NUMBER)) => {
                        tracing::info!(directory = %self.path.display(), found, "taking over a store");
                        self.write_format(&file).map_err(|error| StoreError::io(&file, &error))?;
                        self.sync()
                    }
                    Some(Ok(FORMAT_NUMBER..)) => {
                        Err(StoreError::NewerFormat { file, found, known: FORMAT_VERSION })
                    }
                    Some(_) | None => Err(unknown(found)),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // The format is written before the database: a database without it is not ours.
                if self.database().exists() {
                    return Err(unknown(String::new()));
                }
                self.write_format(&file).map_err(|error| StoreError::io(&file, &error))?;
                self.sync()
            }
            Err(error) => Err(StoreError::io(&file, &error)),
        }
    }

    fn write_format(&self, file: &Path) -> std::io::Result<()> {
        let temporary = self.path.join("FORMAT.new");
        let mut new = File::create(&temporary)?;
        writeln!(new, "{FORMAT_VERSION}")?;
        new.sync_all()?;
        fs::rename(temporary, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_ends_with_the_value_whoever_else_holds_its_descriptor() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path(), OlderFormat::TakeOver).unwrap();
        assert!(matches!(
            Directory::open(place.path(), OlderFormat::TakeOver),
            Err(StoreError::InUse { .. })
        ));
        let inherited = directory.lock.try_clone().unwrap();
        drop(directory);
        Directory::open(place.path(), OlderFormat::TakeOver).unwrap();
        drop(inherited);
    }

    #[test]
    fn an_older_format_is_taken_over_unless_it_is_only_read() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join(FORMAT_FILE);
        drop(Directory::open(place.path(), OlderFormat::Keep).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{FORMAT_VERSION}\n"));
        assert_eq!(FORMAT_VERSION, format!("{FORMAT_NAME}{FORMAT_NUMBER}"));
        fs::write(&file, "backbeat embedded store 1\n").unwrap();
        drop(Directory::open(place.path(), OlderFormat::Keep).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "backbeat embedded store 1\n");
        drop(Directory::open(place.path(), OlderFormat::TakeOver).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{FORMAT_VERSION}\n"));
        for (found, is_newer) in [("3", true), ("0", false), ("-1", false), ("x", false)] {
            fs::write(&file, format!("{FORMAT_NAME}{found}\n")).unwrap();
            let refused = Directory::open(place.path(), OlderFormat::TakeOver).unwrap_err();
            assert_eq!(matches!(refused, StoreError::NewerFormat { .. }), is_newer, "{refused}");
        }
    }
}
