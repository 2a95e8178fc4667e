//! Metrics of the worker: a named constant for each, with unit and meaning.
//!
//! They are recorded by the `metrics` facade. Whoever starts the worker installs a recorder; without
//! one, recording costs next to nothing.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use tidewater_protocol::Epoch;

/// Gauge, bytes: WAL that the server has and that is not committed here.
pub const REPLICATION_LAG_BYTES: &str = "tidewater_ingest_replication_lag_bytes";
/// Gauge, seconds: time since readers were last known to see everything that the source had committed.
/// It is a few seconds at most while the source is idle, and grows while the worker is behind, cannot
/// reach the source or the store, or holds the checkpoint back.
pub const REPLICATION_LAG_SECONDS: &str = "tidewater_ingest_replication_lag_seconds";
/// Gauge, bytes: WAL that the server keeps for the slot.
pub const WAL_RETAINED_BYTES: &str = "tidewater_ingest_wal_retained_bytes";
/// Gauge, bytes: WAL that may be written before the slot is in danger of being lost. Recorded only if
/// the server has a limit, `max_slot_wal_keep_size`.
pub const WAL_LEFT_BYTES: &str = "tidewater_ingest_wal_left_bytes";
/// Counter: source transactions received whole, without those that an earlier run has committed.
pub const TRANSACTIONS_TOTAL: &str = "tidewater_ingest_transactions_total";
/// Counter: commits, each of which is one write of the control record.
pub const COMMITS_TOTAL: &str = "tidewater_ingest_commits_total";
/// Histogram, seconds: time from the start of a commit until the control record is written.
pub const COMMIT_SECONDS: &str = "tidewater_ingest_commit_seconds";
/// Histogram: bucket operations in a batch that is stored.
pub const BATCH_ROWS: &str = "tidewater_ingest_batch_rows";
/// Histogram, bytes: payload of the segments in a batch that is stored.
pub const BATCH_BYTES: &str = "tidewater_ingest_batch_bytes";
/// Counter: storage calls that were repeated because the store was unavailable.
pub const STORAGE_RETRIES_TOTAL: &str = "tidewater_ingest_storage_retries_total";
/// Counter: conditional record writes that the store refused and that were built again.
pub const RECORD_CONFLICTS_TOTAL: &str = "tidewater_ingest_record_conflicts_total";
/// Counter: attempts to connect again after the connection to the source was lost.
pub const RECONNECTS_TOTAL: &str = "tidewater_ingest_reconnects_total";
/// Counter: runs that ended because a table of the source had changed.
pub const TABLE_CHANGES_TOTAL: &str = "tidewater_ingest_table_changes_total";
/// Counter: changes of rows that left them out, because a query of the sync config could not be
/// evaluated for them or they exceed a limit. Label `table`.
pub const ROWS_SKIPPED_TOTAL: &str = "tidewater_ingest_rows_skipped_total";
/// Gauge: rows that are not synced now, or not by all queries, for these reasons. At most 1,000 are
/// counted. Label `table`.
pub const ROWS_UNSYNCED: &str = "tidewater_ingest_rows_unsynced";
/// Gauge: rows of a table that this run has copied. Label `table`.
pub const COPY_ROWS_DONE: &str = "tidewater_ingest_copy_rows_done";
/// Gauge: rows of a table that is being copied, by the planner's estimate. Label `table`.
pub const COPY_ROWS_TOTAL: &str = "tidewater_ingest_copy_rows_total";
/// Gauge: epoch of the run that owns the log. It rises with every run, reconnects included.
pub const EPOCH: &str = "tidewater_ingest_epoch";

