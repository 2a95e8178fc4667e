//! `tidewater compact`: runs the snapshot builder alone.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use tidewater_storage::Storage;

use crate::process::clock::unix_seconds;
use crate::process::{data_dir, signals};
use crate::services::builder::{self, RetentionArgs, ThresholdArgs};
use crate::services::metrics::{COMPACT_PORT, MetricsArgs, RunningMetrics};
use crate::services::store::{StoreArgs, with_store};
use crate::terminal::failure::Failure;

/// Pause between two passes over the compaction queue. A snapshot is never urgent, and a pass over an
/// empty queue costs one read.
const PAUSE: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  Next to `tidewater ingest` and `tidewater serve` on one machine:
    tidewater compact --store embedded:/var/lib/tidewater

  One pass, started by a scheduler:
    tidewater compact --store embedded:/var/lib/tidewater --once

Several builders may run at once; that wastes work but does no harm. `tidewater dev` includes a builder.
With --once, metrics are served only if --metrics-listen is given.";

/// Build snapshots of buckets that have grown, and delete what they replace
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    threshold: ThresholdArgs,
    #[command(flatten)]
    retention: RetentionArgs,
    /// Run one pass, then exit
    #[arg(long, env = "TIDEWATER_ONCE")]
    once: bool,
    #[command(flatten)]
    metrics: MetricsArgs,
}

/// Runs until a signal, or for one pass.
pub(crate) async fn run(args: &CompactArgs) -> Result<(), Failure> {
    data_dir::create_private_files();
    // A scheduled pass must not warn about the port of a builder that runs all the time.
    let _metrics = if !args.once || args.metrics.is_given() {
        args.metrics.start(COMPACT_PORT).await?
    } else {
        RunningMetrics::default()
    };
    with_store!(&args.store, storage => compact(args, storage).await)
}

async fn compact<S: Storage>(args: &CompactArgs, storage: S) -> Result<(), Failure> {
    let options = args.retention.options(&args.threshold);
    if !args.once {
        let shutdown = signals::shutdown_on_signal()?;
        builder::run(&storage, &options, PAUSE, &shutdown).await;
        return Ok(());
    }

    let report = tidewater_snapshot_builder::run_pass(&storage, &options, unix_seconds()?, None)
        .await
        .context("the pass over the store failed")?;
    tracing::info!(
        examined = report.examined,
        published = report.published,
        rows = report.rows,
        failed = report.failed,
        "pass complete"
    );

    if report.failed > 0 {
        return Err(anyhow!("{} buckets could not be compacted", report.failed).into());
    }
    Ok(())
}
