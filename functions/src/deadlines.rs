//! When a stream must say or do something although nothing happened.

use std::time::Duration;

use tokio::time::Instant;

/// Clients give up after 30 to 40 seconds of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How far keep-alives of different streams are spread, either way.
const JITTER_MS: u64 = 2_000;
/// Clients are told once when this much is left of their token; they then fetch another.
const WARNING: Duration = Duration::from_secs(20);

/// The deadlines of one stream.
#[derive(Debug)]
pub(crate) struct Deadlines {
    expires: Instant,
    warning: Option<Instant>,
    keep_alive: Instant,
    hold: Option<Instant>,
    seed: u64,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The token has expired: say so and end.
    Expired,
    /// It has been held long enough: end.
    HeldEnough,
    /// Say how many seconds are left.
    Say(i64),
    Nothing,
}

impl Deadlines {
    /// Of a stream that begins now with a token that is valid for `valid` longer. `seed` spreads
    /// the keep-alives.
    pub(crate) fn new(now: Instant, valid: Duration, seed: u64) -> Self {
        let warning = valid.checked_sub(WARNING).filter(|wait| !wait.is_zero());
        let mut new = Self {
            expires: now + valid,
            warning: warning.map(|wait| now + wait),
            keep_alive: now,
            hold: None,
            seed,
        };
        new.keep_alive = now + new.interval();
        new
    }

    /// From now on the stream is held until `until` at most.
    pub(crate) fn hold_until(&mut self, until: Instant) {
        self.hold = Some(until);
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Instant {
        let others = self.warning.into_iter().chain(self.hold);
        others.fold(self.expires.min(self.keep_alive), Instant::min)
    }

    /// Whether the token has expired.
    pub(crate) fn expired(&self, now: Instant) -> bool {
        now >= self.expires
    }

    /// What is due now; each thing is due once.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if self.expired(now) {
            return Due::Expired;
        }
        if self.hold.is_some_and(|hold| now >= hold) {
            return Due::HeldEnough;
        }
        let warned = self.warning.is_some_and(|warning| now >= warning);
        if !warned && now < self.keep_alive {
            return Due::Nothing;
        }
        if warned {
            self.warning = None;
        }
        self.keep_alive = now + self.interval();
        let left = (self.expires - now + Duration::from_millis(500)).as_secs().max(1);
        Due::Say(i64::try_from(left).unwrap_or(i64::MAX))
    }

    /// The next interval between keep-alives: 20 s, give or take a tenth.
    fn interval(&mut self) -> Duration {
        // SplitMix64: enough to spread streams that began together.
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let spread = (bits ^ (bits >> 31)) % (2 * JITTER_MS + 1);
        KEEP_ALIVE - Duration::from_millis(JITTER_MS) + Duration::from_millis(spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_stream_speaks_every_twenty_seconds_or_so() {
        let start = Instant::now();
        let (mut now, mut gaps) = (start, Vec::new());
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        for _ in 0..100 {
            let next = deadlines.next();
            assert_eq!(deadlines.due(next - Duration::from_millis(1)), Due::Nothing);
            assert!(matches!(deadlines.due(next), Due::Say(_)));
            gaps.push(next - now);
            now = next;
        }
        assert!(gaps.iter().all(|gap| (seconds(18)..=seconds(22)).contains(gap)), "{gaps:?}");
        assert!(gaps.iter().any(|gap| *gap < seconds(19)));
        assert!(gaps.iter().any(|gap| *gap > seconds(21)));
    }

    #[test]
    fn twenty_seconds_before_the_end_it_says_so_once() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(35), 7);
        let mut said = Vec::new();
        let mut now = start;
        loop {
            now = deadlines.next().max(now);
            match deadlines.due(now) {
                Due::Say(left) => said.push(left),
                Due::Expired => break,
                other @ (Due::HeldEnough | Due::Nothing) => panic!("{other:?}"),
            }
        }
        assert_eq!(now, start + seconds(35));
        assert_eq!(said[0], 20);
        assert!(said.len() <= 2, "{said:?}");
    }

    #[test]
    fn a_short_token_is_not_announced_at_the_start() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(6), 7);
        assert_eq!(deadlines.due(start), Due::Nothing);
        assert_eq!(deadlines.next(), start + seconds(6));
        assert_eq!(deadlines.due(start + seconds(6)), Due::Expired);
    }

    #[test]
    fn a_held_stream_ends_in_time() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        deadlines.hold_until(start + seconds(2));
        assert_eq!(deadlines.next(), start + seconds(2));
        assert_eq!(deadlines.due(start + seconds(2)), Due::HeldEnough);
    }
}
