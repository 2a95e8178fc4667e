//! `tidewater compact`: the snapshot builder alone.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tidewater_storage::Storage;

use crate::builder::{self, RetentionArgs, ThresholdArgs};
use crate::failure::Failure;
use crate::signals;
use crate::store::{StoreArgs, with_store};

/// Between two looks at the work list.
const PAUSE: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  Beside `tidewater ingest` and `tidewater serve` on one machine:
    tidewater compact --store embedded:/var/lib/tidewater

  One pass, from a scheduler:
    tidewater compact --store embedded:/var/lib/tidewater --once

Any number of them may run: two at once cost time and nothing else. `tidewater dev` needs none, it
does the same work itself.";

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
    /// Do what is due now, then end
    #[arg(long, env = "TIDEWATER_ONCE")]
    once: bool,
}

/// Runs until a signal, or for one pass.
pub(crate) async fn run(args: &CompactArgs) -> Result<(), Failure> {
    with_store!(&args.store, storage => compact(args, storage).await)
}

async fn compact<S: Storage>(args: &CompactArgs, storage: S) -> Result<(), Failure> {
    let options = args.retention.options(&args.threshold);
    if !args.once {
        let shutdown = signals::shutdown_on_signal()?;
        builder::run(&storage, &options, PAUSE, &shutdown).await;
        return Ok(());
    }
    let report = tidewater_snapshot_builder::run_pass(&storage, &options, builder::now(), None)
        .await
        .context("the pass over the store failed")?;
    tracing::info!(
        examined = report.examined,
        published = report.published,
        rows = report.rows,
        failed = report.failed,
        "pass done"
    );
    if report.failed > 0 {
        return Err(anyhow::anyhow!("{} buckets could not be compacted", report.failed).into());
    }
    Ok(())
}
