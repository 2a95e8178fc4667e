//! Notification of waiting calls: immediate for writes of this process, by polling for others.

use std::time::Duration;

use tidewater_storage::{StorageError, Ticket};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// The poll interval of the control record while a call waits.
const CONTROL_INTERVAL: Duration = Duration::from_millis(250);

/// The poll intervals of the ticket counter: for a while after a ticket was taken, for some time more, and
/// after that. A deployment that nobody uses polls all day. At $0.125 for a million read units, its polls
/// cost 8 cents a month, and four times as much at the interval before.
const TICKET_INTERVALS: PollIntervals = PollIntervals {
    busy: Duration::from_millis(50),
    idle: Duration::from_millis(500),
    quiet: Duration::from_secs(2),
};
const BUSY_FOR: Duration = Duration::from_secs(30);
const IDLE_FOR: Duration = Duration::from_secs(5 * 60);

/// The times between two polls, by the time since the last change.
#[derive(Clone, Copy, Debug)]
struct PollIntervals {
    /// Up to `BUSY_FOR` after a change.
    busy: Duration,
    /// Up to `IDLE_FOR` after a change, or after the start.
    idle: Duration,
    /// After that.
    quiet: Duration,
}

impl PollIntervals {
    const fn always(interval: Duration) -> Self {
        Self { busy: interval, idle: interval, quiet: interval }
    }
}

/// The newest known value of a stored number that only increases.
///
/// One of the waiting calls polls on behalf of all. When it ends, another one takes over. So nothing is
/// polled while no call waits, and no task remains.
#[derive(Debug)]
pub(crate) struct Watched {
    newest: watch::Sender<u64>,
    schedule: Mutex<PollSchedule>,
}

#[derive(Debug)]
struct PollSchedule {
    intervals: PollIntervals,
    created: Instant,
    /// The time of the last poll.
    polled: Option<Instant>,
    /// The time of the last poll that found a change.
    changed: Option<Instant>,
}

/// The values that this process watches.
#[derive(Debug)]
pub(crate) struct ChangeNotifier {
    /// The revision of the control record; 0 if there is none.
    pub(crate) control: Watched,
    tickets: Watched,
}

impl ChangeNotifier {
    pub(crate) fn new() -> Self {
        Self {
            control: Watched::new(PollIntervals::always(CONTROL_INTERVAL)),
            tickets: Watched::new(TICKET_INTERVALS),
        }
    }

    /// Returns the last ticket.
    pub(crate) fn tickets(&self) -> &Watched {
        &self.tickets
    }

    pub(crate) fn ticket_advanced_to(&self, ticket: Ticket) {
        self.tickets.advance_to(ticket.0);
    }
}

impl Watched {
    fn new(intervals: PollIntervals) -> Self {
        let schedule =
            PollSchedule { intervals, created: Instant::now(), polled: None, changed: None };
        Self { newest: watch::Sender::new(0), schedule: Mutex::new(schedule) }
    }

    /// Raises the newest known value to this one, unless it is greater already.
    pub(crate) fn advance_to(&self, number: u64) {
        self.newest.send_if_modified(|newest| {
            let raised = number > *newest;
            *newest = number.max(*newest);
            raised
        });
    }

    /// Notes that the number was read otherwise: the next poll comes an interval later.
    pub(crate) fn note_read(&self, number: u64) {
        self.advance_to(number);
        // While a call polls, its next poll may come sooner than needed.
        if let Ok(mut schedule) = self.schedule.try_lock() {
            schedule.polled = Some(Instant::now());
        }
    }

    /// Returns the newest known value.
    pub(crate) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Waits until the number is greater than `seen`, at most for `limit`. `read` reads the stored
    /// number.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) async fn wait<F: Future<Output = Result<u64, StorageError>>>(
        &self,
        seen: u64,
        limit: Duration,
        read: impl Fn() -> F,
    ) -> Result<(), StorageError> {
        let mut newest = self.newest.subscribe();
        let waiting = async {
            tokio::select! {
                // The sender lives as long as `self`.
                _ = newest.wait_for(|&newest| newest > seen) => Ok(()),
                failed = self.poll(read) => failed,
            }
        };

        timeout(limit, waiting).await.unwrap_or(Ok(()))
    }

    /// Polls on behalf of all waiting calls, once no other call does. Ends only by an error.
    async fn poll<F: Future<Output = Result<u64, StorageError>>>(
        &self,
        read: impl Fn() -> F,
    ) -> Result<(), StorageError> {
        let mut schedule = self.schedule.lock().await;
        loop {
            if let Some(next) = schedule.next() {
                sleep_until(next).await;
            }

            schedule.polled = Some(Instant::now());
            let found = read().await?;
            if found > self.newest() {
                schedule.changed = schedule.polled;
                self.advance_to(found);
            }
        }
    }
}

