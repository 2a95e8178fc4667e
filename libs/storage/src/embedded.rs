//! The store on one machine: one SQLite file in WAL mode, and a directory of objects.

mod buckets;
mod change_notifier;
mod compaction_queue;
mod connection_pool;
mod control;
mod failure;
mod object_files;
mod objects;
mod op_log;
mod records;
mod schema;
mod scratch_map;
mod sweep;
#[cfg(test)]
mod tests;
mod wal_checkpointer;
mod write_checkpoints;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use tempfile::TempDir;

use crate::Storage;
use crate::error::StorageError;
use crate::ports::{AccessProbe, ControlStore};
use change_notifier::ChangeNotifier;
use connection_pool::{ConnectionPool, Durability};
use object_files::ObjectFiles;

pub use scratch_map::ScratchMap;

/// A store in a directory: `tidewater.db` for records, `objects/` for objects.
///
/// Clones share one store. Several processes may open one directory at once. A call that waits is
/// notified of another process's write within 20 ms.
#[derive(Clone, Debug)]
pub struct Embedded {
    inner: Arc<Inner>,
}

// Fields are dropped in this order: the connections are closed before a temporary directory goes.
#[derive(Debug)]
struct Inner {
    changes: ChangeNotifier,
    connection_pool: ConnectionPool,
    objects: Arc<ObjectFiles>,
    path: PathBuf,
    _temporary: Option<TempDir>,
}

/// The disk usage of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes of the SQLite file. It does not shrink; freed pages are reused.
    pub database_bytes: u64,
    /// Bytes of the WAL.
    pub log_bytes: u64,
    /// Bytes of the objects.
    pub object_bytes: u64,
}

impl Storage for Embedded {}

impl AccessProbe for Embedded {
    /// Reads the control record. Opening the store has created or checked everything else.
    async fn probe_access(&self) -> Result<(), StorageError> {
        self.control().await.map(drop)
    }
}

impl Embedded {
    /// Opens the store in a directory, which is created if it does not exist.
    ///
    /// Blocks while another process opens or upgrades the same store.
    ///
    /// # Errors
    /// `TooNew` for a store of a newer version, `Damaged` for a SQLite file of another program,
    /// `Full` or `Unavailable` if the directory cannot be used.
    pub fn open(dir: &Path) -> Result<Self, StorageError> {
        Self::open_with(dir.to_path_buf(), None)
    }

    /// Creates an empty store in a temporary directory, which is removed with the last clone.
    ///
    /// # Errors
    /// Those of [`Embedded::open`].
    pub fn temporary() -> Result<Self, StorageError> {
        let dir =
            tempfile::Builder::new().prefix("tidewater-").tempdir().map_err(failure::of_file)?;
        Self::open_with(dir.path().to_path_buf(), Some(dir))
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Returns the current disk usage.
    ///
    /// # Errors
    /// `Unavailable` if the directory cannot be read.
    pub async fn disk_usage(&self) -> Result<DiskUsage, StorageError> {
        let database = self.inner.path.join(schema::FILE_NAME);
        let log = self.inner.path.join(format!("{}-wal", schema::FILE_NAME));
        let objects = Arc::clone(&self.inner.objects);

        connection_pool::blocking(move || {
            Ok(DiskUsage {
                database_bytes: file_bytes(&database),
                log_bytes: file_bytes(&log),
                object_bytes: objects.size().map_err(failure::of_file)?,
            })
        })
        .await
    }

    fn open_with(path: PathBuf, temporary: Option<TempDir>) -> Result<Self, StorageError> {
        fs::create_dir_all(&path).map_err(failure::of_file)?;
        let database = path.join(schema::FILE_NAME);

        // SQLite fails without waiting when two connections switch to WAL mode at the same time.
        let opening = File::create(path.join("opening.lock")).map_err(failure::of_file)?;
        opening.lock().map_err(failure::of_file)?;
        let writer = schema::open(&database)?;
        let objects = Arc::new(ObjectFiles::open(&path).map_err(failure::of_file)?);
        drop(opening);

        let inner = Inner {
            changes: ChangeNotifier::new(database.clone()),
            connection_pool: ConnectionPool::new(database, writer),
            objects,
            path,
            _temporary: temporary,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.inner.connection_pool.read(work).await
    }

    async fn writing<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.inner.connection_pool.write(durability, work).await
    }
}

/// Returns the size of a file, or 0 if it does not exist.
fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}
