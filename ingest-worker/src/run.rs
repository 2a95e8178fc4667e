//! The worker's life: run after run, until it is told to end or someone must mend something.

use std::time::Duration;

use tidewater_protocol::ErrorChain;
use tidewater_storage::Storage;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Progress};
use crate::error::RunError;
use crate::metrics;
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
                let error = RunError::from(error);
                // One table again and again must not be copied without a rest.
                let is_again = former.is_some() && changed_table(&error) == former;
                if !is_again || begun.elapsed() > PAUSE_MAX {
                    pause = PAUSE_MIN;
                }
                error
            }
            Err(error) => error.into(),
        };
        let is_repeated = matches!(error, RunError::Transient(_) | RunError::TableChanged(_));
        if !has_run || !is_repeated {
            return Err(error);
        }
        changed = changed_table(&error);
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

/// Returns the id in `pg_class` of the table that has changed, if that is the error.
fn changed_table(error: &RunError) -> Option<u32> {
    if let RunError::TableChanged(changed) = error { Some(changed.oid) } else { None }
}
