//! Reports the progress of the initial copy to people.

use std::collections::{HashMap, HashSet};

use crate::config::Progress;
use crate::source::catalog::SourceTable;

/// The rows that this run has copied, by the index of the table.
#[derive(Debug, Default)]
pub(crate) struct CopyReport {
    rows: HashMap<usize, u64>,
    /// The tables that waited for open transactions, by their id in `pg_class`.
    waited: HashSet<u32>,
}

impl CopyReport {
    /// Counts rows of a table that were copied. Returns the table's total.
    pub(crate) fn count(&mut self, table: usize, rows: usize) -> u64 {
        let total = self.rows.entry(table).or_default();
        *total += rows as u64;
        *total
    }

    /// Returns whether a table waits for open transactions for the first time.
    pub(crate) fn is_new_wait(&mut self, table: &SourceTable) -> bool {
        self.waited.insert(table.oid)
    }

    /// Returns the report that a table's copy is complete.
    pub(crate) fn copied(&self, index: usize, table: &SourceTable) -> Progress {
        let rows = self.rows.get(&index).copied().unwrap_or_default();
        Progress::Copied { table: table.display_name(), rows }
    }
}

/// Returns the planner's estimate of a table's rows, if it has one. PostgreSQL gives -1 for a table
/// that was never analysed.
pub(crate) fn estimated_rows(table: &SourceTable) -> Option<u64> {
    let estimate = table.estimated_rows;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate for a progress bar"
    )]
    let rows = estimate as u64;
    (estimate >= 0.0).then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::table;

    #[test]
    fn rows_are_counted_by_table_over_all_chunks() {
        let mut report = CopyReport::default();
        assert_eq!(report.count(0, 20), 20);
        assert_eq!(report.count(1, 5), 5);
        assert_eq!(report.count(0, 1), 21);

        let lists = table(7, "lists", false);
        let expected = Progress::Copied { table: "public.lists".into(), rows: 21 };
        assert_eq!(report.copied(0, &lists), expected);
    }

    #[test]
    fn a_table_that_an_earlier_run_has_copied_has_no_rows_of_this_run() {
        let lists = table(7, "lists", false);
        let expected = Progress::Copied { table: "public.lists".into(), rows: 0 };
        assert_eq!(CopyReport::default().copied(3, &lists), expected);
    }

    #[test]
    fn a_table_that_was_never_analysed_has_no_estimate() {
        let mut lists = table(7, "lists", false);
        for (estimate, expected) in [(-1.0, None), (0.0, Some(0)), (12.7, Some(12))] {
            lists.estimated_rows = estimate;
            assert_eq!(estimated_rows(&lists), expected, "{estimate}");
        }
    }
}
