//! The one place where this crate reads the wall clock: a token is valid by wall-clock time.
//! Everything else uses tokio's clock.

use std::time::SystemTime;

/// Returns the seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "tokens name wall-clock times")]
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}
