//! Segments.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use tidewater_protocol::{Checksum, OpId};

use super::connection_pool::Durability;
use super::{Embedded, failure};
use crate::error::StorageError;
use crate::keys::BucketKey;
use crate::ports::{OpLog, SegmentPage};
use crate::segment::Segment;
use crate::stored_payload::{PayloadCompressor, payload_len, read_payload};

/// The maximum number of segments that one transaction deletes, so the worker never waits long for
/// the write lock.
const DELETED_AT_ONCE: i64 = 256;

impl OpLog for Embedded {
    async fn segments(
        &self,
        bucket: &BucketKey,
        after: OpId,
        upto: OpId,
        bytes_max: usize,
    ) -> Result<SegmentPage, StorageError> {
        let bucket = bucket.clone();
        self.reading(move |connection| {
            let page = read_page(connection, &bucket, after, upto, bytes_max);
            decompressed(page.map_err(failure::of_sqlite)?)
        })
        .await
    }

    async fn delete_segments(&self, bucket: &BucketKey, upto: OpId) -> Result<(), StorageError> {
        loop {
            let bucket = bucket.clone();
            let has_more = self
                .writing(Durability::Process, move |transaction| {
                    delete_some(transaction, &bucket, upto).map_err(failure::of_sqlite)
                })
                .await?;
            if !has_more {
                return Ok(());
            }
        }
    }
}

fn read_page(
    connection: &Connection,
    bucket: &BucketKey,
    after: OpId,
    upto: OpId,
    bytes_max: usize,
) -> rusqlite::Result<SegmentPage> {
    let mut select = connection.prepare_cached(
        "SELECT last, prev, sum_before, sum, count, payload FROM segment
         WHERE bucket = ?1 AND last > ?2 AND last <= ?3 ORDER BY last",
    )?;
    let mut rows = select.query((bucket.as_str(), after.get(), upto.get()))?;

    let mut page = SegmentPage::default();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if bytes > bytes_max {
            page.has_more = true;
            break;
        }
        let segment = segment(bucket, row)?;
        // A damaged payload is found when it is decompressed.
        bytes += payload_len(&segment.payload).unwrap_or(segment.payload.len());
        page.segments.push(segment);
    }
    Ok(page)
}

/// Returns a page whose payloads are as they were before they were stored.
fn decompressed(mut page: SegmentPage) -> Result<SegmentPage, StorageError> {
    for segment in &mut page.segments {
        segment.payload = read_payload(std::mem::take(&mut segment.payload))?;
    }
    Ok(page)
}

/// Stores segments. A repetition replaces a segment by its own content.
pub(super) fn put(transaction: &Transaction<'_>, segments: &[Segment]) -> Result<(), StorageError> {
    if segments.is_empty() {
        return Ok(());
    }

    let mut put = transaction
        .prepare_cached("INSERT OR REPLACE INTO segment VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
        .map_err(failure::of_sqlite)?;
    let mut compressor = PayloadCompressor::default();
    for segment in segments {
        let payload = compressor.compress(&segment.payload)?;
        put.execute((
            segment.bucket.as_str(),
            segment.last.get(),
            segment.prev.get(),
            segment.sum_before.0,
            segment.sum.0,
            segment.count.cast_signed(),
            payload,
        ))
        .map_err(failure::of_sqlite)?;
    }
    Ok(())
}

/// Deletes the lowest segments up to `upto`. Returns whether there may be more.
fn delete_some(
    transaction: &Transaction<'_>,
    bucket: &BucketKey,
    upto: OpId,
) -> rusqlite::Result<bool> {
    let bound: Option<i64> = transaction
        .prepare_cached(
            "SELECT last FROM segment WHERE bucket = ?1 AND last <= ?2 ORDER BY last
             LIMIT 1 OFFSET ?3",
        )?
        .query_row((bucket.as_str(), upto.get(), DELETED_AT_ONCE), |row| row.get(0))
        .optional()?;

    transaction
        .prepare_cached("DELETE FROM segment WHERE bucket = ?1 AND last <= ?2")?
        .execute((bucket.as_str(), bound.unwrap_or_else(|| upto.get())))?;
    Ok(bound.is_some())
}

fn segment(bucket: &BucketKey, row: &Row<'_>) -> rusqlite::Result<Segment> {
    Ok(Segment {
        bucket: bucket.clone(),
        last: op_id(row, 0)?,
        prev: op_id(row, 1)?,
        sum_before: Checksum(row.get(2)?),
        sum: Checksum(row.get(3)?),
        count: row.get::<_, i64>(4)?.cast_unsigned(),
        payload: Bytes::copy_from_slice(row.get_ref(5)?.as_blob()?),
    })
}

fn op_id(row: &Row<'_>, column: usize) -> rusqlite::Result<OpId> {
    let id = row.get(column)?;
    OpId::from_i64(id).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, id))
}
