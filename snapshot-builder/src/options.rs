//! What whoever runs the builder decides.

use std::path::PathBuf;
use std::time::Duration;

/// How the builder behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// A bucket gets a base once it holds so many live rows.
    pub threshold: u64,
    /// Devices that were away for less than this are sent what changed; longer, and they start
    /// anew. History is kept for as long.
    pub horizon: Duration,
    /// How long what has been replaced is still there for those who are reading it. A function
    /// lives for 15 minutes.
    pub grace: Duration,
    /// A line on the wire holds so many rows at most, for clients that take rows as lines: each is
    /// one transaction there. It has an end at 4 MiB too.
    pub line_rows: u64,
    /// Where work is done; the system's directory for temporary files if none is named. It takes
    /// about three times the size of the largest bucket.
    pub temp_dir: Option<PathBuf>,
}

impl Default for Options {
    /// 1,000 rows, seven days, one day, 10,000 rows.
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
