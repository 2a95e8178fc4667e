//! Segments.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tidewater_protocol::OpId;
use tidewater_storage::{
    BucketKey, ObjectStore, OpLog, PayloadCompressor, Segment, SegmentPage, StorageError,
    payload_len, read_payload,
};
use tracing::warn;

use crate::AwsStore;
use crate::attributes::{OBJECT, PARTITION, SORT};
use crate::batch::BatchWrite;
use crate::dynamo::{Consistency, Query, SortKeys};
use crate::items::{self, PayloadLocation, StoredSegment};
use crate::keys::{self, Item, ItemKey, KeyPart};
use crate::tables::Table;

/// Length in bytes above which a stored payload becomes an object. Deleting an item costs as much as
/// writing it, so above 4 KB an object is cheaper.
const INLINE_BYTES_MAX: usize = 4_096;

/// Maximum number of objects that one call writes, reads or deletes at the same time.
const OBJECTS_AT_ONCE: usize = 32;

/// Payload bytes that a small segment is taken to have. A page of small segments then needs one query
/// that does not read much beyond the page.
const SMALL_SEGMENT_BYTES: usize = 256;

/// Minimum and maximum number of items that one query evaluates. Fewer would cost a call for a few
/// items, and more than 4,096 items of 256 bytes exceed DynamoDB's page of 1 MB.
const EVALUATED_MIN: usize = 16;
const EVALUATED_MAX: usize = 4_096;

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
            attributes: Some(keys_and_objects(Table::Segments)),
            ..Query::all(Table::Segments, keys::segments_partition(bucket))
        };
        self.delete_queried(&query).await
    }
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    /// Stores the payloads that are too long for items. Returns the writes of all items. An item names
    /// its object, so it must be written after this.
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
        let stored = compressed(&segment.payload)?;
        let payload = if stored.len() <= INLINE_BYTES_MAX {
            PayloadLocation::Inline(stored)
        } else {
            let key = ItemKey::segment(&segment.bucket, segment.last);
            let name = format!("{}/{}", key.object_folder(), segment.last.get());
            self.objects().put_object(&name, stored).await?;
            PayloadLocation::Object(name, segment.payload.len())
        };
        Ok(BatchWrite::Put(Table::Segments, items::segment(&segment, &payload)))
    }

    /// Returns the segments of a page, with those payloads that are in the items, and whether more
    /// segments follow.
    async fn stored_segments(
        &self,
        bucket: &BucketKey,
        after: OpId,
        upto: OpId,
        bytes_max: usize,
    ) -> Result<(Vec<StoredSegment>, bool), StorageError> {
        let evaluated = (bytes_max / SMALL_SEGMENT_BYTES).clamp(EVALUATED_MIN, EVALUATED_MAX);
        let query = Query {
            sort: SortKeys::Between(KeyPart::Number(after.get() + 1), KeyPart::Number(upto.get())),
            read: Consistency::Eventual,
            limit: i32::try_from(evaluated).ok(),
            ..Query::all(Table::Segments, keys::segments_partition(bucket))
        };

        let mut stored = Vec::new();
        let mut bytes = 0;
        let mut from = None;
        loop {
            let page = self.dynamo().query(&query, from).await?;
            for item in page.items {
                if !stored.is_empty() && bytes > bytes_max {
                    return Ok((stored, true));
                }
                let segment = items::read_segment(bucket, item)?;
                bytes += match &segment.payload {
                    PayloadLocation::Inline(stored) => payload_len(stored)?,
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

    /// Returns the segment with its payload, or `None` if its object was deleted in the meantime. The
    /// segment chain detects a segment that should be there.
    async fn with_payload(&self, stored: StoredSegment) -> Result<Option<Segment>, StorageError> {
        let StoredSegment { segment, payload } = stored;
        let stored = match payload {
            PayloadLocation::Inline(stored) => stored,
            PayloadLocation::Object(name, _) => {
                let Some(stored) = self.whole_object(&name).await? else {
                    warn!(object = name, "the payload object of a segment does not exist");
                    return Ok(None);
                };
                stored
            }
        };
        Ok(Some(Segment { payload: read_payload(stored)?, ..segment }))
    }

    /// Deletes the items that a query finds, page by page. The query returns keys and object names.
    /// Objects go first, so a repetition finds everything that an interrupted deletion has left.
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
        let objects: Vec<String> =
            found.iter().filter_map(|item| items::text(item, OBJECT)).collect();
        stream::iter(objects)
            .map(|name| async move { self.objects().delete_object(&name).await })
            .buffer_unordered(OBJECTS_AT_ONCE)
            .try_collect::<()>()
            .await?;

        let deletes = found
            .iter()
            .map(|item| items::read_key(table, item).map(BatchWrite::Delete))
            .collect::<Result<_, _>>()?;
        self.dynamo().write_batch(deletes).await
    }
}

/// Returns the stored form of a payload.
fn compressed(payload: &Bytes) -> Result<Bytes, StorageError> {
    let mut compressor = PayloadCompressor::default();
    Ok(match compressor.compress(payload)? {
        stored if stored.len() == payload.len() => payload.clone(),
        stored => Bytes::copy_from_slice(stored),
    })
}

/// Returns the attributes that a deletion reads: the key, and the name of the object.
pub(crate) fn keys_and_objects(table: Table) -> String {
    match table.schema().sort {
        Some(_) => format!("{PARTITION}, {SORT}, {OBJECT}"),
        None => format!("{PARTITION}, {OBJECT}"),
    }
}
