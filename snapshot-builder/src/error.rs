//! Why a bucket could not be compacted.

use tidewater_snapshot::SnapshotError;
use tidewater_storage::{ReplayError, StorageError};

/// Why a pass, or its work on one bucket, failed. Nothing is lost by it: the next pass tries again.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store failed: try again later.
    #[error("storage failed")]
    Storage(#[from] StorageError),
    /// The bucket changed under the builder's hands: try again at once.
    #[error("the bucket's history changed while it was read")]
    Broken(#[source] tidewater_storage::BrokenChain),
    /// The temporary directory cannot be used: make room there, or name another.
    #[error("the temporary directory cannot be used")]
    File(#[from] std::io::Error),
    /// The temporary database failed.
    #[error("the temporary database failed")]
    Work(#[from] rusqlite::Error),
    /// The typed file cannot be written.
    #[error("the snapshot file cannot be written")]
    Snapshot(#[from] SnapshotError),
    /// What is stored is not what it claims to be.
    #[error("a stored operation cannot be read")]
    Damaged(#[from] tidewater_storage::SegmentError),
    /// The operating system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// The process is about to end, and gave up half-way.
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
