//! Deadlines: when a stream must write or end although nothing happened.

use std::time::Duration;

use tokio::time::Instant;

/// Interval between keep-alives. SDKs close a connection after 30 to 40 seconds of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Spread of the keep-alives of different streams, in milliseconds either way. Streams that
/// began together, after a restart of the server, should not write together for hours.
const KEEP_ALIVE_JITTER_MS: u64 = 2_000;

/// Remaining lifetime of a token at which the client is warned. SDKs then fetch another token.
const EXPIRY_WARNING: Duration = Duration::from_secs(20);

/// Time before its end at which a stream that still sends asks the client to connect again. Clients need
/// the time to fetch a token while the old stream still serves them.
const HAND_OVER_LEAD: Duration = Duration::from_secs(25);

/// Lifetime in seconds that is sent to a client at the hand-over, in place of the token's. With 1 to 30
/// seconds left, SDKs fetch a token and connect again at once, which their users do not notice. After
/// a plain end they wait some seconds, and show that they are disconnected.
pub(crate) const HAND_OVER_TOLD_SECONDS: i64 = 20;

/// The deadlines of one stream.
#[derive(Debug)]
pub(super) struct Deadlines {
    expires_at: Instant,
    /// Time of the warning that the token expires; `None` once it is given.
    warn_at: Option<Instant>,
    keep_alive_at: Instant,
    /// Time at which an up-to-date stream is closed.
    close_at: Option<Instant>,
    end: Option<End>,
    is_handed_over: bool,
    seed: u64,
}

/// The end that whoever runs the router has set.
#[derive(Debug)]
struct End {
    hand_over_at: Instant,
    at: Instant,
}

/// An action that a stream must take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Tell the client that its token has expired, and close.
    Expired,
    /// Close without another line: the client has been up to date for long enough.
    Close,
    /// Close without another line: the end is near.
    End,
    /// Tell the client to connect again, as if so many seconds were left.
    HandOver(i64),
    /// Do so, and close.
    LastHandOver(i64),
    /// Tell the client how many seconds are left.
    TellSecondsLeft(i64),
    /// Nothing.
    Nothing,
}

impl Deadlines {
    /// Creates the deadlines of a stream that begins now, with a token that remains valid for
    /// `valid`. `seed` spreads the keep-alives.
    pub(super) fn new(now: Instant, valid: Duration, seed: u64) -> Self {
        let warn_after = valid.checked_sub(EXPIRY_WARNING).filter(|wait| !wait.is_zero());
        let mut deadlines = Self {
            expires_at: now + valid,
            warn_at: warn_after.map(|wait| now + wait),
            keep_alive_at: now,
            close_at: None,
            end: None,
            is_handed_over: false,
            seed,
        };
        deadlines.keep_alive_at = now + deadlines.keep_alive_interval();
        deadlines
    }

    /// Sets when the stream, which begins now, must have ended.
    pub(super) fn end_by(&mut self, now: Instant, at: Instant) {
        let lead = HAND_OVER_LEAD.min(at.saturating_duration_since(now) / 2);
        self.end = Some(End { hand_over_at: at - lead, at });
    }

    /// Sets when the stream is closed if it is up to date then.
    pub(super) fn close_at(&mut self, at: Instant) {
        self.close_at = Some(at);
    }

    /// Returns how long the token remains valid.
    pub(super) fn token_left(&self, now: Instant) -> Duration {
        self.expires_at.saturating_duration_since(now)
    }

    /// Returns when something is due next while there is nothing to send.
    pub(super) fn next(&self) -> Instant {
        let end = self.end.as_ref().map(|end| end.hand_over_at);
        let others = self.warn_at.into_iter().chain(self.close_at).chain(end);
        others.fold(self.expires_at.min(self.keep_alive_at), Instant::min)
    }

    /// Returns what is due now while lines are sent; each thing is due once. Lines keep the
    /// connection alive, so no keep-alive is due.
    pub(super) fn due_while_sending(&mut self, now: Instant) -> Due {
        if now >= self.expires_at {
            return Due::Expired;
        }
        match &self.end {
            // A line to a slow reader may have taken all the time since the hand-over was due.
            Some(end) if now >= end.at => self.take_hand_over().map_or(Due::End, Due::LastHandOver),
            Some(end) if now >= end.hand_over_at => self.hand_over(),
            _ => Due::Nothing,
        }
    }

    /// Returns the hand-over, once: the end is near for another reason than time.
    pub(super) fn hand_over(&mut self) -> Due {
        self.take_hand_over().map_or(Due::Nothing, Due::HandOver)
    }

    /// Returns the lifetime to tell at a hand-over, unless the client was handed over before.
    fn take_hand_over(&mut self) -> Option<i64> {
        let was_handed_over = std::mem::replace(&mut self.is_handed_over, true);
        (!was_handed_over).then_some(HAND_OVER_TOLD_SECONDS)
    }

