//! Metrics of the calls to DynamoDB and S3: a named constant for each, with unit and meaning.
//!
//! They complement the metrics of storage calls. One storage call makes several calls of a service,
//! and the SDK may attempt each of these several times.

use metrics::{Unit, counter, describe_counter};

use crate::tables::Table;

/// Counter: calls of a service that ended, with all their attempts. Labels: `call`, such as
/// `PutItem`, and `result`, which is `ok` or the kind of the failure.
pub const CALLS_TOTAL: &str = "tidewater_aws_calls_total";
/// Counter: attempts after the first one of a call. Label: `call`.
pub const RETRIES_TOTAL: &str = "tidewater_aws_retries_total";
/// Counter: attempts that a service refused because of the request rate. Label: `call`.
pub const THROTTLES_TOTAL: &str = "tidewater_aws_throttles_total";
/// Counter: items of batches that DynamoDB left unprocessed, and that were sent again. Label: `call`.
pub const UNPROCESSED_ITEMS_TOTAL: &str = "tidewater_aws_unprocessed_items_total";
/// Counter: read request units that DynamoDB has charged. Label: `table`.
pub const READ_UNITS_TOTAL: &str = "tidewater_aws_read_units_total";
/// Counter: write request units that DynamoDB has charged. Label: `table`.
pub const WRITE_UNITS_TOTAL: &str = "tidewater_aws_write_units_total";

/// Describes all metrics of this crate to the installed recorder.
pub fn describe_metrics() {
    describe_counter!(CALLS_TOTAL, Unit::Count, "Calls of DynamoDB and S3 that ended");
    describe_counter!(RETRIES_TOTAL, Unit::Count, "Attempts after the first one of a call");
    describe_counter!(
        THROTTLES_TOTAL,
        Unit::Count,
        "Attempts that a service refused because of the request rate"
    );
    describe_counter!(
        UNPROCESSED_ITEMS_TOTAL,
        Unit::Count,
        "Items of batches that DynamoDB left unprocessed"
    );
    describe_counter!(READ_UNITS_TOTAL, Unit::Count, "Read request units that DynamoDB charged");
    describe_counter!(WRITE_UNITS_TOTAL, Unit::Count, "Write request units that DynamoDB charged");
}

/// Counts a call that ended.
pub(crate) fn count_call(call: &str, result: &'static str) {
    counter!(CALLS_TOTAL, "call" => call.to_owned(), "result" => result).increment(1);
}

/// Counts an attempt after the first one.
pub(crate) fn count_retry(call: &str) {
    counter!(RETRIES_TOTAL, "call" => call.to_owned()).increment(1);
}

/// Counts an attempt that a service throttled.
pub(crate) fn count_throttle(call: &str) {
    counter!(THROTTLES_TOTAL, "call" => call.to_owned()).increment(1);
}

/// Counts items that DynamoDB left unprocessed.
pub(crate) fn count_unprocessed(call: &'static str, items: usize) {
    counter!(UNPROCESSED_ITEMS_TOTAL, "call" => call).increment(items as u64);
}

/// Counts whole read request units.
pub(crate) fn count_read_units(table: Table, units: u64) {
    counter!(READ_UNITS_TOTAL, "table" => table.schema().suffix).increment(units);
}

/// Counts whole write request units.
pub(crate) fn count_write_units(table: Table, units: u64) {
    counter!(WRITE_UNITS_TOTAL, "table" => table.schema().suffix).increment(units);
}
