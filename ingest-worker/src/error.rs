//! Errors that end the worker.

use crate::replication::error::SessionError;
use crate::replication::events::AssemblyError;
use crate::replication::history_check::HistoryDiverged;
use crate::source::error::{SourceError, TableChanged};
use crate::start::error::{ConfigurationError, StartError};

/// Error that ended a run of the worker, sorted by what its owner does next.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Start another run, which continues where this one committed.
    #[error(transparent)]
    Transient(RunFailure),
    /// Start another run, which copies the table as it is then.
    #[error(transparent)]
    TableChanged(TableChanged),
    /// Start another run, which copies all tables: an earlier state of the server was restored.
    #[error(transparent)]
    HistoryDiverged(HistoryDiverged),
    /// Start another run, which makes a new replication slot and copies all tables.
    #[error(transparent)]
    SlotStuck(SessionError),
    /// Start another run, which no longer maintains a former sync config.
    #[error(transparent)]
    GraceOver(SessionError),
    /// Fix what it names: the sync config, the source database, or how it is reached.
    #[error(transparent)]
    Configuration(ConfigurationError),
    /// Stop, and look into what it names.
    #[error(transparent)]
    Fatal(RunFailure),
}

/// Failure of a run, by the part of the worker that failed.
#[derive(Debug, thiserror::Error)]
pub enum RunFailure {
    /// The run could not begin.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The run was interrupted.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl RunFailure {
    /// Returns whether the store failed, and not the source.
    pub(crate) fn is_of_store(&self) -> bool {
        matches!(self, Self::Start(StartError::Write(_)) | Self::Session(SessionError::Write(_)))
    }
}

impl From<StartError> for RunError {
    fn from(error: StartError) -> Self {
        let is_transient = error.is_transient();
        match error {
            StartError::Configuration(error) => Self::Configuration(error),
            StartError::Source(error) => Self::from_source(error),
            StartError::Unreachable(_) | StartError::Write(_) | StartError::NoRandomNumbers(_) => {
                Self::from_failure(error.into(), is_transient)
            }
        }
    }
}

impl From<SessionError> for RunError {
    fn from(error: SessionError) -> Self {
        let is_transient = error.is_transient();
        match error {
            SessionError::Source(error) => Self::from_source(error),
            SessionError::Stream(AssemblyError::TableChanged(changed)) => {
                Self::TableChanged(changed)
            }
            SessionError::NotReady(error) => {
                Self::Configuration(ConfigurationError::Preflight(error))
            }
            SessionError::Stream(AssemblyError::HistoryDiverged(diverged)) => {
                Self::HistoryDiverged(diverged)
            }
            SessionError::SlotStuck(_) => Self::SlotStuck(error),
            SessionError::GraceOver => Self::GraceOver(error),
            SessionError::Stream(_) | SessionError::Write(_) | SessionError::CopyRecord(_) => {
                Self::from_failure(error.into(), is_transient)
            }
        }
    }
}

impl RunError {
    fn from_source(error: SourceError) -> Self {
        let is_transient = error.is_transient();
        match error {
            SourceError::TableChanged(changed) => Self::TableChanged(changed),
            SourceError::Refused(_) | SourceError::OtherText(_) => {
                Self::Configuration(ConfigurationError::Source(error))
            }
            SourceError::Disconnected(_)
            | SourceError::Silent(_)
            | SourceError::StreamFailed(_)
            | SourceError::UnexpectedAnswer(_) => {
                Self::from_failure(SessionError::Source(error).into(), is_transient)
            }
        }
    }

    fn from_failure(failure: RunFailure, is_transient: bool) -> Self {
        if is_transient { Self::Transient(failure) } else { Self::Fatal(failure) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SyncConfigErrors;
    use crate::log::error::WriteError;
    use crate::source::preflight::PreflightError;
    use pgwire_replication::PgWireError;
    use tidewater_storage::StorageError;

    fn changed() -> TableChanged {
        TableChanged {
            oid: 7,
            table: "public.lists".into(),
            reason: "it was dropped".into(),
            replaces_rows: false,
        }
    }

    /// Returns the variant's name.
    fn variant(error: &RunError) -> &'static str {
        match error {
            RunError::Transient(_) => "transient",
            RunError::TableChanged(_) => "table changed",
            RunError::HistoryDiverged(_) => "history diverged",
            RunError::SlotStuck(_) => "slot stuck",
            RunError::GraceOver(_) => "grace over",
            RunError::Configuration(_) => "configuration",
            RunError::Fatal(_) => "fatal",
        }
    }

    fn check_session(error: impl Into<SessionError>, expected: &str) {
        let error = error.into();
        let text = error.to_string();
        let error = RunError::from(error);
        assert_eq!(variant(&error), expected, "{text}");
        assert_eq!(error.to_string(), text, "the layer's own text is shown");
    }

    fn check_start(error: impl Into<StartError>, expected: &str) {
        let error = error.into();
        let text = error.to_string();
        let error = RunError::from(error);
        assert_eq!(variant(&error), expected, "{text}");
        assert_eq!(error.to_string(), text, "the layer's own text is shown");
    }

    #[test]
    fn an_error_of_a_session_is_sorted_by_what_its_owner_does_next() {
        check_session(SourceError::Disconnected("reset".into()), "transient");
        check_session(StorageError::Unavailable("timeout".into()), "transient");
        check_session(SourceError::TableChanged(changed()), "table changed");
        check_session(AssemblyError::TableChanged(changed()), "table changed");
        check_session(AssemblyError::HistoryDiverged(HistoryDiverged), "history diverged");
        let stuck = "publication \"p\" does not exist (SQLSTATE 42704)";
        check_session(PgWireError::Server(stuck.into()), "slot stuck");
        check_session(SessionError::NotReady(PreflightError { findings: vec![] }), "configuration");
        check_session(AssemblyError::OutOfOrder("a commit without a transaction"), "fatal");
        check_session(SourceError::UnexpectedAnswer("COPY"), "fatal");
        check_session(WriteError::Fenced, "fatal");
        check_session(StorageError::Full("disk".into()), "fatal");
        check_session(StorageError::Refused("access denied".into()), "fatal");
    }

    #[test]
    fn an_error_of_a_start_is_sorted_by_what_its_owner_does_next() {
        check_start(SourceError::Disconnected("reset".into()), "transient");
        check_start(StorageError::Unknown("timeout".into()), "transient");
        check_start(SourceError::TableChanged(changed()), "table changed");
        check_start(ConfigurationError::from(SyncConfigErrors(Vec::new())), "configuration");
        check_start(PreflightError { findings: Vec::new() }, "configuration");
        check_start(WriteError::NoEpochLeft, "fatal");
    }

    #[test]
    fn the_causes_of_an_error_follow_its_text() {
        let error = RunError::from(SessionError::from(StorageError::Full("disk quota".into())));
        let causes = tidewater_protocol::ErrorChain(&error).to_string();
        assert!(causes.ends_with("no space is left in the store: disk quota"), "{causes}");
    }
}
