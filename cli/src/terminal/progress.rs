//! Progress of the ingest worker: bars on a terminal, log lines otherwise.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use tidewater_ingest_worker::Progress;
use tokio::time::Instant;

use crate::terminal::logging;

/// Interval between two log lines about the copy of one table.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// A reporter of one worker's progress.
pub(crate) struct ProgressReporter {
    on_terminal: bool,
    /// True after a warning of the WAL budget, until the slot is within it.
    has_warned_of_wal: AtomicBool,
    tables: Mutex<HashMap<String, ShownTable>>,
}

/// The state of a table that is being copied, as it was last shown.
struct ShownTable {
    bar: Option<ProgressBar>,
    logged: Instant,
}

impl ProgressReporter {
    /// Returns a reporter that shows bars if stderr is a terminal.
    pub(crate) fn new() -> Self {
        Self {
            on_terminal: logging::on_terminal(),
            has_warned_of_wal: AtomicBool::new(false),
            tables: Mutex::default(),
        }
    }

    /// Shows one report.
    pub(crate) fn report(&self, progress: &Progress) {
        match progress {
            Progress::Waiting(why) => tracing::info!("waiting: {why}"),
            Progress::Advice(advice) => tracing::warn!("{advice}"),
            Progress::Copying { table, rows, estimated } => self.copying(table, *rows, *estimated),
            Progress::Copied { table, rows } => self.copied(table, *rows),
            Progress::Ready => {
                tracing::info!("ready: the first checkpoint is visible, clients can sync");
            }
            Progress::CaughtUp => {
                tracing::info!("caught up: clients can sync all that was committed at the start");
            }
            Progress::WalBudget(warning) => self.wal_budget(warning.as_deref()),
            Progress::UnsyncedRows(0) => {}
            Progress::UnsyncedRows(count) => {
                tracing::warn!(
                    count,
                    "rows that are not synced: each was logged as 'row not synced'"
                );
            }
            Progress::Stopped(why) => {
                tracing::error!(
                    "the ingest worker stopped, devices stay at the last checkpoint: {why}\n    the \
                     worker tries again by itself once this is fixed"
                );
            }
            Progress::StoreFailed(why) => {
                tracing::warn!("the store failed, trying again: {why}");
            }
            Progress::Reconnecting(why) => {
                tracing::warn!("lost the connection to the source, reconnecting: {why}");
            }
        }
    }

    fn wal_budget(&self, warning: Option<&str>) {
        let had_warned = self.has_warned_of_wal.swap(warning.is_some(), Ordering::Relaxed);
        match warning {
            Some(warning) => tracing::warn!("{warning}"),
            None if had_warned => tracing::info!("the replication slot is within its WAL budget"),
            None => {}
        }
    }

    fn copying(&self, table: &str, rows: u64, estimated: Option<u64>) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !tables.contains_key(table);
        let shown = tables.entry(table.to_owned()).or_insert_with(|| ShownTable {
            bar: self.on_terminal.then(|| logging::add_bar(table, "rows")),
            logged: Instant::now(),
        });

        if let Some(bar) = &shown.bar {
            // The planner's estimate may be too low; the bar must not exceed its end.
            bar.set_length(estimated.unwrap_or(rows).max(rows));
            bar.set_position(rows);
        } else if is_new || shown.logged.elapsed() >= LOG_INTERVAL {
            shown.logged = Instant::now();
            tracing::info!(table, rows, estimated, "copying");
        }
    }

    fn copied(&self, table: &str, rows: u64) {
        let shown = self.tables.lock().unwrap_or_else(PoisonError::into_inner).remove(table);
        if let Some(bar) = shown.and_then(|shown| shown.bar) {
            bar.finish_and_clear();
        }
        tracing::info!(table, rows, "copied");
    }
}
