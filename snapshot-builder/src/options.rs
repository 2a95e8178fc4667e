//! The options of the builder.

use std::path::PathBuf;
use std::time::Duration;

/// The options of the builder.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of current rows from which a bucket gets a base.
    pub threshold: u64,
    /// Time that the history of changes is kept. A device that was offline for less receives the
    /// changes; one that was offline for longer receives the base.
    pub horizon: Duration,
    /// Time that replaced objects and history stay available to readers. It must exceed the longest
    /// request; a Lambda function runs for 15 minutes at most.
    pub grace: Duration,
    /// Maximum number of rows in a line of the sync stream, for clients that receive rows as lines.
    /// A client applies each line in one transaction. A line also ends at 4 MiB.
    pub line_rows: u64,
    /// Directory for temporary files, by default the system's. It needs about three times the size of
    /// the largest bucket.
    pub temp_dir: Option<PathBuf>,
}

impl Default for Options {
    /// Returns a threshold of 1,000 rows, a horizon of seven days, a grace period of one day, and lines
    /// of 10,000 rows.
    fn default() -> Self {
        Self {
            threshold: 1_000,
            horizon: Duration::from_secs(7 * 24 * 3_600),
            grace: Duration::from_secs(24 * 3_600),
            line_rows: 10_000,
            temp_dir: None,
        }
    }
}
