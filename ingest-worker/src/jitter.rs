//! Random parts of pauses, so that those who failed together do not return together.

use std::time::Duration;

/// Returns a random duration between half of the pause and all of it.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_and_stay_within_half_of_the_pause() {
        let pause = Duration::from_secs(10);
        let pauses: std::collections::HashSet<_> = (0..100).map(|_| jittered(pause)).collect();
        assert!(pauses.len() > 50, "{pauses:?}");
        assert!(pauses.iter().all(|one| (pause / 2..=pause).contains(one)));
    }
}