impl PollSchedule {
    /// Returns the time of the next poll.
    fn next(&self) -> Option<Instant> {
        let polled = self.polled?;
        let PollIntervals { busy, idle, quiet } = self.intervals;
        let is_busy = self.changed.is_some_and(|changed| polled < changed + BUSY_FOR);
        let is_quiet = polled >= self.changed.unwrap_or(self.created) + IDLE_FOR;
        Some(
            polled
                + if is_busy {
                    busy
                } else if is_quiet {
                    quiet
                } else {
                    idle
                },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn waiting_calls_share_their_polls() {
        let watched = Watched::new(PollIntervals::always(CONTROL_INTERVAL));
        let polls = Cell::new(0_u32);
        let read = async || {
            polls.set(polls.get() + 1);
            Ok(0)
        };

        let waiting = (0..50).map(|_| watched.wait(0, CONTROL_INTERVAL * 10, read));
        futures::future::try_join_all(waiting).await.unwrap();

        // One poll immediately, and one in each interval. The last may coincide with the end.
        assert!((10..=11).contains(&polls.get()), "{}", polls.get());
    }

    #[tokio::test(start_paused = true)]
    async fn another_waiting_call_takes_over() {
        let watched = Watched::new(PollIntervals::always(CONTROL_INTERVAL));
        let stored = Cell::new(0);
        let read = async || Ok(stored.get());
        let short = watched.wait(0, CONTROL_INTERVAL, read);
        let long = watched.wait(0, LONG, read);
        let writer = async {
            tokio::time::sleep(CONTROL_INTERVAL * 5).await;
            stored.set(1);
        };

        let began = Instant::now();
        let (one, other, ()) = tokio::join!(short, long, writer);
        assert!(one.is_ok() && other.is_ok());
        assert!(began.elapsed() <= CONTROL_INTERVAL * 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_of_this_process_wakes_a_call_immediately() {
        let watched = Watched::new(TICKET_INTERVALS);
        let began = Instant::now();
        let (waited, ()) = tokio::join!(watched.wait(6, LONG * 2, async || Ok(6)), async {
            tokio::task::yield_now().await;
            watched.advance_to(7);
        });
        assert!(waited.is_ok());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn polls_become_rarer_with_the_time_since_the_last_change() {
        let changes = ChangeNotifier::new();
        let polls = Cell::new(0_u32);
        let read = async || {
            polls.set(polls.get() + 1);
            Ok(1)
        };

        // The first poll finds the change from 0 to 1.
        let count_within = async |seconds| {
            let before = polls.get();
            changes.tickets().wait(1, Duration::from_secs(seconds), read).await.unwrap();
            polls.get() - before
        };
        assert!((590..=610).contains(&count_within(30).await));
        assert!((530..=550).contains(&count_within(270).await));
        assert!((1_790..=1_810).contains(&count_within(3_600).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_takes_the_place_of_a_poll() {
        let watched = Watched::new(PollIntervals::always(CONTROL_INTERVAL));
        let polls = Cell::new(0_u32);
        let read = async || {
            polls.set(polls.get() + 1);
            Ok(5)
        };
        watched.note_read(5);
        watched.wait(5, CONTROL_INTERVAL / 2, read).await.unwrap();
        assert_eq!(polls.get(), 0);
        watched.wait(5, CONTROL_INTERVAL, read).await.unwrap();
        assert_eq!(polls.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_read_does_not_lower_the_newest_value() {
        let watched = Watched::new(PollIntervals::always(CONTROL_INTERVAL));
        watched.advance_to(5);
        watched.wait(5, CONTROL_INTERVAL * 3, async || Ok(3)).await.unwrap();
        assert_eq!(watched.newest(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_poll_is_an_error() {
        let watched = Watched::new(PollIntervals::always(CONTROL_INTERVAL));
        let waited =
            watched.wait(5, LONG, async || Err(StorageError::Unavailable("down".into()))).await;
        assert!(waited.is_err());
    }
}
