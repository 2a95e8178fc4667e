//! The views of one process, shared by its streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::gauge;
use tidewater_protocol::{Epoch, OpId};
use tidewater_storage::{ClosedEpoch, Control, ControlStore};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::CheckpointError;
use super::generation::GenerationCache;
use super::view::CheckpointView;
use crate::metrics::CHECKPOINT_AGE;

/// The newest view of the store, taken when a stream needs it.
pub(crate) struct ViewCache<S> {
    storage: S,
    generations: GenerationCache,
    cached: Mutex<Cached>,
    /// Number of reads of the control record that have begun.
    reads_begun: AtomicU64,
}

#[derive(Default)]
struct Cached {
    /// The number of the read that the view is from.
    last_read: u64,
    view: Option<Arc<CheckpointView>>,
    archive: Option<Archive>,
    /// The newest visible op id, and when this process first saw it.
    newest_op: Option<(OpId, Instant)>,
}

impl Cached {
    fn record_checkpoint_age(&self) {
        if let Some((_, first_seen)) = self.newest_op {
            gauge!(CHECKPOINT_AGE).set(first_seen.elapsed().as_secs_f64());
        }
    }
}

/// The archived epochs, as they were while `epoch` was the current one.
struct Archive {
    epoch: Epoch,
    closed: Vec<ClosedEpoch>,
}

impl<S: ControlStore> ViewCache<S> {
    /// Creates a cache that has read nothing yet.
    pub(crate) fn new(storage: S) -> Self {
        Self {
            storage,
            generations: GenerationCache::default(),
            cached: Mutex::default(),
            reads_begun: AtomicU64::new(0),
        }
    }

    /// Returns the newest view. Streams that ask together share one read.
    ///
    /// # Errors
    /// `NotReady` while no checkpoint is visible.
    pub(crate) async fn latest(&self) -> Result<Arc<CheckpointView>, CheckpointError> {
        let begun = self.reads_begun.load(Ordering::Relaxed);
        let mut cached = self.cached.lock().await;

        // A read that began after this call is as good as one of its own.
        if cached.last_read > begun
            && let Some(view) = &cached.view
        {
            return Ok(Arc::clone(view));
        }
        self.read(&mut cached).await
    }

    /// Returns the newest view, with catalogs that were read within the last seconds: for a client that
    /// needs one. Clients that ask together share the reads.
    ///
    /// # Errors
    /// `NotReady` while no checkpoint is visible.
    pub(crate) async fn with_young_catalogs(&self) -> Result<Arc<CheckpointView>, CheckpointError> {
        let mut cached = self.cached.lock().await;
        let view = self.read(&mut cached).await?;
        if !view.has_old_catalogs() {
            return Ok(view);
        }
        let view = Arc::new(view.without_catalogs(Instant::now()));
        cached.view = Some(Arc::clone(&view));
        Ok(view)
    }

    /// Returns the newest view, and forgets what was read at its checkpoint before. Catalogs change
    /// while checkpoints stay.
    ///
    /// # Errors
    /// `NotReady` while no checkpoint is visible.
    pub(crate) async fn reread(&self) -> Result<Arc<CheckpointView>, CheckpointError> {
        let mut cached = self.cached.lock().await;
        cached.view = None;
        self.read(&mut cached).await
    }

    /// Returns the newest view, for the follower of the control record.
    ///
    /// # Errors
    /// `NotReady` while no checkpoint is visible.
    pub(crate) async fn advance(&self) -> Result<Arc<CheckpointView>, CheckpointError> {
        let mut cached = self.cached.lock().await;
        self.read(&mut cached).await
    }

    /// Reads the control record. The cache is locked, so the record is never older than one that was read
    /// before.
    async fn read(&self, cached: &mut Cached) -> Result<Arc<CheckpointView>, CheckpointError> {
        let number = self.reads_begun.fetch_add(1, Ordering::Relaxed) + 1;
        let control = self.storage.control().await?;
        let view = self.view_of(cached, control).await?;
        cached.last_read = number;
        Ok(view)
    }

    /// Records the age of the newest visible checkpoint. Idle streams call this, so that the metric
    /// grows while no checkpoint comes. A cache that is in use records it by itself.
    pub(crate) fn record_checkpoint_age(&self) {
        if let Ok(cached) = self.cached.try_lock() {
            cached.record_checkpoint_age();
        }
    }

    /// Returns the view of a control record: the cached one, if it is of the same record.
    async fn view_of(
        &self,
        cached: &mut Cached,
        control: Option<Control>,
    ) -> Result<Arc<CheckpointView>, CheckpointError> {
        let control = control.ok_or(CheckpointError::NotReady)?;
        if let Some(visible) = &control.visible
            && cached.newest_op.is_none_or(|(op, _)| op != visible.at.op)
        {
            cached.newest_op = Some((visible.at.op, Instant::now()));
        }
        cached.record_checkpoint_age();

        if let Some(view) = &cached.view
            && view.is_of(&control)
        {
            return Ok(Arc::clone(view));
        }

        let visible = control.visible.clone().ok_or(CheckpointError::NotReady)?;
        let generation = async { self.generations.get(&self.storage, visible.generation).await };

        // The worker archives an epoch before the control record drops it, and the record was read
        // first. So each closed epoch is in the record, in the archive, or in both.
        let has_archive =
            cached.archive.as_ref().is_some_and(|archive| archive.epoch == control.epoch);
        let generation = if has_archive {
            generation.await?
        } else {
            // A process that starts waits for both, so they are read together.
            let archive = async { Ok(self.storage.archived_epochs().await?) };
            let (generation, closed) = tokio::try_join!(generation, archive)?;
            cached.archive = Some(Archive { epoch: control.epoch, closed });
            generation
        };
        let closed = cached.archive.as_ref().map_or(&[][..], |archive| &archive.closed);
        let committed_ops = control.committed_ops(closed);

        let former = cached.view.as_deref();
        let now = Instant::now();
        let view = CheckpointView::new(&control, visible, committed_ops, generation, former, now);
        let view = Arc::new(view);
        cached.view = Some(Arc::clone(&view));
        Ok(view)
    }
}

#[cfg(test)]
mod tests;
