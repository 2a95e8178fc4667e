//! Passes over the compaction queue.

use std::time::Duration;

use tidewater_protocol::ErrorChain;
use tidewater_storage::{
    BucketStore, CompactionQueue, ControlStore, ObjectStore, OpLog, Registry, StorageError, Sweep,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::bucket::{StoreView, process_bucket};
use crate::error::BuildError;
use crate::options::Options;
use crate::{metrics, sweep};

/// Maximum number of buckets that one pass examines. It bounds the memory of a pass; the next pass
/// continues with the others.
const BUCKETS_MAX: usize = 1_000;
/// Seconds until a bucket that failed is examined again. A failure of the store often lasts longer than
/// the pause between two passes.
const RETRY_AFTER_FAILURE_SECONDS: u64 = 60;
/// Number of buckets in a row that the store refuses, after which a pass ends. A missing right concerns
/// all buckets, and each of them costs reads. A malformed record concerns one.
const REFUSED_MAX: u32 = 3;
/// Seconds until a bucket that took longer than a whole pass is examined again. Until then, the other
/// buckets have their turn.
const RETRY_AFTER_TIMEOUT_SECONDS: u64 = 3_600;

/// The ports that the builder uses. Every store that has them implements this trait.
pub trait BuilderStore:
    CompactionQueue + ControlStore + BucketStore + OpLog + ObjectStore + Registry + Sweep
{
}

impl<S> BuilderStore for S where
    S: CompactionQueue + ControlStore + BucketStore + OpLog + ObjectStore + Registry + Sweep
{
}

/// The result of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of buckets that were examined.
    pub examined: usize,
    /// Number of bases that were published.
    pub published: usize,
    /// Number of rows in these bases.
    pub rows: u64,
    /// Number of buckets that failed and will be examined again.
    pub failed: usize,
    /// Number of due buckets that were left to the next pass, since the time was over.
    pub left: usize,
}

/// Runs passes until `shutdown`, with a pause of `interval` after each.
///
/// `clock` returns the seconds since 1970, or `None` if it is before 1970. Then the pass is skipped: what
/// it replaced would expire at once when the clock is set, while readers still need it.
pub async fn run<S: BuilderStore>(
    storage: &S,
    options: &Options,
    interval: Duration,
    clock: impl Fn() -> Option<u64>,
    shutdown: &CancellationToken,
) {
    loop {
        if let Some(now) = clock() {
            // A pass may be dropped at any await: see the fault safety of this crate.
            let pass = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                pass = run_pass(storage, options, now, None) => pass,
            };
            record_pass(pass);
        } else {
            metrics::count_failed_pass();
            warn!("the clock is before 1970: set it, until then no snapshots are built");
        }

        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// Logs the result of a pass, and counts a failure.
fn record_pass(pass: Result<Report, BuildError>) {
    match pass {
        Ok(report) if report.published > 0 => {
            info!(bases = report.published, rows = report.rows, "snapshots published");
        }
        Ok(_) => {}
        Err(error) => {
            metrics::count_failed_pass();
            warn!(error = %ErrorChain(&error), "a pass of the snapshot builder failed");
        }
    }
}

/// Examines the buckets that are due once. `now` is in seconds since 1970.
///
/// Nothing begins after `end`, and the work in flight at that time is dropped. If the first bucket alone
/// takes the whole time, its task is deferred by an hour, so that the other buckets have their turn.
///
/// # Errors
/// Fails if the compaction queue or the control record cannot be read, or if the store refuses three buckets
/// in a row. Any other failure of a bucket is logged and counted in the report, and does not stop the
/// others.
pub async fn run_pass<S: BuilderStore>(
    storage: &S,
    options: &Options,
    now: u64,
    end: Option<Instant>,
) -> Result<Report, BuildError> {
    let began = Instant::now();
    let mut report = Report::default();
    let due = storage.due_tasks(now, BUCKETS_MAX).await?;
    metrics::record_due(due.len());

    // The queue is read before the control record. So the view is at least as new as each task.
    let Some(control) = storage.control().await? else { return Ok(report) };
    let committed_ops = control.committed_ops(&storage.archived_epochs().await?);
    let view = StoreView { control, committed_ops };

    let mut refused_in_a_row = 0;
    for task in &due {
        let work = process_bucket(storage, options, &view, task, now);
        let Some(result) = run_until(end, work).await else {
            report.left = due.len() - report.examined;
            if report.examined == 0 && end.is_some_and(|end| end > began) {
                warn!(
                    bucket = task.bucket.log_label(),
                    "a bucket takes longer than this builder may run: give it more time, or run \
                     `tidewater compact`"
                );
                let later = now.saturating_add(RETRY_AFTER_TIMEOUT_SECONDS);
                // If this fails, the bucket is only examined earlier.
                let _ = storage.defer(task, later).await;
            }
            return Ok(report);
        };

        report.examined += 1;
        metrics::count_examined();
        let is_refused = matches!(result, Err(BuildError::Storage(StorageError::Refused(_))));
        refused_in_a_row = if is_refused { refused_in_a_row + 1 } else { 0 };
        match result {
            Ok(Some(base)) => {
                report.published += 1;
                report.rows += base.rows;
            }
            Ok(None) => {}
            Err(error) => {
                report.failed += 1;
                metrics::count_failed_bucket();
                warn!(
                    bucket = task.bucket.log_label(),
                    error = %ErrorChain(&error),
                    "cannot compact a bucket, it stays as it is"
                );
                let later = now.saturating_add(RETRY_AFTER_FAILURE_SECONDS);
                // If this fails too, the bucket is only examined earlier.
                let _ = storage.defer(task, later).await;
                if refused_in_a_row == REFUSED_MAX {
                    return Err(error);
                }
            }
        }
    }

    sweep::remove_unneeded_generations(storage, &view.control, options, now).await?;
    Ok(report)
}

/// Runs the work, and drops it if it is not done at `end`.
async fn run_until<T>(end: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match end {
        Some(end) if end <= Instant::now() => None,
        Some(end) => tokio::time::timeout_at(end, work).await.ok(),
        None => Some(work.await),
    }
}
