//! Errors of the log.

use tidewater_storage::{Control, StorageError};

/// Error after which this run can no longer write the log, sorted by what its owner does next.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Stop: another worker has taken over.
    #[error("another worker has taken over the store; this one stops")]
    Fenced,
    /// Start another run: the control record that this one continues has a later commit of the same run.
    /// The write was in flight when that run ended.
    #[error("the former run has committed once more since this one read the control record")]
    Overtaken,
    /// Free some space, then start again. Nothing is lost.
    #[error("no space is left in the store: free some space, then start again (nothing is lost)")]
    StorageFull(#[source] StorageError),
    /// Change the right, the name or the credentials that the cause names, then start again. Nothing is
    /// lost.
    #[error(
        "the store refuses this worker: change what is named, then start again (nothing is lost)"
    )]
    StorageRefused(#[source] StorageError),
    /// Start another run if the store's error is transient. Calls were already repeated.
    #[error("the store failed")]
    Storage(#[source] StorageError),
    /// Start a new deployment: four million runs have used up the op ids.
    #[error("no epoch is left: start a new deployment")]
    NoEpochLeft,
    /// Find out what else writes the store: a record kept changing that only this worker may change.
    #[error("a record was modified by another writer")]
    Contended,
}

impl WriteError {
    /// Returns the error of a run whose first write of the control record found another record than the one
    /// that it continues.
    pub(crate) fn of_takeover(former: Option<&Control>, found: Option<&Control>) -> Self {
        match (former, found) {
            (Some(former), Some(found)) if found.owner == former.owner => Self::Overtaken,
            (_, _) => Self::Fenced,
        }
    }

    /// Returns whether a new run may succeed without anyone fixing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Storage(error) => error.may_pass(),
            Self::Overtaken => true,
            Self::Fenced
            | Self::StorageFull(_)
            | Self::StorageRefused(_)
            | Self::NoEpochLeft
            | Self::Contended => false,
        }
    }
}

impl From<StorageError> for WriteError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full(_) => Self::StorageFull(error),
            StorageError::Refused(_) => Self::StorageRefused(error),
            StorageError::Unavailable(_)
            | StorageError::Unknown(_)
            | StorageError::TooNew { .. }
            | StorageError::Damaged(..) => Self::Storage(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_store_that_does_not_answer_is_transient() {
        assert!(WriteError::from(StorageError::Unavailable("timeout".into())).is_transient());
        assert!(WriteError::from(StorageError::Unknown("timeout".into())).is_transient());

        let refused = StorageError::Refused("access denied".into());
        let damaged = StorageError::Damaged("record", "cut".into());
        let too_new = StorageError::TooNew { found: 9, known: 1 };
        let refused = [refused, damaged, too_new].map(WriteError::from);
        for error in refused.into_iter().chain([WriteError::Fenced, WriteError::Contended]) {
            assert!(!error.is_transient(), "{error}");
        }
    }

    #[test]
    fn a_full_store_says_that_nothing_is_lost() {
        let error = WriteError::from(StorageError::Full("disk quota".into()));
        assert!(!error.is_transient());
        assert!(error.to_string().contains("free some space"), "{error}");
    }
}
