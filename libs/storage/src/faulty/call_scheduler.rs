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
    /// Since the beginning.
    came: u64,
    waiting: usize,
    /// Turns that were given and not taken yet.
    given: usize,
    under_way: usize,
}

/// A call that waits, until it is dropped: callers may give up.
struct Waiting<'a>(&'a CallScheduler);

impl Calls {
    fn are_at_rest(&self) -> bool {
        self.waiting > 0 && self.given == 0 && self.under_way == 0
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
    /// Lets one call through: the one that has waited longest, or the next to come.
    pub fn admit_one(&self) {
        self.calls.send_modify(|calls| calls.given += 1);
        self.turns.add_permits(1);
    }

    /// Lets all calls through from now on.
    pub fn admit_all(&self) {
        self.turns.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Waits until no call is in flight and at least one waits. Then nothing happens before one is admitted.
    pub async fn wait_until_idle(&self) {
        // It cannot close: the sender lives as long as `self`.
        let _ = self.calls.subscribe().wait_for(Calls::are_at_rest).await;
    }

    /// Returns whether the store is idle now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.borrow().are_at_rest()
    }

    /// Waits until this many calls have come since the beginning.
    pub async fn wait_for_calls(&self, calls: u64) {
        // As above.
        let _ = self.calls.subscribe().wait_for(|now| now.came >= calls).await;
    }

    pub(super) async fn pass(&self) -> Passed<'_> {
        let waiting = Waiting::new(self);
        if let Ok(turn) = self.turns.acquire().await {
            turn.forget();
        }
        self.calls.send_modify(|calls| {
            calls.given = calls.given.saturating_sub(1);
            calls.under_way += 1;
        });
        drop(waiting);
        Passed(self)
    }
}

impl<'a> Waiting<'a> {
    fn new(scheduler: &'a CallScheduler) -> Self {
        scheduler.calls.send_modify(|calls| {
            calls.came += 1;
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
        self.0.calls.send_modify(|calls| calls.under_way -= 1);
    }
}
