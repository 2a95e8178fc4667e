//! The errors of the builder.

use tidewater_snapshot::SnapshotError;
use tidewater_storage::{ReplayError, StorageError};

/// The reason why a pass, or its work on one bucket, failed. No data is lost, and the next pass tries
/// again.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A storage call failed. Try again later.
    #[error("storage failed")]
    Storage(#[from] StorageError),
    /// The bucket's history changed while it was read, or a part of it is missing. Try again at once.
    #[error("the bucket's history changed while it was read")]
    Broken(#[source] tidewater_storage::BrokenChain),
    /// The temporary directory cannot be used. Make room there, or choose another.
    #[error("the temporary directory cannot be used")]
    File(#[from] std::io::Error),
    /// The temporary database failed.
    #[error("the temporary database failed")]
    Work(#[from] rusqlite::Error),
    /// The typed file cannot be written.
    #[error("the snapshot file cannot be written")]
    Snapshot(#[from] SnapshotError),
    /// A stored operation or catalog is malformed.
    #[error("a stored record is malformed")]
    Damaged(#[from] tidewater_storage::SegmentError),
    /// The operating system returns no random numbers.
    #[error("cannot get random numbers: {0}")]
    Random(getrandom::Error),
    /// The runtime shut down during the work.
    #[error("the work was cancelled")]
    Cancelled,
}

impl From<ReplayError> for BuildError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Incomplete(broken) => Self::Broken(broken),
            ReplayError::Storage(error) => Self::Storage(error),
        }
    }
}
