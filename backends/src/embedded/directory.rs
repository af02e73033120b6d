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
pub const FORMAT_VERSION: &str = "backbeat embedded store 1";
/// What comes before the number in [`FORMAT_FILE`].
const FORMAT_NAME: &str = "backbeat embedded store ";

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
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
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
        directory.check_format()?;
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

    fn check_format(&self) -> Result<(), StoreError> {
        let file = self.path.join(FORMAT_FILE);
        let unknown =
            |found: String| StoreError::UnknownFormat { file: file.clone(), found, known: FORMAT_VERSION };
        match fs::read(&file) {
            Ok(bytes) => {
                let found = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                match found.strip_prefix(FORMAT_NAME).map(str::parse::<u64>) {
                    _ if found == FORMAT_VERSION => Ok(()),
                    // There is no older format than the first.
                    Some(Ok(1..)) => Err(StoreError::NewerFormat { file, found, known: FORMAT_VERSION }),
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
        let directory = Directory::open(place.path()).unwrap();
        assert!(matches!(Directory::open(place.path()), Err(StoreError::InUse { .. })));
        let inherited = directory.lock.try_clone().unwrap();
        drop(directory);
        Directory::open(place.path()).unwrap();
        drop(inherited);
    }
}
