//! Errors of the search for a row.

use tidewater_storage::StorageError;

/// A reason why the chain cannot be followed, sorted by what its caller does next.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// Start a worker.
    #[error(
        "no ingest worker has started on this store: start `tidewater dev` or `tidewater ingest`"
    )]
    NoWorker,
    /// Use the version of the program that the worker has.
    #[error("the stored sync config cannot be used by this version of the program: {0}")]
    Config(String),
    /// See what the storage error says.
    #[error("the store cannot be read")]
    Storage(#[from] StorageError),
}
