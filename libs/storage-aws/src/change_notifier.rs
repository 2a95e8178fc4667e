//! Notification of waiting calls: immediate for writes of this process, by polling for others.

use std::time::Duration;

use tidewater_storage::{StorageError, Ticket};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// The poll interval of the control record while a call waits.
const CONTROL_INTERVAL: Duration = Duration::from_millis(250);

/// The poll intervals of the ticket counter: for a while after a ticket was taken, and otherwise.
const TICKET_INTERVAL_BUSY: Duration = Duration::from_millis(50);
const TICKET_INTERVAL_IDLE: Duration = Duration::from_millis(500);
const BUSY_FOR: Duration = Duration::from_secs(30);

/// One number that rises, as far as this process knows, and those who wait for it.
///
/// Whoever waits takes part in the polling: one of the waiters looks, for all of them, and when it
/// leaves another takes over. So nothing is polled when nobody waits, and nothing outlives them.
#[derive(Debug)]
pub(crate) struct Watched {
    newest: watch::Sender<u64>,
    pace: Mutex<PollSchedule>,
}

#[derive(Debug)]
struct PollSchedule {
    busy: Duration,
    idle: Duration,
    /// The last look, and the last one that found a change.
    looked: Option<Instant>,
    changed: Option<Instant>,
}

/// The values that this process watches.
#[derive(Debug)]
pub(crate) struct ChangeNotifier {
    /// Revision of the control record; 0 is "none".
    pub(crate) control: Watched,
    tickets: Watched,
}

impl ChangeNotifier {
    pub(crate) fn new() -> Self {
        Self {
            control: Watched::new(CONTROL_INTERVAL, CONTROL_INTERVAL),
            tickets: Watched::new(TICKET_INTERVAL_BUSY, TICKET_INTERVAL_IDLE),
        }
    }

    /// The last ticket.
    pub(crate) fn tickets(&self) -> &Watched {
        &self.tickets
    }

    pub(crate) fn ticket_advanced_to(&self, ticket: Ticket) {
        self.tickets.advance_to(ticket.0);
    }
}

impl Watched {
    fn new(busy: Duration, idle: Duration) -> Self {
        let pace = PollSchedule { busy, idle, looked: None, changed: None };
        Self { newest: watch::Sender::new(0), pace: Mutex::new(pace) }
    }

    /// It is at least this now.
    pub(crate) fn advance_to(&self, number: u64) {
        self.newest.send_if_modified(|newest| {
            let raised = number > *newest;
            *newest = number.max(*newest);
            raised
        });
    }

    /// The greatest that this process has seen.
    pub(crate) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Returns once it is greater than `seen`, or after `patience`; `look` tells what is stored.
    ///
    /// # Errors
    /// When looking fails.
    pub(crate) async fn wait<F: Future<Output = Result<u64, StorageError>>>(
        &self,
        seen: u64,
        patience: Duration,
        look: impl Fn() -> F,
    ) -> Result<(), StorageError> {
        let mut newest = self.newest.subscribe();
        let waiting = async {
            tokio::select! {
                // The sender lives as long as `self`.
                _ = newest.wait_for(|&newest| newest > seen) => Ok(()),
                polled = self.poll(look) => polled,
            }
        };
        timeout(patience, waiting).await.unwrap_or(Ok(()))
    }

    /// Looks again and again, once it is this waiter's turn; ends only by an error.
    async fn poll<F: Future<Output = Result<u64, StorageError>>>(
        &self,
        look: impl Fn() -> F,
    ) -> Result<(), StorageError> {
        let mut pace = self.pace.lock().await;
        loop {
            if let Some(next) = pace.next() {
                sleep_until(next).await;
            }
            pace.looked = Some(Instant::now());
            let found = look().await?;
            if found > self.newest() {
                pace.changed = pace.looked;
                self.advance_to(found);
            }
        }
    }
}

impl PollSchedule {
    /// Returns the time of the next poll.
    fn next(&self) -> Option<Instant> {
        let looked = self.looked?;
        let busy = self.changed.is_some_and(|changed| looked < changed + BUSY_FOR);
        Some(looked + if busy { self.busy } else { self.idle })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn waiters_share_their_looks() {
        let (watched, looks) = (Watched::new(CONTROL_INTERVAL, CONTROL_INTERVAL), Cell::new(0_u32));
        let look = async || {
            looks.set(looks.get() + 1);
            Ok(0)
        };
        let patience = CONTROL_INTERVAL * 10;
        let waiters = (0..50).map(|_| watched.wait(0, patience, look));
        futures::future::try_join_all(waiters).await.unwrap();
        // One at once, and one at each interval; the last may fall together with the end.
        assert!((10..=11).contains(&looks.get()), "{}", looks.get());
    }

    #[tokio::test(start_paused = true)]
    async fn another_waiter_takes_over() {
        let (watched, stored) = (Watched::new(CONTROL_INTERVAL, CONTROL_INTERVAL), Cell::new(0));
        let look = async || Ok(stored.get());
        let impatient = watched.wait(0, CONTROL_INTERVAL, look);
        let patient = watched.wait(0, LONG, look);
        let writer = async {
            tokio::time::sleep(CONTROL_INTERVAL * 5).await;
            stored.set(1);
        };
        let began = Instant::now();
        let (one, other, ()) = tokio::join!(impatient, patient, writer);
        assert!(one.is_ok() && other.is_ok());
        assert!(began.elapsed() <= CONTROL_INTERVAL * 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_of_this_process_wakes_at_once() {
        let watched = Watched::new(TICKET_INTERVAL_BUSY, LONG);
        let began = Instant::now();
        let (waited, ()) = tokio::join!(watched.wait(6, LONG * 2, async || Ok(6)), async {
            tokio::task::yield_now().await;
            watched.advance_to(7);
        });
        assert!(waited.is_ok());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_are_closer_for_a_while_after_a_change() {
        let changes = ChangeNotifier::new();
        let looks = Cell::new(0_u32);
        let count = async || {
            looks.set(looks.get() + 1);
            Ok(1)
        };
        let in_10_s = async || {
            let before = looks.get();
            changes.tickets().wait(1, Duration::from_secs(10), count).await.unwrap();
            looks.get() - before
        };
        // Its first look finds the change from 0 to 1.
        for busy in [true, true, true, false] {
            let looks = in_10_s().await;
            assert_eq!(looks > 150, busy, "{looks}");
            assert!(looks > 15, "{looks}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_look_takes_nothing_back() {
        let watched = Watched::new(CONTROL_INTERVAL, CONTROL_INTERVAL);
        watched.advance_to(5);
        watched.wait(5, CONTROL_INTERVAL * 3, async || Ok(3)).await.unwrap();
        assert_eq!(watched.newest(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_look_is_an_error() {
        let watched = Watched::new(CONTROL_INTERVAL, CONTROL_INTERVAL);
        let fails = async || Err(StorageError::Unavailable("down".into()));
        assert!(watched.wait(5, LONG, fails).await.is_err());
    }
}
