//! The worker's life: one run after another, until a shutdown or an error that somebody must fix.

use std::time::Duration;

use tidewater_protocol::ErrorChain;
use tidewater_storage::Storage;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, OnError, Progress};
use crate::error::{RunError, RunFailure};
use crate::freshness::Freshness;
use crate::jitter::jittered;
use crate::log::error::WriteError;
use crate::metrics;
use crate::replication::commit_flag::CommitFlag;
use crate::replication::error::SessionError;
use crate::restart::{FailedRun, RestartPolicy};
use crate::start::error::StartError;
use crate::start::{RestartReason, start};

/// Interval at which the replication lag is recorded, also while there is no connection.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// Replicates until `shutdown`. Then it commits what was received whole, and returns.
///
/// A lost connection begins a new run, and with it a new epoch; so does a table that has changed. The
/// very first attempt must succeed: whoever starts a worker wants to hear of a wrong address at once.
///
/// # Errors
/// Any that another run does not remove; see [`RunError`].
pub async fn run<S: Storage>(
    config: &Config,
    storage: S,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let freshness = Freshness::new();
    tokio::select! {
        biased;
        ended = run_until(config, storage, &freshness, on_progress, shutdown) => ended,
        () = record_lag(&freshness) => Ok(()),
    }
}

/// Records the replication lag for ever.
async fn record_lag(freshness: &Freshness) {
    loop {
        metrics::record_replication_lag_seconds(freshness.age());
        tokio::time::sleep(LAG_INTERVAL).await;
    }
}

async fn run_until<S: Storage>(
    config: &Config,
    storage: S,
    freshness: &Freshness,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let mut policy = RestartPolicy::new();
    loop {
        let begun_at = Instant::now();
        // Boxed because the state of a start is large.
        let reason = policy.copy_reason();
        let starting = Box::pin(start(config, storage.clone(), reason, freshness, on_progress));
        let started = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            started = starting => started,
        };
        let has_begun = started.is_ok();
        let commits = CommitFlag::default();
        let error = match started {
            // Boxed because it is large, and lives as long as the run.
            Ok(session) => {
                let session = session.noting_commits(commits.clone());
                match Box::pin(session.run(on_progress, shutdown)).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error.into(),
                }
            }
            Err(error) => error.into(),
        };

        let copy_reason = restart_reason(&error);
        let pause = policy.pause_after(FailedRun {
            has_begun,
            has_committed: commits.is_set(),
            lasted: begun_at.elapsed(),
            is_repeatable: is_repeatable(&error, config.on_error),
            copy_reason,
        });
        let Some(pause) = pause else { return Err(error) };

        match &error {
            RunError::TableChanged(_) | RunError::HistoryDiverged(_) | RunError::SlotStuck(_) => {
                metrics::count_table_change();
                on_progress(Progress::Advice(ErrorChain(&error).to_string()));
            }
            RunError::GraceOver(_) => on_progress(Progress::Advice(ErrorChain(&error).to_string())),
            RunError::Transient(failure) if failure.is_of_store() => {
                on_progress(Progress::StoreFailed(ErrorChain(&error).to_string()));
            }
            RunError::Transient(_) => {
                metrics::count_reconnect();
                on_progress(Progress::Reconnecting(ErrorChain(&error).to_string()));
            }
            RunError::Configuration(_) | RunError::Fatal(_) => {
                on_progress(Progress::Stopped(ErrorChain(&error).to_string()));
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(jittered(pause)) => {}
        }
    }
}

/// Returns whether another run follows this error.
fn is_repeatable(error: &RunError, on_error: OnError) -> bool {
    match error {
        RunError::Transient(_)
        | RunError::TableChanged(_)
        | RunError::HistoryDiverged(_)
        | RunError::SlotStuck(_)
        | RunError::GraceOver(_) => true,
        RunError::Configuration(_) => on_error == OnError::KeepTrying,
        // Two workers that take the store over from each other would never rest.
        RunError::Fatal(failure) => on_error == OnError::KeepTrying && !is_fenced(failure),
    }
}

/// Returns whether another worker has taken over the store.
fn is_fenced(failure: &RunFailure) -> bool {
    matches!(
        failure,
        RunFailure::Start(StartError::Write(WriteError::Fenced))
            | RunFailure::Session(SessionError::Write(WriteError::Fenced))
    )
}