/// Describes all metrics of this crate to the installed recorder.
pub fn describe_metrics() {
    describe_gauge!(
        REPLICATION_LAG_BYTES,
        Unit::Bytes,
        "WAL that the server has and that is not committed here"
    );
    describe_gauge!(
        REPLICATION_LAG_SECONDS,
        Unit::Seconds,
        "Time since readers were last known to see everything that the source had committed"
    );

    describe_gauge!(
        WAL_RETAINED_BYTES,
        Unit::Bytes,
        "WAL that the server keeps for the replication slot"
    );
    describe_gauge!(
        WAL_LEFT_BYTES,
        Unit::Bytes,
        "WAL that may be written before the slot is in danger of being lost, if there is a limit"
    );

    describe_counter!(TRANSACTIONS_TOTAL, Unit::Count, "Source transactions received whole");
    describe_counter!(COMMITS_TOTAL, Unit::Count, "Commits: writes of the control record");
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "Time from the start of a commit until the control record is written"
    );

    describe_histogram!(BATCH_ROWS, Unit::Count, "Bucket operations in a stored batch");
    describe_histogram!(BATCH_BYTES, Unit::Bytes, "Payload of the segments in a stored batch");
    describe_counter!(
        STORAGE_RETRIES_TOTAL,
        Unit::Count,
        "Storage calls repeated because the store was unavailable"
    );
    describe_counter!(
        RECORD_CONFLICTS_TOTAL,
        Unit::Count,
        "Conditional record writes that the store refused"
    );

    describe_counter!(
        RECONNECTS_TOTAL,
        Unit::Count,
        "Attempts to connect again after the connection to the source was lost"
    );
    describe_counter!(
        TABLE_CHANGES_TOTAL,
        Unit::Count,
        "Runs that ended because a table of the source had changed"
    );
    describe_counter!(
        ROWS_SKIPPED_TOTAL,
        Unit::Count,
        "Changes that left a row out, because it cannot be evaluated or exceeds a limit, by table"
    );
    describe_gauge!(
        ROWS_UNSYNCED,
        Unit::Count,
        "Rows that are not synced now, because they cannot be evaluated or exceed a limit, by table"
    );

    describe_gauge!(COPY_ROWS_DONE, Unit::Count, "Rows copied by this run, by table");
    describe_gauge!(
        COPY_ROWS_TOTAL,
        Unit::Count,
        "Estimated rows of a table that is being copied, by table"
    );
    describe_gauge!(EPOCH, Unit::Count, "Epoch of the run that owns the log");
}

/// Records how far the committed position is behind the server.
pub(crate) fn record_replication_lag_bytes(bytes: u64) {
    gauge!(REPLICATION_LAG_BYTES).set(bytes as f64);
}

/// Records how late readers may be.
pub(crate) fn record_replication_lag_seconds(age: Duration) {
    gauge!(REPLICATION_LAG_SECONDS).set(age.as_secs_f64());
}

/// Records the WAL that the server keeps for the slot, and how much more it may be.
pub(crate) fn record_slot_wal(retained_bytes: u64, left_bytes: Option<u64>) {
    gauge!(WAL_RETAINED_BYTES).set(retained_bytes as f64);
    if let Some(left_bytes) = left_bytes {
        gauge!(WAL_LEFT_BYTES).set(left_bytes as f64);
    }
}

/// Counts a source transaction that was received whole.
pub(crate) fn count_transaction() {
    counter!(TRANSACTIONS_TOTAL).increment(1);
}

/// Records a commit and the time that it took.
pub(crate) fn record_commit(elapsed: Duration) {
    counter!(COMMITS_TOTAL).increment(1);
    histogram!(COMMIT_SECONDS).record(elapsed.as_secs_f64());
}

/// Records the size of a batch that was stored.
pub(crate) fn record_batch(rows: u64, bytes: usize) {
    histogram!(BATCH_ROWS).record(rows as f64);
    histogram!(BATCH_BYTES).record(bytes as f64);
}

/// Counts a storage call that is repeated.
pub(crate) fn count_storage_retry() {
    counter!(STORAGE_RETRIES_TOTAL).increment(1);
}

/// Counts record writes that the store refused.
pub(crate) fn count_record_conflicts(count: usize) {
    counter!(RECORD_CONFLICTS_TOTAL).increment(count as u64);
}

/// Counts an attempt to connect again.
pub(crate) fn count_reconnect() {
    counter!(RECONNECTS_TOTAL).increment(1);
}

/// Counts a run that ended because a table had changed.
pub(crate) fn count_table_change() {
    counter!(TABLE_CHANGES_TOTAL).increment(1);
}

/// Counts a row of `table` (`schema.table`) that could not be evaluated.
pub(crate) fn count_skipped_row(table: &str) {
    counter!(ROWS_SKIPPED_TOTAL, "table" => table.to_owned()).increment(1);
}

