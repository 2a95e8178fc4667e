//! The errors of writing and reading snapshots.

use std::error::Error;
use std::path::Path;

/// The reason why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The data differs from its announcement, or is not a snapshot. None of it may be used. Fetch
    /// it again.
    #[error("the snapshot is damaged: {what}")]
    Damaged {
        /// Description of the damage.
        what: String,
        /// Error of the library that found the damage, if one did.
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A later version wrote the snapshot. Update the app, or sync without snapshots.
    #[error("the snapshot has format {0}, which this version does not read")]
    NewerFormat(i64),
    /// The caller pushed a row out of order. The writer cannot be used any more.
    #[error("row '{id}' of '{object_type}' is out of order")]
    Order {
        /// Type of the row.
        object_type: String,
        /// Id of the row.
        id: String,
    },
    /// A file operation failed. Check that the disk is writable and has room.
    #[error("cannot use the file {path}")]
    File {
        /// Path of the file.
        path: String,
        /// Error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// SQLite failed, while writing or for lack of memory or disk space.
    #[error("the snapshot's database failed")]
    Sqlite(#[source] rusqlite::Error),
}

impl SnapshotError {
    /// Returns an error for damage that this crate found.
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), cause: None }
    }

    /// Returns an error for damage that a library found.
    pub(crate) fn damaged_because(
        what: impl Into<String>,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Damaged { what: what.into(), cause: Some(cause.into()) }
    }

    /// Returns a function that adds the path to an I/O error.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { path, source }
    }

    /// Converts an error of reading. Whatever SQLite objects to in the file's content is damage;
    /// only failures of the machine are not.
    pub(crate) fn reading(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{
            DiskFull, FileLockingProtocolFailed, OutOfMemory, SystemIoFailure,
        };
        match error.sqlite_error_code() {
            Some(DiskFull | FileLockingProtocolFailed | OutOfMemory | SystemIoFailure) => {
                Self::Sqlite(error)
            }
            _ => Self::damaged_because("SQLite cannot read it", error),
        }
    }
}
