//! Errors that end the worker.

use tidewater_storage::StorageError;
use tidewater_sync_config::Diagnostic;

use crate::config::SyncConfigErrors;
use crate::log::writer::WriteError;
use crate::source::connect::ConnectError;
use crate::source::error::SourceError;
use crate::source::preflight::PreflightError;
use crate::source::slot::SlotError;

/// Error that ended a run of the worker, sorted by what its owner does next.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Fix the sync config.
    #[error(transparent)]
    SyncConfig(#[from] SyncConfigErrors),
    /// Fix the source database, as each finding says.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Fix the connection string, the network or the role.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Fix the replication slot, or choose another.
    #[error(transparent)]
    Slot(SlotError),
    /// Start another run, which copies the table as it is then.
    #[error(
        "table {table} has changed: {reason}; clients stay at the last checkpoint until the \
         change is applied"
    )]
    TableChanged {
        /// The table's id in `pg_class`.
        oid: u32,
        /// `schema.table`.
        table: String,
        /// The difference.
        reason: String,
    },
    /// Use another store, or the former database.
    #[error(
        "the store belongs to another database, it was filled from {stored} and this is {found}: \
         use the former database, or an empty store"
    )]
    ForeignSource {
        /// The database that the store was filled from.
        stored: String,
        /// The database of the connection string.
        found: String,
    },
    /// Stop this worker: another one owns the store now.
    #[error("another worker has taken over the store; this one stops")]
    Fenced,
    /// Free some space, then start again. Nothing is lost.
    #[error("no space is left in the store: free some space, then start again (nothing is lost)")]
    StorageFull(#[source] StorageError),
    /// Check the store.
    #[error("the store failed")]
    Storage(#[source] StorageError),
    /// Start another run, which continues where this one committed.
    #[error("the connection to the source database was lost")]
    Disconnected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Fix what the source database names.
    #[error(transparent)]
    Source(SourceError),
    /// The stream or the store contains what it never should.
    #[error("{0}")]
    Unexpected(String),
}

impl RunError {
    /// Returns the id in `pg_class` of the table that has changed, if that is the error.
    pub(crate) fn changed_table(&self) -> Option<u32> {
        if let Self::TableChanged { oid, .. } = self { Some(*oid) } else { None }
    }

    /// Returns whether a new run may succeed without anyone fixing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Disconnected(_) | Self::TableChanged { .. } => true,
            Self::Connect(error) => error.is_transient(),
            Self::Source(error) => error.is_transient(),
            Self::Storage(StorageError::Unavailable(_) | StorageError::Unknown(_)) => true,
            Self::SyncConfig(_)
            | Self::Preflight(_)
            | Self::ForeignSource { .. }
            | Self::Slot(_)
            | Self::Fenced
            | Self::StorageFull(_)
            | Self::Storage(_)
            | Self::Unexpected(_) => false,
        }
    }
}

impl From<Vec<Diagnostic>> for RunError {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self::SyncConfig(findings.into())
    }
}

impl From<SlotError> for RunError {
    fn from(error: SlotError) -> Self {
        match error {
            SlotError::Source(error) => error.into(),
            SlotError::Foreign(_) | SlotError::Missing(_) | SlotError::Refused { .. } => {
                Self::Slot(error)
            }
        }
    }
}

impl From<WriteError> for RunError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Fenced => Self::Fenced,
            WriteError::Storage(error) => error.into(),
            WriteError::NoEpochLeft | WriteError::Contended => Self::Unexpected(error.to_string()),
        }
    }
}

impl From<StorageError> for RunError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full(_) => Self::StorageFull(error),
            StorageError::Unavailable(_)
            | StorageError::Unknown(_)
            | StorageError::TooNew { .. }
            | StorageError::Damaged(..) => Self::Storage(error),
        }
    }
}

impl From<SourceError> for RunError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Disconnected(cause) => Self::Disconnected(cause),
            SourceError::TableChanged { oid, table, reason } => {
                Self::TableChanged { oid, table, reason }
            }
            SourceError::Refused(_)
            | SourceError::StreamFailed(_)
            | SourceError::UnexpectedAnswer(_) => Self::Source(error),
        }
    }
}

impl From<tokio_postgres::Error> for RunError {
    fn from(error: tokio_postgres::Error) -> Self {
        SourceError::from(error).into()
    }
}

impl From<pgwire_replication::PgWireError> for RunError {
    fn from(error: pgwire_replication::PgWireError) -> Self {
        SourceError::from(error).into()
    }
}
