//! The one place where this crate reads the wall clock: a token is valid by wall-clock time, and a
//! checkpoint current as of one. Everything else uses tokio's clock.

use std::time::SystemTime;

/// Returns the milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the worker on another machine stored such a time")]
pub(crate) fn unix_now_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// Returns the seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "tokens name wall-clock times")]
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}
