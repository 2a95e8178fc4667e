//! Repeats storage calls.

use std::time::Duration;

use tidewater_storage::StorageError;

use crate::metrics;

/// Attempts of a storage call before the run ends with its error. The pauses between them add up to
/// 2.4 s, which covers a failover or a burst of throttling. A longer outage ends the run, and the next
/// one begins a new epoch.
const ATTEMPTS_MAX: u32 = 6;
/// Pause before the second attempt; each later one is three times as long as the one before. Nothing
/// of it is random: a store has one worker, so no others return at the same moment, and a seed of the
/// simulation gives the same events each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Repeats a storage call while the store is unavailable. Every call of the ports is idempotent, so it
/// may also be repeated when its outcome is unknown.
pub(crate) async fn retry<T, F, Fut>(call: F) -> Result<T, StorageError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, StorageError>>,
{
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;

    loop {
        match call().await {
            Err(error) if error.may_pass() && attempt < ATTEMPTS_MAX => {
                tracing::debug!(attempt, %error, "storage call failed, retrying");
                metrics::count_storage_retry();
                attempt += 1;
                tokio::time::sleep(pause).await;
                pause *= 3;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    /// Returns how often a call is made that fails `failures` times with this error, and its result.
    async fn calls(failures: u32, error: fn() -> StorageError) -> (u32, Result<(), StorageError>) {
        let calls = Cell::new(0);
        let result = retry(|| {
            calls.set(calls.get() + 1);
            let is_failure = calls.get() <= failures;
            async move { if is_failure { Err(error()) } else { Ok(()) } }
        })
        .await;
        (calls.get(), result)
    }

    fn unavailable() -> StorageError {
        StorageError::Unavailable("throttled".into())
    }

    fn unknown() -> StorageError {
        StorageError::Unknown("timeout".into())
    }

    fn full() -> StorageError {
        StorageError::Full("disk".into())
    }

    fn refused() -> StorageError {
        StorageError::Refused("access denied".into())
    }

    fn damaged() -> StorageError {
        StorageError::Damaged("record", "cut".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_succeeds_is_made_once() {
        assert!(matches!(calls(0, unavailable).await, (1, Ok(()))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_while_the_store_is_unavailable_or_the_outcome_unknown() {
        assert!(matches!(calls(1, unavailable).await, (2, Ok(()))));
        assert!(matches!(calls(ATTEMPTS_MAX - 1, unknown).await, (ATTEMPTS_MAX, Ok(()))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_is_returned_after_all_attempts() {
        let start = Instant::now();
        let (calls, result) = calls(u32::MAX, unavailable).await;
        assert_eq!(calls, ATTEMPTS_MAX);
        assert!(matches!(result, Err(StorageError::Unavailable(_))));
        assert_eq!(start.elapsed(), Duration::from_millis(20 + 60 + 180 + 540 + 1_620));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_somebody_must_fix_is_not_repeated() {
        assert!(matches!(calls(1, full).await, (1, Err(StorageError::Full(_)))));
        assert!(matches!(calls(1, refused).await, (1, Err(StorageError::Refused(_)))));
        assert!(matches!(calls(1, damaged).await, (1, Err(StorageError::Damaged(..)))));
    }
}
