//! Errors that end a session.

use pgwire_replication::PgWireError;
use tidewater_storage::StorageError;

use crate::apply::batch::ApplyError;
use crate::initial_copy::chunk::ChunkError;
use crate::log::error::WriteError;
use crate::replication::events::AssemblyError;
use crate::source::catalog_watcher::WatchError;
use crate::source::error::SourceError;
use crate::source::preflight::PreflightError;
use crate::source::slot;

/// Error that ended a session, by the part that failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The source database, or its stream, failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The stream contains what the run cannot apply.
    #[error(transparent)]
    Stream(#[from] AssemblyError),
    /// The source is not ready any more.
    #[error(transparent)]
    NotReady(PreflightError),
    /// The slot cannot go on: start another run, which makes a new one.
    #[error(
        "the replication slot cannot go on, since the publication did not exist at its position; \
         clients stay at the last checkpoint until all tables are copied again"
    )]
    SlotStuck(#[source] PgWireError),
    /// A former sync config need not be maintained any more: start another run without it.
    #[error(
        "the former sync config is no longer kept up to date: deploying it again copies what only it has"
    )]
    GraceOver,
    /// The log cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The progress of the initial copy cannot be encoded.
    #[error("the record of the initial copy cannot be encoded")]
    CopyRecord(#[source] serde_json::Error),
}

impl SessionError {
    /// Returns whether a new run may succeed without anyone fixing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Source(error) => error.is_transient(),
            Self::Write(error) => error.is_transient(),
            Self::Stream(AssemblyError::TableChanged(_) | AssemblyError::HistoryDiverged(_))
            | Self::SlotStuck(_)
            | Self::GraceOver => true,
            Self::Stream(AssemblyError::Malformed(_) | AssemblyError::OutOfOrder(_))
            | Self::NotReady(_)
            | Self::CopyRecord(_) => false,
        }
    }
}

impl From<ApplyError> for SessionError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Malformed(malformed) => Self::Stream(malformed.into()),
            ApplyError::Write(error) => Self::Write(error),
        }
    }
}

impl From<ChunkError> for SessionError {
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::Source(error) => Self::Source(error),
            ChunkError::Write(error) => Self::Write(error),
        }
    }
}

impl From<StorageError> for SessionError {
    fn from(error: StorageError) -> Self {
        Self::Write(error.into())
    }
}

impl From<PgWireError> for SessionError {
    fn from(error: PgWireError) -> Self {
        if slot::is_stuck(&error) { Self::SlotStuck(error) } else { Self::Source(error.into()) }
    }
}

impl From<WatchError> for SessionError {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Source(error) => Self::Source(error),
            WatchError::NotReady(error) => Self::NotReady(error),
        }
    }
}
