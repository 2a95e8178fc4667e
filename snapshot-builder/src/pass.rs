//! Going through the work list.

use std::time::Duration;

use tidewater_protocol::ErrorChain;
use tidewater_storage::{
    Base, BucketHead, BucketItem, BucketKey, Catalog, CommittedOps, CompactionTask, Control,
    ReadResult, Storage,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::build::{Job, build};
use crate::error::BuildError;
use crate::options::Options;
use crate::{policy, sweep};

/// Buckets that one pass looks at; the next goes on with the others.
const BUCKETS_MAX: usize = 1_000;
/// A bucket that failed is looked at again after this.
const PAUSE_AFTER_FAILURE_SECONDS: u64 = 60;
/// One that took longer than a whole pass may: after this, so that the others have their turn.
const PAUSE_AFTER_TIMEOUT_SECONDS: u64 = 3_600;

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Buckets it looked at.
    pub looked_at: usize,
    /// Bases it published.
    pub published: usize,
    /// Rows in them.
    pub rows: u64,
    /// Buckets that it will have to look at again, since something failed.
    pub failed: usize,
    /// Buckets that were due, and are left to the next pass for want of time.
    pub left: usize,
}

/// The store as a pass sees it.
struct Scene {
    control: Control,
    committed_ops: CommittedOps,
}

