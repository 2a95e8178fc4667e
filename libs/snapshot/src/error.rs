//! Why a snapshot cannot be written or read.

use std::path::Path;

/// Why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// What was received is not what was announced, or no snapshot at all: get it again. Nothing
    /// of it may be used.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
    /// The snapshot was written by a later version: update the app, or do without snapshots.
    #[error("the snapshot has format {0}, which this version does not read")]
    NewerFormat(i64),
    /// Rows were pushed out of order: a mistake of the caller's.
    #[error("row '{id}' of '{object_type}' comes out of order")]
    Order {
        /// Its type.
        object_type: String,
        /// Its id.
        id: String,
    },
    /// The disk refused: full, read-only or broken.
    #[error("cannot use the file {path}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// SQLite refused, while writing or for want of memory or disk.
    #[error("the snapshot's database fails")]
    Sqlite(#[source] rusqlite::Error),
}

impl SnapshotError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { path, source }
    }

    /// An error of reading: what SQLite finds wrong with the file is the file's fault.
    pub(crate) fn reading(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{
            DiskFull, FileLockingProtocolFailed, OutOfMemory, SystemIoFailure,
        };
        match error.sqlite_error_code() {
            Some(DiskFull | FileLockingProtocolFailed | OutOfMemory | SystemIoFailure) => {
                Self::Sqlite(error)
            }
            _ => Self::Damaged(error.to_string()),
        }
    }
}
