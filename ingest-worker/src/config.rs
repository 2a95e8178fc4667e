//! Settings of the worker, and the progress that it reports.

use std::fmt;
use std::time::Duration;

use tidewater_sync_config::Diagnostic;

use crate::source::database::Database;

/// Settings of a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// The source database.
    pub database: Database,
    /// Text of the sync config (YAML).
    pub sync_config: String,
    /// Name of the publication to read. The user creates it.
    pub publication: String,
    /// Name of the replication slot. The worker creates it.
    pub slot: String,
    /// Number of operations after which a bucket is queued for compaction again.
    pub snapshot_threshold: u64,
    /// Duration without any message of the replication stream after which the worker connects again.
    /// PostgreSQL sends a keepalive after half of it.
    pub receiver_timeout: Duration,
    /// WAL that the replication slot may retain on the server before the worker warns, in bytes.
    pub wal_budget_bytes: u64,
    /// Duration for which the definitions of a sync config that was replaced are maintained, so that the
    /// config can be deployed again without a copy.
    pub rollback_grace: Duration,
    /// The reaction to an error that somebody must fix.
    pub on_error: OnError,
    /// The worker ends once readers see everything that was committed when it started.
    pub until_caught_up: bool,
}

/// The reaction to an error that somebody must fix, once the worker has replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The worker ends with the error. Whatever runs it starts it again.
    Stop,
    /// The worker reports [`Progress::Stopped`], and tries again after a pause. Only a second worker on
    /// the same store ends it.
    KeepTrying,
}

impl Config {
    /// Returns the names that this worker uses in the source database.
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

/// All errors of a sync config.
#[derive(Debug)]
pub struct SyncConfigErrors(pub Vec<Diagnostic>);

impl fmt::Display for SyncConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sync config has {} error(s):", self.0.len())?;
        for finding in &self.0 {
            write!(f, "\n  {}:{}: {}", finding.line, finding.column, finding.message)?;
            if let Some(hint) = &finding.hint {
                write!(f, "\n    hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for SyncConfigErrors {}

impl From<Vec<Diagnostic>> for SyncConfigErrors {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self(findings)
    }
}

/// Progress of a worker, for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// The worker waits for something outside it, which the text names.
    Waiting(String),
    /// The worker goes on, but its owner should read this.
    Advice(String),
    /// Rows of a table are being copied.
    Copying {
        /// `schema.table`.
        table: String,
        /// Number of rows copied by this run.
        rows: u64,
        /// Number of rows of the table by the planner's estimate, if it has one.
        estimated: Option<u64>,
    },
    /// All rows of a table are copied.
    Copied {
        /// `schema.table`.
        table: String,
        /// Number of rows copied by this run.
        rows: u64,
    },
    /// The first checkpoint is visible. Reported once a run.
    Ready,
    /// Readers see everything that was committed when the worker started, and so it ends.
    CaughtUp,
    /// The slot retains too much WAL, as the text says; `None` if it does not, or no longer.
    WalBudget(Option<String>),
    /// The number of rows that are not synced has changed: each of them was logged.
    UnsyncedRows(usize),
    /// The worker does not replicate until somebody fixes this. It tries again after a pause.
    Stopped(String),
    /// The store failed, for this reason. The worker tries again after a pause.
    StoreFailed(String),
    /// The connection to the source was lost, for this reason. The worker connects again after a pause.
    Reconnecting(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_sync_config::SyncConfig;

    #[test]
    fn sync_config_errors_name_line_column_and_hint_of_each_finding() {
        let text = "config: {edition: 3}\nstreams:\n  a: {query: SELEC}\n  b: {query: SELEC}\n";
        let findings = SyncConfig::compile(text).unwrap_err();
        let count = findings.len();
        assert!(count >= 2, "{findings:?}");

        let shown = SyncConfigErrors::from(findings).to_string();
        assert!(shown.starts_with(&format!("the sync config has {count} error(s):\n  3:")));
        assert!(shown.contains("\n  4:"), "{shown}");
    }
}
