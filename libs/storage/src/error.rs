//! Why storage calls fail, sorted by what the caller does next.

/// The cause of a failure, whatever its type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a storage call failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Nothing was written: retry with back-off.
    #[error("storage is unavailable")]
    Unavailable(#[source] BoxError),
    /// The write may have happened: every write of these ports may simply be repeated.
    #[error("the outcome of a write is unknown")]
    Unknown(#[source] BoxError),
    /// No space is left: nothing was written; make room, then retry.
    #[error("no space is left in the store")]
    Full(#[source] BoxError),
    /// What is stored cannot be read: stop, and look at the named thing.
    #[error("stored {0} is damaged")]
    Damaged(&'static str, #[source] BoxError),
    /// A newer version of this program has written the store: run that one.
    #[error("the store has layout {found}, and this program knows layouts up to {known} only")]
    TooNew {
        /// The layout found.
        found: i64,
        /// The newest layout that this program knows.
        known: i64,
    },
}
