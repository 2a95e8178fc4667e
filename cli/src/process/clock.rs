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

/// Formats a time, in milliseconds since 1970, as RFC 3339 does: `2026-12-01T04:05:06.789Z`.
pub(crate) fn rfc3339(millis: u64) -> String {
    let seconds = millis / 1_000;
    let days = seconds / 86_400;

    // Years begin in March here, so that the leap day is the last one: after Howard Hinnant's
    // `civil_from_days`, with eras of 400 years, and 719,468 days from 0000-03-01 to 1970-01-01.
    let since = days + 719_468;
    let era = since / 146_097;
    let of_era = since % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);

    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        millis % 1_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_formatted_by_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_796_099_706_789, "2026-12-01T04:35:06.789Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(millis), text);
        }
    }
}
