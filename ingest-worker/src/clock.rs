//! The wall clock, for the stored times: when readers were last known to see everything, and until when
//! former configs are maintained.

use std::time::SystemTime;

use tokio::time::Instant;

/// Returns the milliseconds since 1970 at a moment of the past.
pub(crate) fn unix_millis_at(moment: Instant) -> u64 {
    let ago = u64::try_from(moment.elapsed().as_millis()).unwrap_or(u64::MAX);
    unix_millis().saturating_sub(ago)
}

/// Returns the milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "processes on other machines compare the stored time"
)]
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// Returns the seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    unix_millis() / 1_000
}
