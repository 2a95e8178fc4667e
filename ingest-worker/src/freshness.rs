//! The last moment as of which readers are known to see everything that the source has committed.
//!
//! One number answers how late readers are: the time since this moment. It is near zero while the
//! source is idle, and grows while the worker is behind, cannot reach the source or the store, or
//! holds the checkpoint back for a copy.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The moment, shared by the runs of a worker: it outlives the connections.
#[derive(Clone, Debug)]
pub(crate) struct Freshness(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    current_as_of: Instant,
    /// False until a run of this process knew the moment by itself.
    is_known: bool,
}

impl Freshness {
    /// Creates the value of a process that knows nothing yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { current_as_of: Instant::now(), is_known: false })))
    }

    /// Takes over what a former process has stored: the moment was `age` ago.
    pub(crate) fn restore(&self, age: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = Instant::now().checked_sub(age);
        if let Some(stored) = stored.filter(|_| !state.is_known) {
            state.current_as_of = stored;
        }
    }

    /// Notes that readers see everything that the source had at `moment`.
    pub(crate) fn advance_to(&self, moment: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What a former process has stored is an estimate by another clock, and is replaced.
        state.current_as_of = if state.is_known { state.current_as_of.max(moment) } else { moment };
        state.is_known = true;
    }

    /// Returns the time since the moment.
    pub(crate) fn age(&self) -> Duration {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.current_as_of.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_age_grows_until_the_moment_advances() {
        let freshness = Freshness::new();
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(freshness.age(), 5 * SECOND);
        freshness.advance_to(Instant::now() - SECOND);
        assert_eq!(freshness.age(), SECOND);
        freshness.advance_to(Instant::now() - 3 * SECOND);
        assert_eq!(freshness.age(), SECOND, "knowledge is not lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stored_moment_counts_until_the_process_knows_better() {
        tokio::time::advance(1_000 * SECOND).await;
        let freshness = Freshness::new();
        freshness.restore(60 * SECOND);
        assert_eq!(freshness.age(), 60 * SECOND);
        freshness.advance_to(Instant::now() - 90 * SECOND);
        assert_eq!(freshness.age(), 90 * SECOND);
        freshness.restore(SECOND);
        assert_eq!(freshness.age(), 90 * SECOND);
    }
}
