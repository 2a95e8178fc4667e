//! The snapshot builder as the command line starts it.

use std::time::Duration;

use clap::Args;
use tidewater_snapshot_builder::Options;
use tidewater_storage::Storage;
use tokio_util::sync::CancellationToken;

use crate::duration;
use crate::token::unix_time;

/// Which buckets get snapshots.
#[derive(Args, Clone, Debug)]
pub(crate) struct ThresholdArgs {
    /// A bucket gets a snapshot once it holds so many rows. It changes how rows travel, never which
    #[arg(long, env = "TIDEWATER_SNAPSHOT_THRESHOLD", value_name = "ROWS", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) snapshot_threshold: u64,
}

/// How long what snapshots have replaced is kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct RetentionArgs {
    /// A device that was away for longer starts anew from a snapshot: 90s, 15m, 12h, 7d
    #[arg(long, env = "TIDEWATER_LOG_HORIZON", value_name = "TIME", default_value = "7d",
          value_parser = duration::parse)]
    pub(crate) log_horizon: Duration,
    /// How long replaced files and history are left to those who are reading them
    #[arg(long, env = "TIDEWATER_DELETE_GRACE", value_name = "TIME", default_value = "1d",
          value_parser = duration::parse)]
    pub(crate) delete_grace: Duration,
}

impl RetentionArgs {
    /// The builder's options.
    pub(crate) fn options(&self, threshold: &ThresholdArgs) -> Options {
        Options {
            threshold: threshold.snapshot_threshold,
            horizon: self.log_horizon,
            grace: self.delete_grace,
            ..Options::default()
        }
    }
}

/// Builds snapshots until `shutdown`.
pub(crate) async fn run<S: Storage>(
    storage: &S,
    options: &Options,
    pause: Duration,
    shutdown: &CancellationToken,
) {
    tidewater_snapshot_builder::run(storage, options, pause, now, shutdown).await;
}

/// Seconds since 1970. A clock before that counts as at its start: nothing is old then.
pub(crate) fn now() -> u64 {
    unix_time().map_or(0, |time| time.as_secs())
}
