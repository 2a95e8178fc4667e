//! Errors of reading the store at a checkpoint.

use tidewater_storage::StorageError;

/// The reason why a checkpoint, or what a client may read at it, cannot be determined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// Versions that readers at this checkpoint need are gone: take a newer one.
    #[error("the checkpoint is too old")]
    TooOld,
    /// No checkpoint is visible yet.
    #[error("no checkpoint is visible yet")]
    NotReady,
    /// The sync config was replaced by another: the client must connect again.
    #[error("the sync config was replaced")]
    Replaced,
    /// The client would read too much; the text is for the app's developer.
    #[error("{0}")]
    OverQuota(String),
    /// A storage call failed.
    #[error("storage failed")]
    Storage(#[from] StorageError),
    /// An invariant of this server is broken.
    #[error("internal error: {0}")]
    Internal(&'static str),
}
