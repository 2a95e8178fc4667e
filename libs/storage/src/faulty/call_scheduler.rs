//! Admits calls one at a time, under the control of a test.

use tokio::sync::{Semaphore, watch};

/// A scheduler that stops every call of a [`super::Faulty`] store until the test admits it. A test can
/// so choose the order of calls by several users of one store.
#[derive(Debug)]
pub struct CallScheduler {
    turns: Semaphore,
    calls: watch::Sender<Calls>,
}

/// The numbers of calls by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Calls {
    /// The number of calls since the start.
    arrived: u64,
    waiting: usize,
    /// The number of calls that were admitted and have not started yet.
    admitted: usize,
    in_flight: usize,
}

/// A waiting call, until it is dropped: callers may be cancelled.
struct Waiting<'a>(&'a CallScheduler);

impl Calls {
    fn are_at_rest(&self) -> bool {
        self.waiting > 0 && self.admitted == 0 && self.in_flight == 0
    }
}

/// A call in flight, until it is dropped.
pub(super) struct Passed<'a>(&'a CallScheduler);

impl Default for CallScheduler {
    fn default() -> Self {
        Self { turns: Semaphore::new(0), calls: watch::Sender::default() }
    }
}

impl CallScheduler {
    /// Admits one call: the one that has waited longest, or the next one.
    pub fn admit_one(&self) {
        self.calls.send_modify(|calls| calls.admitted += 1);
        self.turns.add_permits(1);
    }

    /// Admits all calls from now on.
    pub fn admit_all(&self) {
        self.turns.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Waits until no call is in flight and at least one waits. Then nothing happens before the next
    /// admission.
    pub async fn wait_until_idle(&self) {
        // It cannot close: the sender lives as long as `self`.
        let _ = self.calls.subscribe().wait_for(Calls::are_at_rest).await;
    }

    /// Returns whether the store is idle now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.borrow().are_at_rest()
    }

    /// Waits until this number of calls have come since the start.
    pub async fn wait_for_calls(&self, calls: u64) {
        // The channel stays open, as above.
        let _ = self.calls.subscribe().wait_for(|now| now.arrived >= calls).await;
    }

    pub(super) async fn pass(&self) -> Passed<'_> {
        let waiting = Waiting::new(self);
        if let Ok(turn) = self.turns.acquire().await {
            turn.forget();
        }
        self.calls.send_modify(|calls| {
            calls.admitted = calls.admitted.saturating_sub(1);
            calls.in_flight += 1;
        });
        drop(waiting);
        Passed(self)
    }
}

impl<'a> Waiting<'a> {
    fn new(scheduler: &'a CallScheduler) -> Self {
        scheduler.calls.send_modify(|calls| {
            calls.arrived += 1;
            calls.waiting += 1;
        });
        Self(scheduler)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.calls.send_modify(|calls| calls.waiting -= 1);
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        self.0.calls.send_modify(|calls| calls.in_flight -= 1);
    }
}
