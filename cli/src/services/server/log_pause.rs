//! Log lines about trouble that clients may cause at any rate.

use std::time::Duration;

use tokio::time::Instant;

/// Minimum time between two log lines about the same trouble, which a client may cause at any rate.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The time of the last log line about some trouble.
#[derive(Debug, Default)]
pub(super) struct LogPause(Option<Instant>);

impl LogPause {
    /// Returns whether enough time has passed to log again, and begins another pause if so.
    pub(super) fn may_log(&mut self) -> bool {
        let now = Instant::now();
        let may_log = self.0.is_none_or(|last| now - last >= LOG_INTERVAL);
        if may_log {
            self.0 = Some(now);
        }
        may_log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_logged_now_and_then() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let mut pause = LogPause::default();
        assert!(pause.may_log());
        assert!(!pause.may_log());
    }
}