/// Works until `shutdown`, with a pause of `interval` after each pass. `clock` gives seconds since
/// 1970.
pub async fn run<S: Storage>(
    storage: &S,
    options: &Options,
    interval: Duration,
    clock: impl Fn() -> u64,
    shutdown: &CancellationToken,
) {
    loop {
        let pass = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            pass = run_pass(storage, options, clock(), None) => pass,
        };
        match pass {
            Ok(report) if report.published > 0 => {
                info!(bases = report.published, rows = report.rows, "snapshots published");
            }
            Ok(_) => {}
            Err(error) => warn!(error = %ErrorChain(&error), "the builder's pass failed"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// Looks once at everything that is due. `now` is in seconds since 1970.
///
/// Nothing is begun after `end`, and what is under way then is given up. A bucket that the whole
/// time was not enough for waits for an hour, since the others would never have their turn.
///
/// # Errors
/// When the work list cannot be read. What fails for one bucket does not stop the others; it is
/// counted and logged.
pub async fn run_pass<S: Storage>(
    storage: &S,
    options: &Options,
    now: u64,
    end: Option<Instant>,
) -> Result<Report, BuildError> {
    let began = Instant::now();
    let mut report = Report::default();
    let due = storage.due_tasks(now, BUCKETS_MAX).await?;
    let Some(control) = storage.control().await? else { return Ok(report) };
    let committed_ops = control.committed_ops(&storage.archived_epochs().await?);
    let scene = Scene { control, committed_ops };
    for entry in &due {
        let work = tend(storage, options, &scene, entry, now);
        let Some(done) = until(end, work).await else {
            report.left = due.len() - report.looked_at;
            if report.looked_at == 0 && end.is_some_and(|end| end > began) {
                warn!(bucket = %entry.bucket, "a bucket takes longer than this builder may run: \
                     give it more time, or run `tidewater compact`");
                let later = now.saturating_add(PAUSE_AFTER_TIMEOUT_SECONDS);
                let _ = storage.defer(entry, later).await;
            }
            return Ok(report);
        };
        report.looked_at += 1;
        match done {
            Ok(Some(base)) => {
                report.published += 1;
                report.rows += base.rows;
            }
            Ok(None) => {}
            Err(error) => {
                report.failed += 1;
                warn!(bucket = %entry.bucket, error = %ErrorChain(&error), "a bucket was left as it is");
                let later = now.saturating_add(PAUSE_AFTER_FAILURE_SECONDS);
                // If that fails too, the bucket is merely looked at sooner.
                let _ = storage.defer(entry, later).await;
            }
        }
    }
    sweep::sweep(storage, &scene.control, options, now).await?;
    Ok(report)
}

/// Does the work, unless it is not done at `end`.
async fn until<T>(end: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match end {
        Some(end) if end <= Instant::now() => None,
        Some(end) => tokio::time::timeout_at(end, work).await.ok(),
        None => Some(work.await),
    }
}

/// Does what is to be done for a bucket, and settles its entry.
async fn tend<S: Storage>(
    storage: &S,
    options: &Options,
    scene: &Scene,
    entry: &CompactionTask,
    now: u64,
) -> Result<Option<Base>, BuildError> {
    if scene.is_pending(entry) {
        return Ok(None);
    }
    let bucket = &entry.bucket;
    let item = storage.buckets(std::slice::from_ref(bucket)).await?.pop().flatten();
    let Some(item) = item else {
        storage.complete(entry).await?;
        return Ok(None);
    };
    let mut kept = Kept::read(bucket, &item)?;
    let is_mine = kept.empty(storage, now).await?;
    let aged = policy::aged(&kept.catalog, now, options);
    // Another builder is at it, or the checkpoint has moved on: the next pass looks again.
    if !is_mine || !kept.swap(storage, aged).await? {
        return Ok(None);
    }
    let Ok(head) = scene.head(&item)? else { return Ok(None) };
    let mut published = None;
    if let Some(head) = head
        && policy::wants_base(&head, &kept.catalog, options)
        && !policy::must_wait(&kept.catalog)
    {
        let job = Job { bucket, head, catalog: &kept.catalog, committed_ops: &scene.committed_ops };
        if let Some(base) = build(storage, job, options).await? {
            let next = policy::published(&kept.catalog, base.clone(), now, options);
            if !kept.swap(storage, next).await? {
                delete(storage, &base).await?;
                return Ok(None);
            }
            info!(%bucket, rows = base.rows, to = base.to.get(), "base published");
            published = Some(base);
        }
    }
    match policy::next_look(&kept.catalog, options) {
        Some(time) => storage.defer(entry, time).await?,
        None => storage.complete(entry).await?,
    };
    Ok(published)
}

impl Scene {
    /// Whether the write that made the bucket due may still become visible: then it is too early
    /// to settle it.
    fn is_pending(&self, entry: &CompactionTask) -> bool {
        let Some(visible) = &self.control.visible else { return true };
        let epoch = entry.triggered_by.epoch().unwrap_or_default();
        entry.triggered_by > visible.at.op
            && (epoch >= self.control.epoch || self.committed_ops.is_committed(entry.triggered_by))
    }

    /// The bucket's head at the visible checkpoint, if it has one there.
    fn head(&self, item: &BucketItem) -> Result<Result<Option<BucketHead>, TooOld>, BuildError> {
        let Some(visible) = &self.control.visible else { return Ok(Ok(None)) };
        match item.head.read_at(visible.at.op, &self.committed_ops) {
            ReadResult::Found(_, value) => Ok(Ok(Some(BucketHead::decode(value)?))),
            ReadResult::NotFound => Ok(Ok(None)),
            ReadResult::TooOld => Ok(Err(TooOld)),
        }
    }
}

/// A newer checkpoint is needed to tell.
struct TooOld;

/// A bucket's catalog as this builder last saw or wrote it.
struct Kept<'a> {
    bucket: &'a BucketKey,
    catalog: Catalog,
    revision: u64,
}

impl<'a> Kept<'a> {
    fn read(bucket: &'a BucketKey, item: &BucketItem) -> Result<Self, BuildError> {
        let catalog = Catalog::decode(&item.catalog)?;
        Ok(Self { bucket, catalog, revision: item.catalog_revision })
    }

    /// Replaces the catalog, unless another builder has done so. Returns whether it did.
    async fn swap<S: Storage>(&mut self, storage: &S, next: Catalog) -> Result<bool, BuildError> {
        if next == self.catalog {
            return Ok(true);
        }
        if !storage.swap_catalog(self.bucket, self.revision, &next.encode()).await? {
            return Ok(false);
        }
        (self.catalog, self.revision) = (next, self.revision + 1);
        Ok(true)
    }

    /// Deletes what its time has come for, then its entries. Returns what [`Kept::swap`] does.
    async fn empty<S: Storage>(&mut self, storage: &S, now: u64) -> Result<bool, BuildError> {
        let (trash, next) = policy::emptied(&self.catalog, now);
        for base in &trash.bases {
            delete(storage, base).await?;
        }
        if let Some(upto) = trash.segments {
            storage.delete_segments(self.bucket, upto).await?;
        }
        self.swap(storage, next).await
    }
}

/// Deletes the objects of a base.
pub(crate) async fn delete<S: Storage>(storage: &S, base: &Base) -> Result<(), BuildError> {
    for object in base.objects() {
        storage.delete_object(&object).await?;
    }
    Ok(())
}
