//! The wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;

/// Returns the time since 1970.
#[expect(clippy::disallowed_methods, reason = "tokens and catalogs name wall-clock times")]
pub(crate) fn unix_time() -> anyhow::Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")
}

/// Returns the seconds since 1970.
pub(crate) fn unix_seconds() -> anyhow::Result<u64> {
    Ok(unix_time()?.as_secs())
}
