//! One process at a time syncs a file.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::ClientError;

/// Held for as long as a file is synced. It goes with the process too, so one that was killed leaves
/// none behind.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
}

impl FileLock {
    /// # Errors
    /// [`ClientError::Locked`] when somebody else has it.
    pub(crate) fn take(database: &Path) -> Result<Self, ClientError> {
        let mut path = database.as_os_str().to_owned();
        path.push("-tw-lock");
        let path = PathBuf::from(path);
        let named = |source| ClientError::File { path: path.display().to_string(), source };
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(named)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(ClientError::Locked),
            Err(TryLockError::Error(source)) => Err(named(source)),
        }
    }
}

impl Drop for FileLock {
    /// Closing the file would not do: a process that is just being started by another thread holds a
    /// copy of the handle for a moment, and the lock with it.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_back_although_a_copy_of_the_handle_is_still_open() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("app.db");
        let lock = FileLock::take(&database).unwrap();
        assert!(matches!(FileLock::take(&database), Err(ClientError::Locked)));
        let copy = lock.file.try_clone().unwrap();
        drop(lock);
        FileLock::take(&database).unwrap();
        drop(copy);
    }
}
