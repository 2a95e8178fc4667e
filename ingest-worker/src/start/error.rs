//! Errors for which a run could not begin.

use tidewater_storage::StorageError;
use tidewater_sync_config::Diagnostic;

use crate::config::SyncConfigErrors;
use crate::initial_copy::table_numbers::NumberingError;
use crate::log::error::WriteError;
use crate::source::connect::ConnectError;
use crate::source::dsn::DsnError;
use crate::source::error::SourceError;
use crate::source::preflight::PreflightError;
use crate::source::slot::SlotError;
use crate::start::takeover::TakeoverError;

/// Error that the worker's owner removes by changing the configuration or the source database.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// Fix the sync config.
    #[error(transparent)]
    SyncConfig(#[from] SyncConfigErrors),
    /// Fix both.
    #[error("{0}\n{1}")]
    SyncConfigAndSource(SyncConfigErrors, PreflightError),
    /// Use patterns that find fewer tables.
    #[error(transparent)]
    Numbering(NumberingError),
    /// Fix the connection string, the network or the role.
    #[error(transparent)]
    Connect(ConnectError),
    /// Fix the source database, as each finding says.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Fix the replication slot, or choose another.
    #[error(transparent)]
    Slot(SlotError),
    /// Fix what the server's message names.
    #[error(transparent)]
    Source(SourceError),
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
}

/// Error for which a run could not begin, sorted by what its owner does next.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Fix what it names.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// Start again: the server cannot be reached now.
    #[error(transparent)]
    Unreachable(ConnectError),
    /// The source database failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store cannot be read or taken over.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Look into the system's random number generator.
    #[error("the system has no random numbers: {0}")]
    NoRandomNumbers(getrandom::Error),
}

impl StartError {
    /// Returns whether a new run may succeed without anyone fixing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Source(error) => error.is_transient(),
            Self::Write(error) => error.is_transient(),
            Self::Configuration(_) | Self::NoRandomNumbers(_) => false,
        }
    }
}

impl From<ConnectError> for StartError {
    fn from(error: ConnectError) -> Self {
        if error.is_transient() {
            Self::Unreachable(error)
        } else {
            Self::Configuration(ConfigurationError::Connect(error))
        }
    }
}

impl From<DsnError> for StartError {
    fn from(error: DsnError) -> Self {
        ConnectError::from(error).into()
    }
}

impl From<SlotError> for StartError {
    fn from(error: SlotError) -> Self {
        match error {
            SlotError::Source(error) => Self::Source(error),
            SlotError::Connect(error) => error.into(),
            SlotError::Foreign(_) | SlotError::Missing(_) | SlotError::Refused { .. } => {
                Self::Configuration(ConfigurationError::Slot(error))
            }
        }
    }
}

impl From<TakeoverError> for StartError {
    fn from(error: TakeoverError) -> Self {
        Self::Configuration(match error {
            TakeoverError::Foreign { stored, found } => {
                ConfigurationError::ForeignSource { stored, found }
            }
            TakeoverError::NotReady(findings) => PreflightError { findings }.into(),
            TakeoverError::Numbering(NumberingError::SyncConfig(findings)) => {
                SyncConfigErrors(findings).into()
            }
            TakeoverError::Numbering(error) => ConfigurationError::Numbering(error),
            TakeoverError::NoEpochLeft(_) => return Self::Write(WriteError::NoEpochLeft),
        })
    }
}

impl From<Vec<Diagnostic>> for StartError {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self::Configuration(SyncConfigErrors(findings).into())
    }
}

impl From<PreflightError> for StartError {
    fn from(error: PreflightError) -> Self {
        Self::Configuration(error.into())
    }
}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> Self {
        Self::Write(error.into())
    }
}

impl From<tokio_postgres::Error> for StartError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Source(error.into())
    }
}
