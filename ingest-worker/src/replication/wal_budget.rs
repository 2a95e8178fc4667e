//! Judges the WAL that the server keeps for the slot.
//!
//! The worker only warns. What happens to a slot that retains too much is decided by the server's
//! `max_slot_wal_keep_size`, which also works while no worker runs.

use std::time::Duration;

use tokio::time::Instant;

use crate::source::connection::SlotWal;

/// Interval at which a warning is repeated with new figures.
const REPEAT_INTERVAL: Duration = Duration::from_secs(600);
/// Share of the budget below which a warning ends, in percent. Without a distance, a slot at its budget
/// would be reported at every look.
const END_PERCENT: u64 = 90;
/// The slot is in danger when what is left is less than a third of what is retained: then three quarters
/// of `max_slot_wal_keep_size` are used.
const RETAINED_PER_LEFT_MAX: u64 = 3;

/// The budget of a slot, and what was last reported of it.
#[derive(Debug)]
pub(crate) struct WalBudget {
    slot: String,
    budget_bytes: u64,
    reported: Option<Report>,
}

#[derive(Clone, Copy, Debug)]
struct Report {
    is_exceeded: bool,
    at: Instant,
}

impl WalBudget {
    /// Returns the budget of a slot of which nothing is known.
    pub(crate) fn new(slot: String, budget_bytes: u64) -> Self {
        Self { slot, budget_bytes, reported: None }
    }

    /// Judges the slot. Returns what is to be reported, if anything is: a warning, or that the slot is
    /// within its budget.
    pub(crate) fn judge(&mut self, wal: &SlotWal, now: Instant) -> Option<Option<String>> {
        let was_exceeded = self.reported.is_some_and(|report| report.is_exceeded);
        let is_exceeded = self.is_exceeded(wal, was_exceeded);
        let is_due = match self.reported {
            None => true,
            Some(report) if report.is_exceeded != is_exceeded => true,
            Some(report) => is_exceeded && now.duration_since(report.at) >= REPEAT_INTERVAL,
        };
        if !is_due {
            return None;
        }

        self.reported = Some(Report { is_exceeded, at: now });
        Some(is_exceeded.then(|| self.warning(wal)))
    }

    fn is_exceeded(&self, wal: &SlotWal, was_exceeded: bool) -> bool {
        let percent = if was_exceeded { END_PERCENT } else { 100 };
        wal.retained_bytes > self.budget_bytes / 100 * percent || is_in_danger(wal)
    }

    fn warning(&self, wal: &SlotWal) -> String {
        let mut text = format!(
            "replication slot {} retains {} of WAL on the server (the budget is {}, see --wal-budget)",
            self.slot,
            megabytes(wal.retained_bytes),
            megabytes(self.budget_bytes),
        );
        if let Some(left) = wal.left_bytes {
            text.push_str(&format!(
                "; after {} more, max_slot_wal_keep_size ends the slot, and all tables are copied again",
                megabytes(left)
            ));
        }

        // What is confirmed is needed no more, except from the start of transactions that were open.
        if wal.unconfirmed_bytes >= wal.retained_bytes / 2 {
            text.push_str("; the worker is behind, see tidewater_ingest_replication_lag_seconds");
        } else {
            text.push_str(
                "; a transaction that has been open for long needs it: SELECT pid, xact_start, query \
                 FROM pg_stat_activity ORDER BY xact_start; and SELECT * FROM pg_prepared_xacts;",
            );
        }
        text
    }
}

fn is_in_danger(wal: &SlotWal) -> bool {
    wal.left_bytes
        .is_some_and(|left| wal.retained_bytes > left.saturating_mul(RETAINED_PER_LEFT_MAX))
}

/// Formats a size as PostgreSQL does: an MB has 1,048,576 bytes.
fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn wal(retained: u64, unconfirmed: u64, left: Option<u64>) -> SlotWal {
        SlotWal {
            is_lost: false,
            retained_bytes: retained * MB,
            unconfirmed_bytes: unconfirmed * MB,
            left_bytes: left.map(|left| left * MB),
        }
    }

    fn budget() -> WalBudget {
        WalBudget::new("s".into(), 1_000 * MB)
    }

    /// Returns what the first look at a slot reports.
    fn first_report(wal: &SlotWal) -> Option<String> {
        budget().judge(wal, Instant::now()).expect("the first look is reported")
    }

    #[test]
    fn a_slot_beyond_the_budget_or_near_its_end_is_reported_with_the_reason() {
        assert_eq!(first_report(&wal(1_000, 0, None)), None);
        assert_eq!(first_report(&wal(300, 300, Some(100))), None, "three quarters are used");

        let behind = first_report(&wal(1_001, 1_000, None)).unwrap();
        assert!(behind.contains("retains 1001 MB") && behind.contains("is behind"), "{behind}");
        let open = first_report(&wal(2_000, 10, Some(5_000))).unwrap();
        assert!(open.contains("pg_prepared_xacts") && open.contains("after 5000 MB"), "{open}");
        let danger = first_report(&wal(301, 301, Some(100))).unwrap();
        assert!(danger.contains("after 100 MB more"), "{danger}");
        assert!(first_report(&wal(1, 1, Some(0))).is_some(), "the next checkpoint ends it");
    }

    #[test]
    fn a_report_is_repeated_only_after_a_change_or_a_while() {
        let start = Instant::now();
        let mut budget = budget();
        let mut is_reported = |retained: u64, after_secs: u64| {
            let now = start + Duration::from_secs(after_secs);
            budget.judge(&wal(retained, 0, None), now).map(|warning| warning.is_some())
        };
        assert_eq!(is_reported(10, 0), Some(false));
        assert_eq!(is_reported(20, 5_000), None);
        assert_eq!(is_reported(1_100, 5_002), Some(true));
        assert_eq!(is_reported(1_200, 5_004), None);
        assert_eq!(is_reported(950, 5_006), None, "it is close to the budget");
        assert_eq!(is_reported(1_200, 5_602), Some(true), "with new figures");
        assert_eq!(is_reported(800, 5_604), Some(false));
        assert_eq!(is_reported(800, 5_606), None);
    }
}
