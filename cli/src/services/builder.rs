//! The snapshot builder: its flags, and how commands run it.

use std::time::Duration;

use clap::Args;
use tidewater_snapshot_builder::Options;
use tidewater_storage::Storage;
use tokio_util::sync::CancellationToken;

use crate::process::clock::unix_seconds;
use crate::terminal::duration;

/// The flag that decides which buckets get snapshots.
#[derive(Args, Clone, Debug)]
pub(crate) struct ThresholdArgs {
    /// Number of rows from which a bucket gets a snapshot. It changes how rows are sent, not which
    #[arg(long, env = "TIDEWATER_SNAPSHOT_THRESHOLD", value_name = "ROWS", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) snapshot_threshold: u64,
}

/// The flags that decide how long replaced data is kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct RetentionArgs {
    /// Time to keep the history of changes: 90s, 15m, 12h, 7d. A device that was offline for
    /// longer downloads its buckets again
    #[arg(long, env = "TIDEWATER_LOG_HORIZON", value_name = "TIME", default_value = "7d",
          value_parser = duration::parse)]
    pub(crate) log_horizon: Duration,
    /// Time to keep replaced files and history for clients that are still reading them
    #[arg(long, env = "TIDEWATER_DELETE_GRACE", value_name = "TIME", default_value = "1d",
          value_parser = duration::parse)]
    pub(crate) delete_grace: Duration,
}

impl RetentionArgs {
    /// Returns the builder's options.
    pub(crate) fn options(&self, threshold: &ThresholdArgs) -> Options {
        Options {
            threshold: threshold.snapshot_threshold,
            horizon: self.log_horizon,
            grace: self.delete_grace,
            ..Options::default()
        }
    }
}

/// Builds snapshots until `shutdown`, with a pause after each pass.
pub(crate) async fn run<S: Storage>(
    storage: &S,
    options: &Options,
    pause: Duration,
    shutdown: &CancellationToken,
) {
    tidewater_snapshot_builder::run(storage, options, pause, || unix_seconds().ok(), shutdown)
        .await;
}
