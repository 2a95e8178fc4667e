//! The data directory: created if it is missing, and used by one process at a time.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::Context;

use crate::terminal::failure::Failure;

/// Data directory without `--data-dir`.
pub(crate) const DEFAULT: &str = ".tidewater";

/// A data directory that this process has locked. The kernel releases the lock when the process ends,
/// also when it is killed.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Creates the directory if it does not exist, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot create the data directory '{shown}'"))?;

        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .with_context(|| format!("cannot write to the data directory '{shown}'"))?;

        match file.try_lock() {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => Err(anyhow::anyhow!(
                "the data directory '{shown}' is in use by another tidewater process; stop that \
                 process, or choose another directory with --data-dir or --store"
            )
            .into()),
            Err(TryLockError::Error(error)) => Err(anyhow::Error::new(error)
                .context(format!("cannot lock the data directory '{shown}'"))
                .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_directory_cannot_be_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/for/it");
        let first = DataDir::open(&path).unwrap();
        let Err(Failure::Failed(error)) = DataDir::open(&path) else {
            panic!("it was opened twice")
        };
        assert!(error.to_string().contains("in use by another tidewater process"), "{error}");
        drop(first);
        DataDir::open(&path).unwrap();
    }
}
