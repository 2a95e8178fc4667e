//! Backoff between the calls of a batch that DynamoDB leaves partly unprocessed.

use std::time::Duration;

/// The upper limit of the first pause, and of the longest. They are those of the SDK's own retries.
const FIRST: Duration = Duration::from_millis(25);
const LONGEST: Duration = Duration::from_secs(2);

/// Number of repetitions without progress after which a caller fails. The pauses take 5 seconds on
/// average, as the SDK's retries of one call do.
const REPETITIONS_MAX: u32 = 10;

/// Exponential backoff with full jitter: callers that were throttled together do not retry together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    repetitions: u32,
}

impl Backoff {
    /// Pauses and returns true, or returns false immediately after too many repetitions.
    pub(crate) async fn pause(&mut self) -> bool {
        if self.repetitions == REPETITIONS_MAX {
            return false;
        }
        tokio::time::sleep(self.longest().mul_f64(rand::random())).await;
        self.repetitions += 1;
        true
    }

    /// Starts again with a short pause, because a part of the batch was processed.
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
    async fn it_ends_after_repetitions_without_progress() {
        let mut backoff = Backoff::default();
        let began = tokio::time::Instant::now();
        while backoff.pause().await {}
        assert!(began.elapsed() < LONGEST * REPETITIONS_MAX);
        backoff.progressed();
        assert!(backoff.pause().await);
    }

    #[test]
    fn a_pause_doubles_up_to_a_limit() {
        let longest = [0, 1, 9].map(|repetitions| Backoff { repetitions }.longest());
        assert_eq!(longest, [FIRST, FIRST * 2, LONGEST]);
    }
}
