//! The data directory: which folders it has, and which format.
//!
//! `FORMAT` names the format of the whole; each store below it has one of its own. Format 1 had no such file: those
//! directories are taken over by writing it. A directory of a newer format is refused, and nothing in it is touched.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The file that names the format.
const FILE: &str = "FORMAT";
/// What comes before the number in it.
const NAME: &str = "backbeat data directory ";
/// The format of this version.
const VERSION: u64 = 2;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It is from the future.
    #[error("{} says format {found}, this version knows formats up to {VERSION}: use the newer version that wrote it", file.display())]
    Newer {
        /// The file that names the format.
        file: PathBuf,
        /// The format.
        found: u64,
    },
    /// It is something else.
    #[error("{} is not the format of a data directory of this program: {found:?}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What it says.
        found: String,
    },
    /// There is none.
    #[error("there is no data directory at {}", .0.display())]
    Missing(PathBuf),
    /// The system does not let us.
    #[error("cannot use {}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A data directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Opens, creates, or takes over a data directory.
    pub fn open(root: &Path) -> Result<Self, LayoutError> {
        let layout = Self { root: root.to_owned() };
        if layout.format()?.is_none_or(|found| found < VERSION) {
            if layout.engine().exists() {
                tracing::info!(data_dir = %root.display(), format = VERSION, "taking over a data directory");
            }
            layout.write_format()?;
        }
        Ok(layout)
    }

    /// A data directory as it is: nothing is written.
    pub fn existing(root: &Path) -> Result<Self, LayoutError> {
        let layout = Self { root: root.to_owned() };
        layout.format()?;
        if layout.engine().is_dir() { Ok(layout) } else { Err(LayoutError::Missing(root.to_owned())) }
    }

    /// The folder of the source site.
    pub fn source(&self) -> PathBuf {
        self.root.join("source")
    }

    /// The folder of a target site.
    pub fn target(&self, name: &str) -> PathBuf {
        self.targets().join(name)
    }

    /// The folder of what the machines keep.
    pub fn engine(&self) -> PathBuf {
        self.root.join("engine")
    }

    fn targets(&self) -> PathBuf {
        self.root.join("targets")
    }

    /// The folders that hold a store each, those that are there.
    pub fn stores(&self) -> Result<Vec<PathBuf>, LayoutError> {
        let mut stores = vec![self.engine(), self.source()];
        let targets = self.targets();
        if targets.is_dir() {
            let of_targets = |error| LayoutError::Io { path: targets.clone(), error };
            for entry in fs::read_dir(&targets).map_err(of_targets)? {
                stores.push(entry.map_err(of_targets)?.path());
            }
        }
        stores.retain(|store| store.is_dir());
        stores.sort();
        Ok(stores)
    }

    /// The same folder in the data directory at `root`.
    pub(super) fn place_in(&self, folder: &Path, root: &Path) -> PathBuf {
        root.join(folder.strip_prefix(&self.root).unwrap_or(folder))
    }

    fn file(&self) -> PathBuf {
        self.root.join(FILE)
    }

    /// The format that is written down, if it is one that this version knows.
    fn format(&self) -> Result<Option<u64>, LayoutError> {
        let file = self.file();
        let found = match fs::read(&file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LayoutError::Io { path: file, error }),
        };
        match found.strip_prefix(NAME).and_then(|number| number.parse().ok()) {
            Some(number) if number <= VERSION => Ok(Some(number)),
            Some(found) => Err(LayoutError::Newer { file, found }),
            None => Err(LayoutError::Foreign { file, found }),
        }
    }

    fn write_format(&self) -> Result<(), LayoutError> {
        let file = self.file();
        let write = || {
            fs::create_dir_all(&self.root)?;
            let temporary = self.root.join("FORMAT.new");
            let mut new = fs::File::create(&temporary)?;
            writeln!(new, "{NAME}{VERSION}")?;
            new.sync_all()?;
            fs::rename(&temporary, &file)?;
            fs::File::open(&self.root)?.sync_all()
        };
        write().map_err(|error| LayoutError::Io { path: file.clone(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_format_is_taken_over_and_one_from_the_future_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("data");
        assert!(matches!(Layout::existing(&root), Err(LayoutError::Missing(_))));
        fs::create_dir_all(root.join("engine")).unwrap();
        fs::create_dir_all(root.join("targets/a")).unwrap();
        assert_eq!(Layout::existing(&root).unwrap().format().unwrap(), None);
        let layout = Layout::open(&root).unwrap();
        assert_eq!(layout.format().unwrap(), Some(VERSION));
        assert_eq!(layout.stores().unwrap(), [layout.engine(), layout.target("a")]);
        assert_eq!(layout.place_in(&layout.target("a"), Path::new("/b")), Path::new("/b/targets/a"));
        Layout::open(&root).unwrap();

        fs::write(root.join(FILE), format!("{NAME}{}\n", VERSION + 1)).unwrap();
        let refused = Layout::open(&root).unwrap_err();
        assert!(refused.to_string().contains("says format 3"), "{refused}");
        assert!(matches!(Layout::existing(&root), Err(LayoutError::Newer { found: 3, .. })));
        fs::write(root.join(FILE), "something else").unwrap();
        assert!(matches!(Layout::open(&root), Err(LayoutError::Foreign { .. })));
    }
}
