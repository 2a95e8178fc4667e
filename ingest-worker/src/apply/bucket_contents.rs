//! Reads what buckets contain, as this run sees it: with what it has stored and not committed.

use tidewater_protocol::{Body, OpId};
use tidewater_storage::{
    BucketHead, BucketKey, BucketStore, Catalog, ControlStore, ObjectStore, OpLog, RecordStore,
    Registry, Replay, ReplayError, SegmentReader, StorageError, Tag,
};

use crate::apply::applier::Applier;
use crate::log::error::WriteError;

/// Buckets that are listed at a time: bounds the memory of the list.
const BUCKETS_PAGE: usize = 1_000;
/// Attempts to read a bucket while the snapshot builder replaces what is being read.
const REPLAY_ATTEMPTS: u32 = 5;

/// A page of the buckets of a definition.
#[derive(Debug)]
pub(super) struct BucketPage {
    pub(super) buckets: Vec<BucketKey>,
    /// The bucket after which the next page begins; `None` after the last one.
    pub(super) next: Option<BucketKey>,
}

impl<S> Applier<S>
where
    S: ControlStore + RecordStore + BucketStore + OpLog + ObjectStore + Registry + Clone + 'static,
{
    /// Returns the buckets of a definition that may exist, from a place on.
    pub(super) async fn buckets_after(
        &self,
        tag: &Tag,
        after: Option<&BucketKey>,
    ) -> Result<BucketPage, WriteError> {
        let storage = self.writer.storage();
        let buckets = storage.registered_buckets(tag, after, BUCKETS_PAGE).await?;
        let next = buckets.last().filter(|_| buckets.len() == BUCKETS_PAGE).cloned();
        Ok(BucketPage { buckets, next })
    }

    /// Folds the operations of a bucket, from its base to its end. What is not stored yet is left out.
    pub(super) async fn fold_bucket<T: Default>(
        &self,
        bucket: &BucketKey,
        mut fold: impl FnMut(&mut T, Body<'_>) -> Result<(), StorageError>,
    ) -> Result<T, WriteError> {
        let mut attempt = 1;
        loop {
            match self.try_fold_bucket(bucket, &mut fold).await {
                Ok(folded) => return Ok(folded),

                // The builder has replaced what was being read. A new read begins with the
                // bucket's present catalog.
                Err(ReplayError::Incomplete(_)) if attempt < REPLAY_ATTEMPTS => attempt += 1,
                Err(ReplayError::Incomplete(broken)) => {
                    let error = StorageError::Damaged("log", broken.into());
                    return Err(WriteError::Storage(error));
                }
                Err(ReplayError::Storage(error)) => return Err(error.into()),
            }
        }
    }

    async fn try_fold_bucket<T: Default>(
        &self,
        bucket: &BucketKey,
        fold: &mut impl FnMut(&mut T, Body<'_>) -> Result<(), StorageError>,
    ) -> Result<T, ReplayError> {
        let storage = self.writer.storage();
        let committed_ops = self.writer.committed_ops();
        let mut folded = T::default();

        let item = storage.buckets(std::slice::from_ref(bucket)).await?.pop().flatten();
        let Some(item) = item else { return Ok(folded) };
        let Some(head) =
            item.head.latest_for_writer(committed_ops).and_then(|version| version.value.as_ref())
        else {
            return Ok(folded);
        };
        let head = BucketHead::decode(head)?;
        let catalog = Catalog::decode(&item.catalog)?;

        // What this run has stored counts as well, although it is not committed yet.
        let is_seen =
            |op: OpId| committed_ops.is_committed(op) || committed_ops.is_from_current_epoch(op);
        let mut replay = Replay::new(storage, bucket, catalog.base.as_ref(), head, is_seen);
        while let Some(payload) = replay.next().await? {
            for operation in SegmentReader::new(&payload) {
                let operation =
                    operation.map_err(|error| StorageError::Damaged("segment", error.into()))?;
                fold(&mut folded, operation.body)?;
            }
        }
        Ok(folded)
    }
}
