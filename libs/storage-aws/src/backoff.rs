//! Pauses between repetitions.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(25);
const LONGEST: Duration = Duration::from_secs(2);

/// Repetitions without any progress, after which a caller gives up: 5 seconds on average.
const REPETITIONS_MAX: u32 = 10;

/// Doubles the pause each time, up to a bound, and takes a random part of it, so that those who
/// were refused together do not come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    repetitions: u32,
}

impl Backoff {
    /// Pauses; `false`, at once, when it is time to give up.
    pub(crate) async fn pause(&mut self) -> bool {
        if self.repetitions == REPETITIONS_MAX {
            return false;
        }
        tokio::time::sleep(self.longest().mul_f64(rand::random())).await;
        self.repetitions += 1;
        true
    }

    /// Something got done: the next pause is short again.
    pub(crate) fn progressed(&mut self) {
        self.repetitions = 0;
    }

    fn longest(&self) -> Duration {
        FIRST.saturating_mul(1 << self.repetitions).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_when_nothing_gets_done() {
        let (mut backoff, began) = (Backoff::default(), tokio::time::Instant::now());
        while backoff.pause().await {}
        assert!(began.elapsed() < LONGEST * REPETITIONS_MAX);
        backoff.progressed();
        assert!(backoff.pause().await);
    }

    #[test]
    fn a_pause_doubles_up_to_a_bound() {
        let longest = |repetitions| Backoff { repetitions }.longest();
        assert_eq!([longest(0), longest(1), longest(9)], [FIRST, FIRST * 2, LONGEST]);
    }
}
