//! The wait after a failure.

use std::time::Duration;

use rand::Rng;

/// The longest wait after the first failure: long enough not to hurt a server that restarts, short
/// enough not to be noticed.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait at all. A device that was offline is current within a minute of its return.
const LONGEST: Duration = Duration::from_secs(60);

/// An exponential back-off with jitter.
///
/// The bound doubles from one second to one minute. Each wait is drawn from the bound's upper half,
/// so that devices that failed together do not come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts one more failure and returns the wait after it.
    pub(super) fn next(&mut self, random: &mut impl Rng) -> Duration {
        let doublings = self.failures.min(6);
        self.failures = self.failures.saturating_add(1);
        let longest = (FIRST * 2_u32.pow(doublings)).min(LONGEST);

        longest.mul_f64(random.random_range(0.5..=1.0))
    }

    /// Returns the number of failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}