/// Returns why the next run has to copy, if it has to.
fn restart_reason(error: &RunError) -> Option<RestartReason> {
    match error {
        RunError::TableChanged(changed) if changed.replaces_rows => {
            Some(RestartReason::RowsReplaced(changed.oid))
        }
        RunError::TableChanged(changed) => Some(RestartReason::TableChanged(changed.oid)),
        RunError::HistoryDiverged(_) => Some(RestartReason::HistoryDiverged),
        RunError::SlotStuck(_) => Some(RestartReason::SlotStuck),
        RunError::Transient(_)
        | RunError::GraceOver(_)
        | RunError::Configuration(_)
        | RunError::Fatal(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::error::SessionError;
    use crate::replication::events::AssemblyError;
    use crate::replication::history_check::HistoryDiverged;
    use crate::source::database::Database;
    use crate::source::error::{SourceError, TableChanged};
    use crate::source::preflight::PreflightError;
    use tidewater_storage::{Embedded, StorageError};

    fn table_changed() -> RunError {
        RunError::TableChanged(TableChanged {
            oid: 7,
            table: "public.lists".into(),
            reason: "it was dropped".into(),
            replaces_rows: false,
        })
    }

    fn session_error(error: impl Into<SessionError>) -> RunError {
        error.into().into()
    }

    #[test]
    fn a_run_is_repeated_only_if_nobody_has_to_fix_anything() {
        let is_repeatable = |error: &RunError| is_repeatable(error, OnError::Stop);
        assert!(is_repeatable(&table_changed()));
        assert!(is_repeatable(&session_error(SourceError::Disconnected("reset".into()))));
        assert!(is_repeatable(&session_error(StorageError::Unavailable("timeout".into()))));
        assert!(!is_repeatable(&session_error(StorageError::Full("disk".into()))));
        assert!(!is_repeatable(&session_error(StorageError::Refused("no right".into()))));
        assert!(!is_repeatable(&session_error(SourceError::UnexpectedAnswer("COPY"))));
    }

    #[test]
    fn a_worker_that_keeps_trying_ends_only_if_another_has_taken_over() {
        let is_repeatable = |error: &RunError| is_repeatable(error, OnError::KeepTrying);
        assert!(is_repeatable(&session_error(StorageError::Full("disk".into()))));
        assert!(is_repeatable(&session_error(StorageError::Refused("no right".into()))));
        assert!(is_repeatable(&session_error(SourceError::UnexpectedAnswer("COPY"))));
        let findings = PreflightError { findings: Vec::new() };
        assert!(is_repeatable(&StartError::from(findings).into()));
        assert!(!is_repeatable(&session_error(WriteError::Fenced)));
        assert!(!is_repeatable(&StartError::from(WriteError::Fenced).into()));
    }

    #[test]
    fn only_what_the_stream_cannot_bring_is_copied_again() {
        assert_eq!(restart_reason(&table_changed()), Some(RestartReason::TableChanged(7)));
        assert_eq!(
            restart_reason(&session_error(AssemblyError::HistoryDiverged(HistoryDiverged))),
            Some(RestartReason::HistoryDiverged)
        );
        assert_eq!(restart_reason(&session_error(SourceError::UnexpectedAnswer("COPY"))), None);
    }

    /// Runs a worker on this connection string, and returns its outcome.
    async fn run_on(database_url: &str, shutdown: &CancellationToken) -> Result<(), RunError> {
        let config = Config {
            database: Database::new(database_url),
            sync_config: crate::test_support::CONFIG.to_owned(),
            publication: "p".to_owned(),
            slot: "s".to_owned(),
            snapshot_threshold: 1,
            receiver_timeout: Duration::from_secs(30),
            wal_budget_bytes: 10 << 30,
            rollback_grace: Duration::from_secs(3_600),
            on_error: OnError::Stop,
            until_caught_up: false,
        };
        run(&config, Embedded::temporary().unwrap(), &|_| {}, shutdown).await
    }

    /// Port 1 of this machine: nobody listens there.
    #[tokio::test]
    async fn a_worker_whose_first_attempt_fails_ends_with_its_error() {
        let url = "postgres://u@127.0.0.1:1/app?sslmode=disable";
        let error = run_on(url, &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, RunError::Transient(_)), "{error:?}");
        let error = run_on("no url", &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, RunError::Configuration(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_shutdown_before_the_first_attempt_is_no_error() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        run_on("no url", &shutdown).await.unwrap();
    }
}
