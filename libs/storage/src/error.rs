//! Errors of storage calls, sorted by what the caller does next.

/// The cause of an error, of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of a storage call. The variant tells the caller what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The store cannot be reached. Nothing was written: retry with backoff.
    #[error("storage is unavailable")]
    Unavailable(#[source] BoxError),
    /// The write may or may not have succeeded: repeat it. Every write of the ports is idempotent.
    #[error("the outcome of a write is unknown")]
    Unknown(#[source] BoxError),
    /// The store refuses the call until somebody changes a right, a name or the request: fix what the
    /// cause names. Of a write, nothing or a part was written.
    #[error("the store refuses the call")]
    Refused(#[source] BoxError),
    /// The disk or quota is full. Nothing was written: free space, then retry.
    #[error("no space is left in the store")]
    Full(#[source] BoxError),
    /// A stored value cannot be decoded: stop and inspect the named value.
    #[error("stored {0} is damaged")]
    Damaged(&'static str, #[source] BoxError),
    /// A newer version of this program has written the store: upgrade this program.
    #[error(
        "the store has layout {found}, but this program supports layouts up to {known}: a later \
         version has written it, so use that one"
    )]
    TooNew {
        /// The layout version of the store.
        found: i64,
        /// The newest layout version that this program supports.
        known: i64,
    },
}

impl StorageError {
    /// Returns the variant's name, as metrics label it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Unknown(_) => "unknown",
            Self::Refused(_) => "refused",
            Self::Full(_) => "full",
            Self::Damaged(..) => "damaged",
            Self::TooNew { .. } => "too_new",
        }
    }

    /// Returns whether the same call may succeed later without anyone fixing anything.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Unknown(_) => true,
            Self::Refused(_) | Self::Full(_) | Self::Damaged(..) | Self::TooNew { .. } => false,
        }
    }
}
