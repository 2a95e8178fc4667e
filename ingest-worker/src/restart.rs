//! Decides whether another run follows one that failed, and after which pause.

use std::time::Duration;

/// Pause before the next run. It is doubled with each failure, up to the maximum.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause: a source that is back is noticed within this time.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A run that has failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedRun<R> {
    /// True if it had taken over the store.
    pub(crate) has_begun: bool,
    /// True if it had committed anything since.
    pub(crate) has_committed: bool,
    /// The time since its start.
    pub(crate) lasted: Duration,
    /// True if another run may succeed without anyone fixing anything.
    pub(crate) is_repeatable: bool,
    /// The reason for which the next run copies something again, if that is why it failed.
    pub(crate) copy_reason: Option<R>,
}

/// The state of a worker between its runs.
#[derive(Debug)]
pub(crate) struct RestartPolicy<R> {
    has_run: bool,
    pause: Duration,
    copy_reason: Option<R>,
}

impl<R: Copy + PartialEq> RestartPolicy<R> {
    pub(crate) fn new() -> Self {
        Self { has_run: false, pause: PAUSE_MIN, copy_reason: None }
    }

    /// Returns the reason for which the next run copies something again.
    pub(crate) fn copy_reason(&self) -> Option<R> {
        self.copy_reason
    }

    /// Notes that a run has failed. Returns the pause before the next one, or `None` if the worker
    /// ends with the error.
    pub(crate) fn pause_after(&mut self, failed: FailedRun<R>) -> Option<Duration> {
        self.has_run |= failed.has_begun;

        // Only a commit ends a series of failures: a run that takes the store over and then fails, again
        // and again, would take an epoch each time. And what is copied again and again must not be
        // copied without a rest.
        let is_again = failed.copy_reason.is_some() && failed.copy_reason == self.copy_reason;
        if failed.has_committed && (!is_again || failed.lasted > PAUSE_MAX) {
            self.pause = PAUSE_MIN;
        }
        // An attempt that could not begin has copied nothing, so the reason stays.
        if failed.has_begun || failed.copy_reason.is_some() {
            self.copy_reason = failed.copy_reason;
        }

        // The very first attempt must succeed: whoever starts a worker wants to hear of a wrong
        // address at once.
        if !self.has_run || !failed.is_repeatable {
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that worked for a while and then lost its connection.
    const LOST: FailedRun<u32> = FailedRun {
        has_begun: true,
        has_committed: true,
        lasted: Duration::from_secs(1),
        is_repeatable: true,
        copy_reason: None,
    };
    /// An attempt that did not get as far as that.
    const UNREACHABLE: FailedRun<u32> =
        FailedRun { has_begun: false, has_committed: false, ..LOST };
    /// A run that took the store over and committed nothing.
    const FRUITLESS: FailedRun<u32> = FailedRun { has_committed: false, ..LOST };

    fn changed(table: u32) -> FailedRun<u32> {
        FailedRun { copy_reason: Some(table), ..LOST }
    }

    /// Returns the pauses after each of these runs, in milliseconds.
    fn pauses(runs: &[FailedRun<u32>]) -> Vec<Option<u128>> {
        let mut policy = RestartPolicy::new();
        runs.iter().map(|&run| policy.pause_after(run).map(|pause| pause.as_millis())).collect()
    }

    #[test]
    fn the_first_attempt_must_succeed() {
        assert_eq!(pauses(&[UNREACHABLE]), [None]);
        assert_eq!(pauses(&[LOST, UNREACHABLE]), [Some(250), Some(500)]);
    }

    #[test]
    fn an_error_that_somebody_must_fix_ends_the_worker() {
        let fatal = FailedRun { is_repeatable: false, ..LOST };
        assert_eq!(pauses(&[fatal]), [None]);
        assert_eq!(pauses(&[LOST, FailedRun { has_begun: false, ..fatal }]), [Some(250), None]);
    }

    #[test]
    fn the_pause_is_doubled_up_to_its_maximum_until_a_run_commits() {
        let mut runs = vec![LOST];
        runs.extend([UNREACHABLE; 7]);
        runs.push(LOST);
        assert_eq!(
            pauses(&runs),
            [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 250].map(Some)
        );
    }

    #[test]
    fn a_start_without_a_commit_does_not_shorten_the_pause() {
        assert_eq!(
            pauses(&[FRUITLESS, FRUITLESS, UNREACHABLE, FRUITLESS, LOST]),
            [250, 500, 1_000, 2_000, 250].map(Some)
        );
    }

    #[test]
    fn a_table_that_changes_again_and_again_is_copied_with_growing_pauses() {
        assert_eq!(pauses(&[changed(7); 4]), [250, 500, 1_000, 2_000].map(Some));
        assert_eq!(pauses(&[changed(7), changed(8), changed(7)]), [250; 3].map(Some));

        let after_long_work = FailedRun { lasted: Duration::from_secs(11), ..changed(7) };
        assert_eq!(pauses(&[changed(7), after_long_work]), [250; 2].map(Some));
    }

    #[test]
    fn a_changed_table_is_remembered_until_a_run_has_begun() {
        let mut policy = RestartPolicy::new();
        policy.pause_after(changed(7));
        assert_eq!(policy.copy_reason(), Some(7));
        policy.pause_after(UNREACHABLE);
        assert_eq!(policy.copy_reason(), Some(7), "it was not copied yet");
        policy.pause_after(LOST);
        assert_eq!(policy.copy_reason(), None);
    }
}
