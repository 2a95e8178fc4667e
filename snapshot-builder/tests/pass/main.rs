//! Passes of the builder over a real store that the worker's writer has filled.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod epochs;
mod publishing;
mod sweeping;
mod time_limit;
mod truncation;
mod worker;

/// Where the clock of a test begins, in seconds since 1970.
pub(crate) const NOW: u64 = 1_000;
