//! The rows that the worker of this process has copied, for whoever asks how far it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidewater_ingest_worker::{CopyProgress, Progress};
use tokio::time::Instant;

/// The progress of the tables that are being copied. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct CopyReports(Arc<Mutex<BTreeMap<String, CopiedRows>>>);

#[derive(Clone, Copy, Debug)]
struct CopiedRows {
    rows: u64,
    estimated: Option<u64>,
    /// The rows of the first report and its time: the rate counts from there.
    first: (u64, Instant),
}

impl CopyReports {
    /// Notes a report of the worker.
    pub(crate) fn note(&self, report: &Progress) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);

        match report {
            Progress::Copying { table, rows, estimated } => {
                let now = Instant::now();
                let of_table = tables.entry(table.clone()).or_insert(CopiedRows {
                    rows: *rows,
                    estimated: *estimated,
                    first: (*rows, now),
                });
                of_table.rows = *rows;
                of_table.estimated = *estimated;
            }
            Progress::Copied { table, .. } => {
                tables.remove(table);
            }
            // A run that begins again copies what is left.
            Progress::Stopped(_) | Progress::StoreFailed(_) | Progress::Reconnecting(_) => {
                tables.clear();
            }
            Progress::Waiting(_)
            | Progress::Advice(_)
            | Progress::Ready
            | Progress::CaughtUp
            | Progress::WalBudget(_)
            | Progress::UnsyncedRows(_) => {}
        }
    }

    /// Returns the progress of each table.
    pub(crate) fn progress(&self) -> Vec<(String, CopyProgress)> {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = |(table, copied): (&String, &CopiedRows)| {
            let progress = CopyProgress { rows: copied.rows, seconds_left: copied.seconds_left() };
            (table.clone(), progress)
        };
        tables.iter().map(progress).collect()
    }
}

impl CopiedRows {
    /// Returns the seconds until the estimated number is reached; `None` while the rate is not known.
    fn seconds_left(&self) -> Option<u64> {
        let (first_rows, since) = self.first;
        let copied = self.rows.checked_sub(first_rows).filter(|copied| *copied > 0)?;
        let left = self.estimated?.saturating_sub(self.rows);
        let elapsed_ms = u64::try_from(since.elapsed().as_millis()).ok()?;
        Some(elapsed_ms.saturating_mul(left) / copied / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn copying(rows: u64) -> Progress {
        Progress::Copying { table: "public.a".into(), rows, estimated: Some(1_000) }
    }

    #[test]
    fn the_time_left_follows_from_the_rate_since_the_first_report() {
        let copied = |rows| CopiedRows {
            rows,
            estimated: Some(1_000),
            first: (100, Instant::now() - Duration::from_secs(10)),
        };
        assert_eq!(copied(100).seconds_left(), None, "the rate is not known yet");
        assert_eq!(copied(600).seconds_left(), Some(8));
        assert_eq!(copied(2_000).seconds_left(), Some(0), "the estimate was too low");
        assert_eq!(CopiedRows { estimated: None, ..copied(600) }.seconds_left(), None);
    }

    #[test]
    fn a_table_is_listed_while_it_is_copied() {
        let reports = CopyReports::default();
        reports.note(&copying(10));
        reports.note(&copying(20));
        let expected =
            CopyProgress { rows: 20, seconds_left: reports.progress()[0].1.seconds_left };
        assert_eq!(reports.progress(), [("public.a".to_owned(), expected)]);
        reports.note(&Progress::Copied { table: "public.a".into(), rows: 30 });
        assert!(reports.progress().is_empty());
    }
}
