//! The task that reads each new control record, and the registration by which a stream waits.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use metrics::counter;
use tidewater_protocol::ErrorChain;
use tidewater_storage::{ChangeName, ControlStore};
use tokio::task::AbortHandle;
use tracing::warn;

use super::index::{Changed, StreamId, StreamIndex};
use crate::checkpoint::{CheckpointError, CheckpointId, CheckpointView, ViewCache};
use crate::metrics::STREAMS_WOKEN;

/// Duration of one wait for a change. The age of the checkpoint is recorded in between.
const WAIT: Duration = Duration::from_secs(20);

/// Pause after a failed read, times the number of failures.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Number of failed reads in a row after which the streams are woken. Each then reads by itself, and is
/// cut if that fails, too: a client that is not told anything would believe that it is up to date.
const FAILED_READS_MAX: u32 = 3;

/// A change that concerns a stream, with the newest view.
pub(crate) struct Change {
    pub(crate) view: Arc<CheckpointView>,
    pub(crate) changed: Changed,
}

/// Follows the control record while there are streams.
///
/// The task exists only while a stream is open, so nothing runs outside of requests. It is not one of the
/// streams: those are pulled, and a client that does not read would stop all others.
pub(crate) struct Follower<S> {
    storage: S,
    views: Arc<ViewCache<S>>,
    state: Mutex<State>,
}

struct State {
    index: StreamIndex<Arc<CheckpointView>>,
    /// The task; `None` without streams.
    task: Option<AbortHandle>,
    /// The number of the task. One that was aborted may still be about to report what it has read.
    task_number: u64,
}

/// The place of a stream in the index, until it is dropped.
pub(crate) struct Registration<S: ControlStore> {
    follower: Arc<Follower<S>>,
    id: StreamId,
}

impl<S: ControlStore + 'static> Follower<S> {
    /// Creates a follower of a store, without streams.
    pub(crate) fn new(storage: S, views: Arc<ViewCache<S>>) -> Self {
        let state = State { index: StreamIndex::new(), task: None, task_number: 0 };
        Self { storage, views, state: Mutex::new(state) }
    }

    /// Adds a stream that depends on these names, as it has read them at the view.
    pub(crate) fn register(
        self: &Arc<Self>,
        names: Vec<ChangeName>,
        view: &Arc<CheckpointView>,
    ) -> Registration<S> {
        let mut state = self.lock();
        let id = state.index.insert(names, view.id(), view);
        if state.task.is_none() {
            state.task_number += 1;
            let number = state.task_number;
            let follower = Arc::clone(self);
            let task = tokio::spawn(async move { follower.run(number).await });
            state.task = Some(task.abort_handle());
        }
        Registration { follower: Arc::clone(self), id }
    }

    /// Follows until the task is aborted.
    async fn run(&self, number: u64) {
        let mut failures: u32 = 0;
        loop {
            let Some(newest) = self.lock().index.newest() else { return };
            match self.follow(newest, number).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    warn!(error = %ErrorChain(&error), failures, "cannot read the control record");
                    if failures.is_multiple_of(FAILED_READS_MAX) {
                        let woken = self.lock().index.wake_all(&Changed::Uncertain);
                        wake(woken);
                    }
                    tokio::time::sleep(RETRY_PAUSE * failures.min(10)).await;
                }
            }
        }
    }

    /// Waits for a change of the control record, and wakes the streams that it concerns.
    async fn follow(&self, newest: CheckpointId, number: u64) -> Result<(), CheckpointError> {
        self.storage.wait_for_control_change(newest.revision, WAIT).await?;
        let view = self.views.advance().await?;
        let id = view.id();
        if id.revision == newest.revision && id.run == newest.run {
            return Ok(());
        }

        let changes = view.changes.between(newest.revision, id.revision);
        let woken = {
            let mut state = self.lock();
            if state.task_number != number {
                return Ok(());
            }
            state.index.advance(id, Arc::clone(&view), changes)
        };
        wake(woken);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside would be a bug of the index. Streams that are not woken must not follow from
        // it, and all later calls work on whole streams.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: ControlStore> Registration<S> {
    /// Waits until something has changed for the stream. The change stays pending until
    /// [`Registration::replace`] or [`Registration::note_seen`], so the call may be cancelled.
    pub(crate) async fn changed(&self) -> Change {
        poll_fn(|context| {
            let mut state = self.follower.state.lock().unwrap_or_else(PoisonError::into_inner);
            match state.index.pending(self.id, context.waker()) {
                Some((view, changed)) => Poll::Ready(Change { view, changed }),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Replaces the names that the stream depends on by those that it has read at a checkpoint.
    pub(crate) fn replace(&self, names: Vec<ChangeName>, seen: CheckpointId) {
        let mut state = self.follower.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.index.replace(self.id, names, seen);
    }

    /// Notes that the stream knows everything that has changed up to a checkpoint.
    pub(crate) fn note_seen(&self, seen: CheckpointId) {
        let mut state = self.follower.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.index.note_seen(self.id, seen);
    }
}

impl<S: ControlStore> Drop for Registration<S> {
    fn drop(&mut self) {
        let mut state = self.follower.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.index.remove(self.id);
        if state.index.is_empty()
            && let Some(task) = state.task.take()
        {
            task.abort();
        }
    }
}

fn wake(streams: Vec<std::task::Waker>) {
    counter!(STREAMS_WOKEN).increment(streams.len() as u64);
    for stream in streams {
        stream.wake();
    }
}
