//! The settings of a comparison, and its progress.

use std::time::Duration;

use crate::source::database::Database;
use crate::verify::report::RepairedTable;
use crate::verify::scope::Selection;

/// The settings of a comparison.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The source database.
    pub database: Database,
    /// The publication of the worker, by which the shapes of tables are recorded.
    pub publication: String,
    /// The part of the store to compare.
    pub selection: Selection,
    /// The time that the worker has to copy a table again; `None`: nothing is repaired.
    pub repair: Option<Duration>,
    /// The time that the worker has to reach a position, and the time for the rounds after the first.
    pub timeout: Duration,
}

/// Progress of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyProgress {
    /// Rows of a table were read.
    Reading {
        /// `schema.table`.
        table: String,
        /// The number of rows so far.
        rows: u64,
    },
    /// The store must reach the position of the snapshot.
    Waiting,
    /// Buckets were read: their number so far.
    Buckets(u64),
    /// Places that were not equal are compared again: their number.
    Again(usize),
    /// The worker was asked to copy a table again.
    Repairing(RepairedTable),
}

/// The receiver of progress.
pub(super) type OnProgress<'a> = &'a (dyn Fn(VerifyProgress) + Send + Sync);
