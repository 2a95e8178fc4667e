//! Settings of the worker, and what it reports.

/// Settings of a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// `postgresql://...` or `key=value ...`, meant as libpq means it.
    pub database_url: String,
    /// The sync config's text.
    pub sync_config: String,
    /// The publication to read; it is the user's.
    pub publication: String,
    /// The replication slot, which the worker makes.
    pub slot: String,
    /// A bucket is handed to the snapshot builder each time it has had so many more operations.
    pub snapshot_threshold: u64,
}

impl Config {
    /// Our names in the source.
    pub(crate) fn source_names(&self) -> SourceNames<'_> {
        SourceNames { publication: &self.publication, slot: &self.slot }
    }
}

/// Names that a worker uses in the source database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceNames<'a> {
    pub(crate) publication: &'a str,
    pub(crate) slot: &'a str,
}

/// Where a worker stands, for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// It cannot go on until something else happens.
    Waiting(String),
    /// Something that is not in its way, but that its owner should know.
    Advice(String),
    /// A table's rows are being copied; `estimated` is the planner's guess, if it has one.
    Copying {
        /// `schema.table`.
        table: String,
        /// Rows copied by this run.
        rows: u64,
        /// Rows that the table has, roughly.
        estimated: Option<u64>,
    },
    /// All of a table's rows are copied.
    Copied {
        /// `schema.table`.
        table: String,
        /// Rows copied by this run.
        rows: u64,
    },
    /// The first checkpoint is visible, or was already when the run began.
    Ready,
    /// The connection was lost; another attempt follows.
    Reconnecting(String),
}
