//! When a stream must say or do something although nothing happened.

use std::time::Duration;

use tokio::time::Instant;

/// Clients give up after 30 to 40 seconds of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How far keep-alives of different streams are spread, either way.
const JITTER_MS: u64 = 2_000;
/// Clients are told once when this much is left of their token; they then fetch another.
const WARNING: Duration = Duration::from_secs(20);
/// A stream that has to end is handed over this long before: clients need the time to fetch a token.
const HAND_OVER: Duration = Duration::from_secs(25);
/// What a client is told at the hand-over. With 1 to 30 seconds left, SDKs fetch a token and connect
/// anew at once, which their users do not see; after a plain end they wait, and show it.
const HAND_OVER_SAYS: i64 = 20;

/// The deadlines of one stream.
#[derive(Debug)]
pub(crate) struct Deadlines {
    expires: Instant,
    warning: Option<Instant>,
    keep_alive: Instant,
    hold: Option<Instant>,
    end: Option<End>,
    seed: u64,
}

/// When whoever runs the router wants the stream to end.
#[derive(Debug)]
struct End {
    hand_over: Instant,
    at: Instant,
    said: bool,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The token has expired: say so and end.
    Expired,
    /// It has been held long enough, or has no time left: end.
    Close,
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
            end: None,
            seed,
        };
        new.keep_alive = now + new.interval();
        new
    }

    /// The stream, which begins now, ends by then at the latest.
    pub(crate) fn end_by(&mut self, now: Instant, at: Instant) {
        let lead = HAND_OVER.min(at.saturating_duration_since(now) / 2);
        self.end = Some(End { hand_over: at - lead, at, said: false });
    }

    /// From now on the stream is held until `until` at most.
    pub(crate) fn hold_until(&mut self, until: Instant) {
        self.hold = Some(until);
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Instant {
        let end = self.end.as_ref().map(|end| end.hand_over);
        let others = self.warning.into_iter().chain(self.hold).chain(end);
        others.fold(self.expires.min(self.keep_alive), Instant::min)
    }

    /// What is due now while there is something to send; each thing is due once. Lines that are
    /// sent say that the connection lives: no other is needed for that.
    pub(crate) fn due_while_sending(&mut self, now: Instant) -> Due {
        if now >= self.expires {
            return Due::Expired;
        }
        match &mut self.end {
            Some(end) if now >= end.at => Due::Close,
            Some(end) if now >= end.hand_over && !end.said => {
                end.said = true;
                Due::Say(HAND_OVER_SAYS)
            }
            _ => Due::Nothing,
        }
    }

    /// What is due now while there is nothing to send; each thing is due once.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if now >= self.expires {
            return Due::Expired;
        }
        // Nothing is lost with a stream that is up to date: it is not handed over, only ended.
        let end = self.end.as_ref().map(|end| end.hand_over);
        if self.hold.into_iter().chain(end).any(|end| now >= end) {
            return Due::Close;
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
                other @ (Due::Close | Due::Nothing) => panic!("{other:?}"),
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
        assert_eq!(deadlines.due(start + seconds(2)), Due::Close);
    }

    #[test]
    fn a_stream_that_must_end_is_handed_over_once_while_it_sends() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        deadlines.end_by(start, start + seconds(100));
        let mut due = |after| deadlines.due_while_sending(start + Duration::from_millis(after));
        assert_eq!(due(74_999), Due::Nothing);
        assert_eq!(due(75_000), Due::Say(20));
        assert_eq!(due(99_999), Due::Nothing);
        assert_eq!(due(100_000), Due::Close);
    }

    #[test]
    fn a_stream_with_little_time_has_half_of_it_before_the_hand_over() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        deadlines.end_by(start, start + seconds(6));
        assert_eq!(deadlines.due_while_sending(start), Due::Nothing);
        assert_eq!(deadlines.due_while_sending(start + seconds(3)), Due::Say(20));
        assert_eq!(deadlines.due_while_sending(start + seconds(6)), Due::Close);
    }

    #[test]
    fn a_stream_that_must_end_and_is_up_to_date_just_ends() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        deadlines.end_by(start, start + seconds(30));
        assert_eq!(deadlines.next(), start + seconds(15));
        assert_eq!(deadlines.due(start + seconds(15)), Due::Close);
    }

    #[test]
    fn a_token_that_expires_before_the_stream_must_end_goes_first() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(30), 7);
        deadlines.end_by(start, start + seconds(100));
        assert_eq!(deadlines.due_while_sending(start + seconds(30)), Due::Expired);
    }
}
