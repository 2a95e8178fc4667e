//! Segments.

use aws_sdk_dynamodb::types::AttributeValue;
use futures::stream::{self, StreamExt, TryStreamExt};
use tidewater_protocol::OpId;
use tidewater_storage::{BucketKey, ObjectStore, OpLog, Segment, SegmentPage, StorageError};
use tracing::warn;

use crate::AwsStore;
use crate::batch::BatchWrite;
use crate::dynamo::{Consistency, Query, SortKeys};
use crate::items::{self, PayloadLocation, StoredSegment};
use crate::keys::{self, Item, ItemKey, KeyPart};
use crate::tables::Table;

/// A longer payload is an object: deleting an item costs what writing it cost, so that 4 KB in an
/// item cost more than an object.
const INLINE_BYTES_MAX: usize = 4_096;

/// Objects being written, read or deleted for one call.
const OBJECTS_AT_ONCE: usize = 32;

/// A page of items that are looked at: small ones take less than this each.
const SMALL_BYTES: usize = 256;
const LOOKED_AT_MIN: usize = 16;
const LOOKED_AT_MAX: usize = 4_096;

impl<O: ObjectStore + 'static> OpLog for AwsStore<O> {
    async fn segments(
        &self,
        bucket: &BucketKey,
        after: OpId,
        upto: OpId,
        bytes_max: usize,
    ) -> Result<SegmentPage, StorageError> {
        if after >= upto {
            return Ok(SegmentPage::default());
        }
        let (stored, has_more) = self.stored_segments(bucket, after, upto, bytes_max).await?;
        let segments = stream::iter(stored)
            .map(|stored| self.with_payload(stored))
            .buffered(OBJECTS_AT_ONCE)
            .try_filter_map(async |found| Ok(found))
            .try_collect()
            .await?;
        Ok(SegmentPage { segments, has_more })
    }

    async fn delete_segments(&self, bucket: &BucketKey, upto: OpId) -> Result<(), StorageError> {
        let query = Query {
            sort: SortKeys::UpTo(KeyPart::Number(upto.get())),
            attributes: Some("p, s, o"),
            ..Query::all(Table::Segments, keys::segments_partition(bucket))
        };
        self.delete_queried(&query).await
    }
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    /// Stores the payloads that are too long for items; returns the writes of all items, which are
    /// to be made after that.
    pub(crate) async fn segment_writes(
        &self,
        segments: &[Segment],
    ) -> Result<Vec<BatchWrite>, StorageError> {
        stream::iter(segments.to_vec())
            .map(|segment| self.segment_write(segment))
            .buffered(OBJECTS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn segment_write(&self, segment: Segment) -> Result<BatchWrite, StorageError> {
        let payload = if segment.payload.len() <= INLINE_BYTES_MAX {
            PayloadLocation::Inline(segment.payload.clone())
        } else {
            let key = ItemKey::segment(&segment.bucket, segment.last);
            let name = format!("{}/{}", key.object_folder(), segment.last.get());
            self.objects().put_object(&name, segment.payload.clone()).await?;
            PayloadLocation::Object(name, segment.payload.len())
        };
        Ok(BatchWrite::Put(Table::Segments, items::segment(&segment, &payload)))
    }

    /// The segments of a page, with their payloads as far as they are in the items.
    async fn stored_segments(
        &self,
        bucket: &BucketKey,
        after: OpId,
        upto: OpId,
        bytes_max: usize,
    ) -> Result<(Vec<StoredSegment>, bool), StorageError> {
        let looked_at = (bytes_max / SMALL_BYTES).clamp(LOOKED_AT_MIN, LOOKED_AT_MAX);
        let query = Query {
            sort: SortKeys::Between(KeyPart::Number(after.get() + 1), KeyPart::Number(upto.get())),
            read: Consistency::Eventual,
            limit: i32::try_from(looked_at).ok(),
            ..Query::all(Table::Segments, keys::segments_partition(bucket))
        };
        let (mut stored, mut bytes, mut from) = (Vec::new(), 0, None);
        loop {
            let page = self.dynamo().query(&query, from).await?;
            for item in page.items {
                if !stored.is_empty() && bytes > bytes_max {
                    return Ok((stored, true));
                }
                let segment = items::read_segment(bucket, item)?;
                bytes += match &segment.payload {
                    PayloadLocation::Inline(payload) => payload.len(),
                    PayloadLocation::Object(_, length) => *length,
                };
                stored.push(segment);
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok((stored, false)),
            }
        }
    }

    /// The segment with its payload; none if that has been deleted meanwhile, or this read of the
    /// item was of an earlier state. The chain of `prev` and sums tells if it should be there.
    async fn with_payload(&self, stored: StoredSegment) -> Result<Option<Segment>, StorageError> {
        let StoredSegment { segment, payload } = stored;
        let name = match payload {
            PayloadLocation::Inline(payload) => return Ok(Some(Segment { payload, ..segment })),
            PayloadLocation::Object(name, _) => name,
        };
        let Some(payload) = self.whole_object(&name).await? else {
            warn!(object = name, "the payload object of a segment does not exist");
            return Ok(None);
        };
        Ok(Some(Segment { payload, ..segment }))
    }

    /// Deletes what a query of keys and object names finds, page by page; objects first, so that
    /// a deletion which is cut off leaves nothing that a repetition would not find.
    pub(crate) async fn delete_queried(&self, query: &Query) -> Result<(), StorageError> {
        let mut from = None;
        loop {
            let page = self.dynamo().query(query, from).await?;
            self.delete_items(query.table, page.items).await?;
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn delete_items(&self, table: Table, found: Vec<Item>) -> Result<(), StorageError> {
        let object = |item: &Item| item.get(items::OBJECT).map(AttributeValue::as_s)?.ok().cloned();
        let objects: Vec<String> = found.iter().filter_map(object).collect();
        stream::iter(objects)
            .map(|name| async move { self.objects().delete_object(&name).await })
            .buffer_unordered(OBJECTS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        let key = |item: &Item| items::read_key(table, item).map(BatchWrite::Delete);
        let deletes = found.iter().map(key).collect::<Result<_, _>>()?;
        self.dynamo().write_batch(deletes).await
    }
}
