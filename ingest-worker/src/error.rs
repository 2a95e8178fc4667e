//! Why a run of the worker ends.

use std::fmt;

use tidewater_storage::StorageError;
use tidewater_sync_config::Diagnostic;

use crate::log::writer::WriteError;
use crate::source::connect::ConnectError;
use crate::source::connection::SourceError;
use crate::source::preflight::NotReady;

/// Why a run of the worker ended, sorted by what its owner does next.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Mend the sync config.
    #[error(transparent)]
    SyncConfig(SyncConfigErrors),
    /// Mend the source, as each finding says.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// Mend the connection string, the network or the role.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The next run goes on with the table as it is then.
    #[error(
        "table {table}: {reason}. Clients stay at the last checkpoint until what it holds \
         now is copied"
    )]
    TableChanged {
        /// Its id in `pg_class`.
        oid: u32,
        /// `schema.table`.
        table: String,
        /// In what.
        reason: String,
    },
    /// Use another store, or the former database.
    #[error(
        "the store belongs to another database: it was filled from {stored}, and this is {found}. \
         Point it at the former database, or use an empty store"
    )]
    ForeignSource {
        /// What the store was filled from.
        stored: String,
        /// What the connection string leads to.
        found: String,
    },
    /// Choose another slot.
    #[error("replication slot '{0}' cannot be used: {1}")]
    Slot(String, String),
    /// Another worker owns the store now: stop this one.
    #[error("another worker has taken over the store; this one stops")]
    Fenced,
    /// Make room, then start again.
    #[error("no space is left in the store. Nothing is lost: make room, then start again")]
    StorageFull(#[source] StorageError),
    /// Look at the store.
    #[error("the store failed")]
    Storage(#[source] StorageError),
    /// The connection to the source broke; the next run goes on where this one ended.
    #[error("the connection to the source database was lost")]
    Disconnected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The stream or the store holds what it never should.
    #[error("{0}")]
    Unexpected(String),
}

/// All errors of a sync config.
#[derive(Debug)]
pub struct SyncConfigErrors(pub Vec<Diagnostic>);

impl fmt::Display for SyncConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sync config has {} error(s):", self.0.len())?;
        self.0.iter().try_for_each(|finding| {
            write!(f, "\n  {}:{}: {}", finding.line, finding.column, finding.message)?;
            finding.hint.iter().try_for_each(|hint| write!(f, "\n    hint: {hint}"))
        })
    }
}

impl std::error::Error for SyncConfigErrors {}

impl RunError {
    /// The id in `pg_class` of the table that is not as it was.
    pub(crate) fn changed_table(&self) -> Option<u32> {
        if let Self::TableChanged { oid, .. } = self { Some(*oid) } else { None }
    }

    /// Whether a new attempt, with no one mending anything, may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Disconnected(_) | Self::TableChanged { .. } => true,
            Self::Connect(error) => error.is_transient(),
            Self::Storage(StorageError::Unavailable(_) | StorageError::Unknown(_)) => true,
            Self::SyncConfig(_)
            | Self::NotReady(_)
            | Self::ForeignSource { .. }
            | Self::Slot(..)
            | Self::Fenced
            | Self::StorageFull(_)
            | Self::Storage(_)
            | Self::Unexpected(_) => false,
        }
    }
}

impl From<Vec<Diagnostic>> for RunError {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self::SyncConfig(SyncConfigErrors(findings))
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
            SourceError::Query(error) => error.into(),
            SourceError::Unexpected(_) => Self::Unexpected(error.to_string()),
        }
    }
}

impl From<tokio_postgres::Error> for RunError {
    fn from(error: tokio_postgres::Error) -> Self {
        // A refusal by the server names what is wrong; anything else is a broken connection.
        match error.as_db_error() {
            Some(refusal) if !refusal.code().code().starts_with("57") => {
                let detail = refusal.detail().map(|d| format!(" ({d})")).unwrap_or_default();
                let message = refusal.message();
                Self::Unexpected(format!("the source database refused: {message}{detail}"))
            }
            _ => Self::Disconnected(error.into()),
        }
    }
}

impl From<pgwire_replication::PgWireError> for RunError {
    fn from(error: pgwire_replication::PgWireError) -> Self {
        if error.is_message_too_large() || error.is_auth() {
            return Self::Unexpected(format!("the replication stream ended: {error}"));
        }
        Self::Disconnected(error.into())
    }
}
