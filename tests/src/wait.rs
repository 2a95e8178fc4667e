//! Waiting for a condition.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at: short against everything that is waited for.
const POLL: Duration = Duration::from_millis(10);

/// Looks again and again until `probe` gives a value.
///
/// # Errors
/// When the time is over, with `what` and the last reason that `probe` gave; an error of `probe`
/// is such a reason, not the end.
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
        sleep(POLL).await;
    }
}
