//! How often keys are fetched. Pure: the time is an argument, in seconds since 1970.

/// After an attempt that failed, the next waits this long while there are no keys at all.
const AFTER_NONE_SECONDS: u64 = 5;
/// The same while old keys still serve: somebody waits for each attempt.
const AFTER_OLD_SECONDS: u64 = 60;
/// Whoever makes up a token can name an unknown key: so often that leads to an attempt at once,
const UNKNOWN_BURST: i64 = 5;
/// and then once in this time.
const UNKNOWN_SECONDS: i64 = 60;

/// What has been attempted.
#[derive(Debug, Default)]
pub(super) struct FetchRate {
    attempted_at: Option<i64>,
    /// Before which time, less the burst, no unknown key leads to an attempt.
    unknown_due: i64,
}

impl FetchRate {
    /// Whether keys that are missing may be fetched now. An attempt is noted at once, so that one
    /// which is given up half-way counts.
    pub(super) fn attempt_missing(&mut self, now: i64) -> bool {
        self.attempt_after(AFTER_NONE_SECONDS, now)
    }

    /// Whether keys that are old may be fetched now.
    pub(super) fn attempt_old(&mut self, now: i64) -> bool {
        self.attempt_after(AFTER_OLD_SECONDS, now)
    }

    fn attempt_after(&mut self, seconds: u64, now: i64) -> bool {
        // By distance: a clock that was set back must not put the next attempt off.
        let due = self.attempted_at.is_none_or(|before| now.abs_diff(before) >= seconds);
        if due {
            self.attempted_at = Some(now);
        }
        due
    }

    /// Whether keys may be fetched now because a token names one that is not known.
    pub(super) fn attempt_unknown(&mut self, now: i64) -> bool {
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
    fn unknown_keys_lead_to_a_burst_and_then_one_attempt_a_minute() {
        let mut pace = FetchRate::default();
        let allowed =
            |pace: &mut FetchRate, now| (0..1_000).filter(|_| pace.attempt_unknown(now)).count();
        assert_eq!(allowed(&mut pace, NOW), 5);
        assert_eq!(allowed(&mut pace, NOW + 59), 0);
        assert_eq!(allowed(&mut pace, NOW + 60), 1);
        assert_eq!(allowed(&mut pace, NOW + 119), 0);
        assert_eq!(allowed(&mut pace, NOW + 120), 1);
        assert_eq!(allowed(&mut pace, NOW + 3_600), 5, "what is not used adds up to a burst");
        assert!(allowed(&mut pace, NOW - 90_000) <= 1, "nor does a clock set back open the gates");
        assert_eq!(allowed(&mut pace, NOW - 90_000 + 60), 1, "or close them");
    }

    #[test]
    fn a_failed_attempt_is_repeated_after_a_while() {
        let mut pace = FetchRate::default();
        assert!(pace.attempt_missing(NOW));
        assert!(!pace.attempt_missing(NOW + 4));
        assert!(pace.attempt_missing(NOW + 5));
        assert!(!pace.attempt_old(NOW + 64));
        assert!(pace.attempt_old(NOW + 65));
        assert!(pace.attempt_old(NOW - 3_600), "the clock was set back");
        assert!(!pace.attempt_old(NOW - 3_600));
    }
}
