//! Metrics of the snapshot builder: a named constant for each, with unit and meaning.
//!
//! They are recorded by the `metrics` facade. Whoever runs the builder installs a recorder.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Gauge: buckets that were due when the last pass began. A pass reads at most 1,000 of them.
pub const BUCKETS_DUE: &str = "tidewater_builder_buckets_due";
/// Counter: buckets that were examined.
pub const BUCKETS_EXAMINED_TOTAL: &str = "tidewater_builder_buckets_examined_total";
/// Counter: buckets whose examination failed. Each is examined again.
pub const BUCKETS_FAILED_TOTAL: &str = "tidewater_builder_buckets_failed_total";
/// Counter: passes that failed before or after their buckets.
pub const PASSES_FAILED_TOTAL: &str = "tidewater_builder_passes_failed_total";
/// Counter: bases that were published.
pub const BASES_PUBLISHED_TOTAL: &str = "tidewater_builder_bases_published_total";
/// Counter: rows in the bases that were published.
pub const ROWS_PUBLISHED_TOTAL: &str = "tidewater_builder_rows_published_total";
/// Counter, bytes: payload of the history that builds have read.
pub const READ_BYTES_TOTAL: &str = "tidewater_builder_read_bytes_total";
/// Counter, bytes: objects that builds have stored, as compressed.
pub const WRITTEN_BYTES_TOTAL: &str = "tidewater_builder_written_bytes_total";
/// Histogram, seconds: duration of a build, from the first read until the objects are stored.
pub const BUILD_SECONDS: &str = "tidewater_builder_build_seconds";

/// Describes all metrics of this crate to the installed recorder.
pub fn describe_metrics() {
    describe_gauge!(BUCKETS_DUE, Unit::Count, "Buckets that were due when the last pass began");
    describe_counter!(BUCKETS_EXAMINED_TOTAL, Unit::Count, "Buckets that were examined");
    describe_counter!(BUCKETS_FAILED_TOTAL, Unit::Count, "Buckets whose examination failed");
    describe_counter!(
        PASSES_FAILED_TOTAL,
        Unit::Count,
        "Passes that failed before or after their buckets"
    );
    describe_counter!(BASES_PUBLISHED_TOTAL, Unit::Count, "Bases that were published");
    describe_counter!(ROWS_PUBLISHED_TOTAL, Unit::Count, "Rows in the bases that were published");
    describe_counter!(
        READ_BYTES_TOTAL,
        Unit::Bytes,
        "Payload of the history that builds have read"
    );
    describe_counter!(WRITTEN_BYTES_TOTAL, Unit::Bytes, "Objects that builds have stored");
    describe_histogram!(BUILD_SECONDS, Unit::Seconds, "Duration of a build");
}

/// Records the number of buckets that are due.
pub(crate) fn record_due(buckets: usize) {
    gauge!(BUCKETS_DUE).set(buckets as f64);
}

/// Counts a bucket that was examined.
pub(crate) fn count_examined() {
    counter!(BUCKETS_EXAMINED_TOTAL).increment(1);
}

/// Counts a bucket whose examination failed.
pub(crate) fn count_failed_bucket() {
    counter!(BUCKETS_FAILED_TOTAL).increment(1);
}

/// Counts a pass that failed.
pub(crate) fn count_failed_pass() {
    counter!(PASSES_FAILED_TOTAL).increment(1);
}

/// Counts a base that was published.
pub(crate) fn count_published(rows: u64) {
    counter!(BASES_PUBLISHED_TOTAL).increment(1);
    counter!(ROWS_PUBLISHED_TOTAL).increment(rows);
}

/// Counts bytes of a bucket's history that a build has read.
pub(crate) fn count_read(bytes: usize) {
    counter!(READ_BYTES_TOTAL).increment(bytes as u64);
}

/// Counts bytes of an object that a build has stored.
pub(crate) fn count_written(bytes: u64) {
    counter!(WRITTEN_BYTES_TOTAL).increment(bytes);
}

/// Records the duration of a build whose objects are stored.
pub(crate) fn record_build(elapsed: Duration) {
    histogram!(BUILD_SECONDS).record(elapsed.as_secs_f64());
}
