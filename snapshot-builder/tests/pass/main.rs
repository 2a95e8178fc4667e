//! Passes of the builder over an embedded store that the worker's log writer has filled.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod epochs;
mod publishing;
mod sweeping;
mod time_limit;
mod truncation;
mod worker;

/// Start of a test's clock, in seconds since 1970.
pub(crate) const NOW: u64 = 1_000;