/// Records how many rows of `table` (`schema.table`) are not synced now.
pub(crate) fn record_unsynced_rows(table: &str, count: usize) {
    gauge!(ROWS_UNSYNCED, "table" => table.to_owned()).set(count as f64);
}

/// Records how many rows of `table` (`schema.table`) this run has copied, and the estimate of how
/// many there are.
pub(crate) fn record_copy(table: &str, done: u64, estimated: Option<u64>) {
    gauge!(COPY_ROWS_DONE, "table" => table.to_owned()).set(done as f64);
    if let Some(estimated) = estimated {
        gauge!(COPY_ROWS_TOTAL, "table" => table.to_owned()).set(estimated as f64);
    }
}

/// Records the epoch that a run has begun.
pub(crate) fn record_epoch(epoch: Epoch) {
    gauge!(EPOCH).set(f64::from(epoch.number()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString};

    use super::*;

    const ALL: [&str; 18] = [
        REPLICATION_LAG_BYTES,
        REPLICATION_LAG_SECONDS,
        WAL_RETAINED_BYTES,
        WAL_LEFT_BYTES,
        TRANSACTIONS_TOTAL,
        COMMITS_TOTAL,
        COMMIT_SECONDS,
        BATCH_ROWS,
        BATCH_BYTES,
        STORAGE_RETRIES_TOTAL,
        RECORD_CONFLICTS_TOTAL,
        RECONNECTS_TOTAL,
        TABLE_CHANGES_TOTAL,
        ROWS_SKIPPED_TOTAL,
        ROWS_UNSYNCED,
        COPY_ROWS_DONE,
        COPY_ROWS_TOTAL,
        EPOCH,
    ];

    /// A recorder that notes what is described and what is recorded, by name and kind.
    #[derive(Clone, Default)]
    struct Noted {
        described: Arc<Mutex<BTreeMap<String, (&'static str, String)>>>,
        recorded: Arc<Mutex<BTreeMap<String, &'static str>>>,
    }

    impl Noted {
        fn describe(&self, kind: &'static str, name: &KeyName, text: &SharedString) {
            let entry = (kind, text.to_string());
            self.described.lock().unwrap().insert(name.as_str().to_owned(), entry);
        }

        fn record(&self, kind: &'static str, key: &Key) {
            self.recorded.lock().unwrap().insert(key.name().to_owned(), kind);
        }
    }

    impl Recorder for Noted {
        fn describe_counter(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
            self.describe("counter", &name, &text);
        }

        fn describe_gauge(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
            self.describe("gauge", &name, &text);
        }

        fn describe_histogram(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
            self.describe("histogram", &name, &text);
        }

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            self.record("counter", key);
            Counter::noop()
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            self.record("gauge", key);
            Gauge::noop()
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            self.record("histogram", key);
            Histogram::noop()
        }
    }

    #[test]
    fn every_metric_is_described_once_and_has_a_distinct_name() {
        let noted = Noted::default();
        metrics::with_local_recorder(&noted, describe_metrics);

        let described = noted.described.lock().unwrap();
        let mut expected = ALL.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(described.keys().cloned().collect::<Vec<_>>(), expected);
        assert!(described.values().all(|(_, text)| !text.is_empty()));
    }

    #[test]
    fn every_metric_is_recorded_under_the_kind_that_is_described() {
        let noted = Noted::default();
        metrics::with_local_recorder(&noted, || {
            describe_metrics();
            record_replication_lag_bytes(1);
            record_replication_lag_seconds(Duration::from_secs(1));
            record_slot_wal(1, Some(1));
            count_transaction();
            record_commit(Duration::from_secs(1));
            record_batch(1, 1);
            count_storage_retry();
            count_record_conflicts(1);
            count_reconnect();
            count_table_change();
            count_skipped_row("public.t");
            record_unsynced_rows("public.t", 1);
            record_copy("public.t", 1, Some(2));
            record_epoch(Epoch::ZERO);
        });

        let described = noted.described.lock().unwrap();
        let recorded = noted.recorded.lock().unwrap();
        for (name, (kind, _)) in described.iter() {
            assert_eq!(recorded.get(name), Some(kind), "{name}");
        }
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for name in ALL {
            assert!(name.starts_with("tidewater_ingest_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
    }
}
