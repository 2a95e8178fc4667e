//! Waits for a condition by polling, the tests' only way to synchronise with another process.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// Interval between two probes: short in comparison with the delays of the system under test.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Polls `probe` until it returns a value.
///
/// An error of `probe` does not end the wait: the condition may still become true.
///
/// # Errors
/// Fails when `within` has passed, with `what` and the last error of `probe`.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let outcome = probe().await;
        if let Ok(Some(value)) = outcome {
            return Ok(value);
        }

        if Instant::now() >= deadline {
            match outcome {
                Err(reason) => return Err(reason.context(format!("waited {within:?} for {what}"))),
                Ok(_) => bail!("waited {within:?} for {what}"),
            }
        }
        sleep(POLL_INTERVAL).await;
    }
}
