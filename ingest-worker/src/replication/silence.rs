//! Detects that the server has become silent: the connection is open, and nothing comes through it.
//!
//! A TCP connection whose other end is gone, or a proxy that forwards nothing, shows no error. The
//! server sends a keepalive after half of its timeout, however idle it is, so silence for the whole
//! timeout means that the connection is of no use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgwire_replication::ReplicationMetrics;
use tokio::time::Instant;

use crate::source::slot::EVENTS_BUFFERED_MAX;

/// Share of the timeout between two looks at the stream.
const CHECKS_PER_TIMEOUT: u32 = 8;

/// Counts what the stream delivers, beside the loop that takes it: the loop may be waiting for a
/// query over another connection that is as silent.
#[derive(Clone)]
pub(crate) struct SilenceDetector {
    timeout: Duration,
    delivered: Arc<ReplicationMetrics>,
    taken: Arc<AtomicU64>,
}

impl SilenceDetector {
    pub(crate) fn new(timeout: Duration, delivered: Arc<ReplicationMetrics>) -> Self {
        Self { timeout, delivered, taken: Arc::default() }
    }

    /// Notes that the loop has taken an event.
    pub(crate) fn note_taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns, with the timeout, once the server has been silent for it.
    pub(crate) async fn silence(self) -> Duration {
        let mut silence = Silence { delivered: 0, since: Instant::now() };
        loop {
            tokio::time::sleep(self.timeout / CHECKS_PER_TIMEOUT).await;
            let taken = self.taken.load(Ordering::Relaxed);
            let delivered = self.delivered.events_forwarded();
            if silence.duration(delivered, taken, Instant::now()) >= self.timeout {
                return self.timeout;
            }
        }
    }
}

/// The time since which nothing was delivered.
struct Silence {
    delivered: u64,
    since: Instant,
}

impl Silence {
    /// Returns for how long the server has been silent. While the driver's buffer is full, it reads
    /// nothing, so that nobody knows whether the server is. A few events that wait to be taken are no
    /// sign of life: the loop may be waiting for an answer over the session that is as silent.
    fn duration(&mut self, delivered: u64, taken: u64, now: Instant) -> Duration {
        let is_buffer_full = delivered.saturating_sub(taken) >= EVENTS_BUFFERED_MAX as u64;
        if delivered != self.delivered || is_buffer_full {
            self.delivered = delivered;
            self.since = now;
        }
        now - self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_begins_with_the_last_event() {
        let start = Instant::now();
        let mut silence = Silence { delivered: 0, since: start };
        assert_eq!(silence.duration(0, 0, start + 3 * SECOND), 3 * SECOND);
        assert_eq!(silence.duration(1, 1, start + 4 * SECOND), Duration::ZERO);
        assert_eq!(silence.duration(1, 1, start + 9 * SECOND), 5 * SECOND);
    }

    #[test]
    fn a_full_buffer_is_no_silence() {
        let start = Instant::now();
        let mut silence = Silence { delivered: 0, since: start };
        let full = EVENTS_BUFFERED_MAX as u64;
        assert_eq!(silence.duration(full, 0, start + SECOND), Duration::ZERO);
        assert_eq!(silence.duration(full, 0, start + 60 * SECOND), Duration::ZERO);
        assert_eq!(silence.duration(full, 1, start + 61 * SECOND), SECOND);
    }

    /// The loop waits for a query, and an event has arrived meanwhile.
    #[test]
    fn an_event_that_waits_to_be_taken_does_not_end_the_silence() {
        let start = Instant::now();
        let mut silence = Silence { delivered: 0, since: start };
        assert_eq!(silence.duration(1, 0, start + SECOND), Duration::ZERO);
        assert_eq!(silence.duration(1, 0, start + 9 * SECOND), 8 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_delivers_nothing_is_silent_after_the_timeout() {
        let detector = SilenceDetector::new(8 * SECOND, Arc::default());
        let begun = Instant::now();
        assert_eq!(detector.silence().await, 8 * SECOND);
        assert_eq!(begun.elapsed(), 8 * SECOND);
    }
}
