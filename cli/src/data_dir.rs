//! The data directory: made when missing, used by one process at a time.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::Context;

use crate::failure::Failure;

/// The data directory where none is given.
pub(crate) const DEFAULT: &str = ".tidewater";

/// A data directory that is ours while this value lives. The kernel gives the lock back when the
/// process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Makes the directory if need be, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot make the data directory '{shown}'"))?;
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
                 one first, or give this one its own with --data-dir or --store"
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
    fn a_directory_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/for/it");
        let first = DataDir::open(&path).unwrap();
        let Err(Failure::Failed(error)) = DataDir::open(&path) else { panic!("not refused") };
        assert!(error.to_string().contains("in use by another tidewater process"), "{error}");
        drop(first);
        DataDir::open(&path).unwrap();
    }
}
