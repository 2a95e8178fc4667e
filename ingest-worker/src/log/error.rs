//! Errors of the log.

use tidewater_storage::StorageError;

/// Error after which this run can no longer write the log, sorted by what its owner does next.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Stop: another worker has taken over.
    #[error("another worker has taken over the log")]
    Fenced,
    /// Start another run if the store's error is transient. Calls were already repeated.
    #[error("the store failed")]
    Storage(#[from] StorageError),
    /// Start a new deployment: four million runs have used up the op ids.
    #[error("no epoch is left: start a new deployment")]
    NoEpochLeft,
    /// Find out what else writes the store: a record kept changing that only this worker may change.
    #[error("a record was modified by another writer")]
    Contended,
}
