//! Limits how often keys are fetched. Pure: the time is an argument, in seconds since 1970.

/// Pause after a failed attempt while there are no keys at all, in seconds. Every request fails until
/// keys arrive, so the pause is short.
const AFTER_NONE_SECONDS: u64 = 5;
/// Pause after a failed attempt while old keys are used, in seconds. One request waits for each
/// attempt, and the old keys verify nearly all tokens.
const AFTER_OLD_SECONDS: u64 = 60;
/// Number of unknown keys that cause an attempt at once. A made-up token can name any key, so their
/// attempts are limited.
const UNKNOWN_BURST: i64 = 5;
/// Seconds for one further attempt after the burst: the time by which a flood of made-up names can delay
/// a new key. A shorter one would let the flood pass on to the owner's server.
const UNKNOWN_SECONDS: i64 = 60;

/// The attempts so far.
#[derive(Debug, Default)]
pub(super) struct FetchRate {
    attempted_at: Option<i64>,
    /// The time from which an unknown key causes an attempt, plus the burst (a token bucket, kept as
    /// one time).
    unknown_due: i64,
}

impl FetchRate {
    /// Returns whether missing keys may be fetched now, and notes the attempt.
    pub(super) fn attempt_missing(&mut self, now: i64) -> bool {
        self.attempt_after(AFTER_NONE_SECONDS, now)
    }

    /// Returns whether old keys may be fetched now, and notes the attempt.
    pub(super) fn attempt_old(&mut self, now: i64) -> bool {
        self.attempt_after(AFTER_OLD_SECONDS, now)
    }

    fn attempt_after(&mut self, seconds: u64, now: i64) -> bool {
        // The distance is compared, so that a clock that was set back does not delay the next attempt.
        let is_due = self.attempted_at.is_none_or(|before| now.abs_diff(before) >= seconds);
        if is_due {
            self.attempted_at = Some(now);
        }
        is_due
    }

    /// Returns whether keys may be fetched now because a token names an unknown key, and notes the
    /// attempt. However many such tokens come, a new key is fetched within `UNKNOWN_SECONDS`.
    pub(super) fn attempt_unknown(&mut self, now: i64) -> bool {
        // The clamp bounds the debt after a burst, and heals a clock that was set back.
        let burst = (UNKNOWN_BURST - 1) * UNKNOWN_SECONDS;
        self.unknown_due = self.unknown_due.clamp(now, now + burst + UNKNOWN_SECONDS);
        if self.unknown_due > now + burst {
            return false;
        }
        self.unknown_due += UNKNOWN_SECONDS;
        self.attempted_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn unknown_keys_cause_a_burst_and_then_one_attempt_a_minute() {
        let mut rate = FetchRate::default();
        let allowed =
            |rate: &mut FetchRate, now| (0..1_000).filter(|_| rate.attempt_unknown(now)).count();
        assert_eq!(allowed(&mut rate, NOW), 5);
        assert_eq!(allowed(&mut rate, NOW + 59), 0);
        assert_eq!(allowed(&mut rate, NOW + 60), 1);
        assert_eq!(allowed(&mut rate, NOW + 119), 0);
        assert_eq!(allowed(&mut rate, NOW + 120), 1);
        assert_eq!(allowed(&mut rate, NOW + 3_600), 5, "unused attempts add up to a burst");
        assert!(allowed(&mut rate, NOW - 90_000) <= 1, "a clock that was set back allows no burst");
        assert_eq!(allowed(&mut rate, NOW - 90_000 + 60), 1, "and blocks no attempts");
    }

    #[test]
    fn a_failed_fetch_is_retried_after_a_pause() {
        let mut rate = FetchRate::default();
        assert!(rate.attempt_missing(NOW));
        assert!(!rate.attempt_missing(NOW + 4));
        assert!(rate.attempt_missing(NOW + 5));
        assert!(!rate.attempt_old(NOW + 64));
        assert!(rate.attempt_old(NOW + 65));
        assert!(rate.attempt_old(NOW - 3_600), "the clock was set back");
        assert!(!rate.attempt_old(NOW - 3_600));
    }
}