    /// Returns what is due now while there is nothing to send; each thing is due once.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        if now >= self.expires_at {
            return Due::Expired;
        }

        // A client that is up to date loses nothing by an end, so it is not handed over: the stream
        // closes as soon as a hand-over would begin.
        if self.end.as_ref().is_some_and(|end| now >= end.hand_over_at) {
            return Due::End;
        }
        if self.close_at.is_some_and(|at| now >= at) {
            return Due::Close;
        }

        let must_warn = self.warn_at.is_some_and(|at| now >= at);
        if !must_warn && now < self.keep_alive_at {
            return Due::Nothing;
        }
        if must_warn {
            self.warn_at = None;
        }
        self.keep_alive_at = now + self.keep_alive_interval();
        Due::TellSecondsLeft(self.seconds_left(now))
    }

    /// Returns the rest of the token's lifetime, rounded, and at least 1: 0 means that it is over.
    fn seconds_left(&self, now: Instant) -> i64 {
        let rounded = self.expires_at - now + Duration::from_millis(500);
        i64::try_from(rounded.as_secs().max(1)).unwrap_or(i64::MAX)
    }

    /// Returns the next interval between keep-alives: 20 s, plus or minus up to a tenth.
    fn keep_alive_interval(&mut self) -> Duration {
        // SplitMix64 is enough to spread streams that began together.
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let jitter_ms = (bits ^ (bits >> 31)) % (2 * KEEP_ALIVE_JITTER_MS + 1);
        KEEP_ALIVE - Duration::from_millis(KEEP_ALIVE_JITTER_MS) + Duration::from_millis(jitter_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_idle_stream_writes_about_every_twenty_seconds() {
        let start = Instant::now();
        let mut now = start;
        let mut gaps = Vec::new();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        for _ in 0..100 {
            let next = deadlines.next();
            assert_eq!(deadlines.due(next - Duration::from_millis(1)), Due::Nothing);
            assert!(matches!(deadlines.due(next), Due::TellSecondsLeft(_)));
            gaps.push(next - now);
            now = next;
        }

        assert!(gaps.iter().all(|gap| (seconds(18)..=seconds(22)).contains(gap)), "{gaps:?}");
        assert!(gaps.iter().any(|gap| *gap < seconds(19)));
        assert!(gaps.iter().any(|gap| *gap > seconds(21)));
    }

    #[test]
    fn a_client_is_warned_once_twenty_seconds_before_expiry() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(35), 7);
        let mut told = Vec::new();
        let mut now = start;
        loop {
            now = deadlines.next().max(now);
            match deadlines.due(now) {
                Due::TellSecondsLeft(left) => told.push(left),
                Due::Expired => break,
                other @ (Due::Close
                | Due::End
                | Due::HandOver(_)
                | Due::LastHandOver(_)
                | Due::Nothing) => panic!("{other:?}"),
            }
        }

        assert_eq!(now, start + seconds(35));
        assert_eq!(told[0], 20);
        assert!(told.len() <= 2, "{told:?}");
    }

    #[test]
    fn a_token_that_expires_soon_causes_no_warning_at_the_start() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(6), 7);
        assert_eq!(deadlines.due(start), Due::Nothing);
        assert_eq!(deadlines.next(), start + seconds(6));
        assert_eq!(deadlines.due(start + seconds(6)), Due::Expired);
    }

    #[test]
    fn an_up_to_date_stream_closes_when_set() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        deadlines.close_at(start + seconds(2));
        assert_eq!(deadlines.next(), start + seconds(2));
        assert_eq!(deadlines.due(start + seconds(2)), Due::Close);
    }

    #[test]
    fn a_sending_stream_is_handed_over_once_before_its_end() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        deadlines.end_by(start, start + seconds(100));

        for (milliseconds, expected) in [
            (74_999, Due::Nothing),
            (75_000, Due::HandOver(20)),
            (99_999, Due::Nothing),
            (100_000, Due::End),
        ] {
            let now = start + Duration::from_millis(milliseconds);
            assert_eq!(deadlines.due_while_sending(now), expected, "{milliseconds}");
        }
    }

    #[test]
    fn a_short_stream_is_handed_over_at_half_its_time() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        deadlines.end_by(start, start + seconds(6));
        assert_eq!(deadlines.due_while_sending(start), Due::Nothing);
        assert_eq!(deadlines.due_while_sending(start + seconds(3)), Due::HandOver(20));
        assert_eq!(deadlines.due_while_sending(start + seconds(6)), Due::End);
    }

    #[test]
    fn a_stream_whose_line_takes_until_its_end_is_handed_over_there() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        deadlines.end_by(start, start + seconds(100));
        assert_eq!(deadlines.due_while_sending(start + seconds(74)), Due::Nothing);
        assert_eq!(deadlines.due_while_sending(start + seconds(101)), Due::LastHandOver(20));
        assert_eq!(deadlines.due_while_sending(start + seconds(102)), Due::End);
    }

    #[test]
    fn a_stream_near_another_limit_is_handed_over_once() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        deadlines.end_by(start, start + seconds(100));
        assert_eq!(deadlines.hand_over(), Due::HandOver(20));
        assert_eq!(deadlines.hand_over(), Due::Nothing);
        assert_eq!(deadlines.due_while_sending(start + seconds(75)), Due::Nothing);
    }

    #[test]
    fn an_up_to_date_stream_closes_without_a_hand_over() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(3_600), 7);
        deadlines.end_by(start, start + seconds(30));
        assert_eq!(deadlines.next(), start + seconds(15));
        assert_eq!(deadlines.due(start + seconds(15)), Due::End);
    }

    #[test]
    fn an_expiry_before_the_end_comes_first() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, seconds(30), 7);
        deadlines.end_by(start, start + seconds(100));
        assert_eq!(deadlines.due_while_sending(start + seconds(30)), Due::Expired);
    }
}
