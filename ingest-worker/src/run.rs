//! The worker's life: run after run, until it is told to end or someone must mend something.

use std::time::Duration;

use tidewater_protocol::ErrorChain;
use tidewater_storage::Storage;
use tidewater_sync_config::{Diagnostic, SyncConfig};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Progress};
use crate::error::RunError;
use crate::metrics;
use crate::source::catalog;
use crate::source::connect::{ConnectError, connect};
use crate::source::dsn::Dsn;
use crate::source::tables;
use crate::start::start;

/// Between runs, doubled up to the maximum while nothing gets better.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Replicates until `shutdown`; then what was received whole is committed, and it returns.
///
/// A lost connection begins a new run, and with it a new epoch; so does a table that has changed. The
/// very first attempt must succeed: whoever starts a worker wants to hear of a wrong address at once.
///
/// # Errors
/// Whatever does not mend itself; see [`RunError`].
pub async fn run<S: Storage>(
    config: &Config,
    storage: S,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let mut has_run = false;
    let mut pause = PAUSE_MIN;
    let mut changed = None;
    loop {
        let (begun, former) = (Instant::now(), changed.take());
        let started = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            started = start(config, storage.clone(), former, on_progress) => started,
        };
        let error = match started {
            Ok(session) => {
                has_run = true;
                // It is large, and lives long.
                let Err(error) = Box::pin(session.run(on_progress, shutdown)).await else {
                    return Ok(());
                };
                // One table again and again must not be copied without a rest.
                let is_again = former.is_some() && error.changed_table() == former;
                if !is_again || begun.elapsed() > PAUSE_MAX {
                    pause = PAUSE_MIN;
                }
                error
            }
            Err(error) => error,
        };
        if !has_run || !error.is_transient() {
            return Err(error);
        }
        changed = error.changed_table();
        if changed.is_some() {
            metrics::count_table_change();
            on_progress(Progress::Advice(error.to_string()));
        } else {
            metrics::count_reconnect();
            on_progress(Progress::Reconnecting(ErrorChain(&error).to_string()));
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Compares a sync config with the tables of a database: see [`SyncConfig::check`].
///
/// # Errors
/// When it cannot be reached.
pub async fn check_schema(
    database_url: &str,
    config: &SyncConfig,
) -> Result<Vec<Diagnostic>, RunError> {
    let dsn = Dsn::parse(database_url).map_err(ConnectError::from)?;
    let client = connect(&dsn).await?;
    // No publication has an empty name: then all columns count.
    let tables = catalog::read_tables(&client, "").await?;
    Ok(tables::check_config(config, &tables))
}
