//! The work on one bucket of the compaction queue.

use tidewater_storage::{
    Base, BucketHead, BucketItem, BucketStore, CommittedOps, CompactionQueue, CompactionTask,
    Control, ObjectStore, OpLog, ReadResult,
};
use tracing::{Instrument, info, info_span};

use crate::base_objects::delete_base;
use crate::build::{Job, build};
use crate::catalog_handle::CatalogHandle;
use crate::error::BuildError;
use crate::metrics;
use crate::options::Options;
use crate::policy;

/// The state of the store that a pass works with: what is visible, and which operations are committed.
pub(crate) struct StoreView {
    pub(crate) control: Control,
    pub(crate) committed_ops: CommittedOps,
}

/// A bucket's head at the visible checkpoint.
enum VisibleHead {
    Found(BucketHead),
    /// The bucket has no operations at the checkpoint.
    NotFound,
    /// The item no longer has the version of this checkpoint. A newer checkpoint is needed.
    TooOld,
}

/// Deletes, builds and publishes what is due for a bucket, and completes its task. Returns the base that
/// was published, if any.
pub(crate) async fn process_bucket<S: BucketStore + ObjectStore + OpLog + CompactionQueue>(
    storage: &S,
    options: &Options,
    view: &StoreView,
    task: &CompactionTask,
    now: u64,
) -> Result<Option<Base>, BuildError> {
    if view.is_pending(task) {
        return Ok(None);
    }

    let bucket = &task.bucket;
    let item = storage.buckets(std::slice::from_ref(bucket)).await?.pop().flatten();
    let Some(item) = item else {
        // The bucket was removed with its generation.
        storage.complete(task).await?;
        return Ok(None);
    };
    let mut handle = CatalogHandle::read(bucket, &item)?;

    // Expired objects go first: a base may have to wait for room in the catalog. If a swap fails, another
    // builder works on the bucket. The task stays in the queue, so that a later pass examines it.
    if !handle.delete_expired(storage, now).await? {
        return Ok(None);
    }
    // The floor rises only to a published base that is older than the horizon. So a device below the floor
    // finds the base, and one above it finds the log.
    let advanced = policy::advance_floor(handle.catalog(), now, options);
    if !handle.swap(storage, advanced).await? {
        return Ok(None);
    }

    let head = match view.head(&item)? {
        VisibleHead::Found(head) => Some(head),
        VisibleHead::NotFound => None,
        VisibleHead::TooOld => return Ok(None),
    };
    let mut published = None;
    if let Some(head) = head
        && policy::wants_base(&head, handle.catalog(), options)
        && !policy::must_wait(handle.catalog())
    {
        let span = info_span!("build", bucket = bucket.log_label(), to = head.last.get());
        let job =
            Job { bucket, head, catalog: handle.catalog(), committed_ops: &view.committed_ops };
        if let Some(base) = build(storage, job, options).instrument(span).await? {
            // The objects are stored under new names. The swap publishes all of them at once.
            let next = policy::published(handle.catalog(), base.clone(), now, options);
            if !handle.swap(storage, next).await? {
                // Another builder published first. No reader knows our objects, so they may go at once.
                delete_base(storage, &base).await?;
                return Ok(None);
            }
            let label = bucket.log_label();
            info!(bucket = label, rows = base.rows, to = base.to.get(), "base published");
            metrics::count_published(base.rows);
            published = Some(base);
        }
    }

    // The store ignores this if the worker has put the bucket into the queue again since.
    match policy::next_due_at(handle.catalog(), options) {
        Some(time) => storage.defer(task, time).await?,
        None => storage.complete(task).await?,
    };
    Ok(published)
}

impl StoreView {
    /// Returns whether the write that made the bucket due may still become visible. Then it is too early
    /// to complete the task.
    fn is_pending(&self, task: &CompactionTask) -> bool {
        let Some(visible) = &self.control.visible else { return true };
        let epoch = task.triggered_by.epoch().unwrap_or_default();
        task.triggered_by > visible.at.op
            && (epoch >= self.control.epoch || self.committed_ops.is_committed(task.triggered_by))
    }

    /// Reads the bucket's head at the visible checkpoint.
    fn head(&self, item: &BucketItem) -> Result<VisibleHead, BuildError> {
        let Some(visible) = &self.control.visible else { return Ok(VisibleHead::NotFound) };
        Ok(match item.head.read_at(visible.at.op, &self.committed_ops) {
            ReadResult::Found(_, value) => VisibleHead::Found(BucketHead::decode(value)?),
            ReadResult::NotFound => VisibleHead::NotFound,
            ReadResult::TooOld => VisibleHead::TooOld,
        })
    }
}
