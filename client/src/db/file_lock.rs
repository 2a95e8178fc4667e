//! The lock that lets one process at a time sync a database file.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::ClientError;

/// A lock file beside the database, locked while a client syncs. The operating system releases the
/// lock with the process, so a killed process leaves no lock behind.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
}

impl FileLock {
    /// Acquires the lock without waiting.
    ///
    /// # Errors
    /// [`ClientError::Locked`] if another client holds it.
    pub(crate) fn acquire(database: &Path) -> Result<Self, ClientError> {
        let mut path = database.as_os_str().to_owned();
        path.push("-tw-lock");
        let path = PathBuf::from(path);
        let locked = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(TryLockError::Error)
            .and_then(|file| file.try_lock().map(|()| file));

        match locked {
            Ok(file) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(ClientError::Locked),
            Err(TryLockError::Error(source)) => {
                Err(ClientError::File { path: path.display().to_string(), source })
            }
        }
    }
}

impl Drop for FileLock {
    /// Unlocks explicitly. Closing the file is not enough: a child process that another thread is
    /// just starting has a copy of the handle for a moment, and the lock lives as long as that
    /// copy.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_lock_releases_it_although_a_copy_of_the_handle_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("app.db");

        let lock = FileLock::acquire(&database).unwrap();
        assert!(matches!(FileLock::acquire(&database), Err(ClientError::Locked)));

        let copy = lock.file.try_clone().unwrap();
        drop(lock);
        FileLock::acquire(&database).unwrap();
        drop(copy);
    }
}
