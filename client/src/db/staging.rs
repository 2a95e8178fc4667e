//! Operations that were received and are not yet published.
//!
//! They wait in a table of their own. The alternative is one write transaction from the first line
//! to the last. It would store each operation once only. But it would lock the app out of its own
//! database during a long download, lose everything received when the process ends, and keep the
//! WAL from being checkpointed. The table costs one sequential write per operation. In return each
//! line is durable together with the bucket's position.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, params};
use tidewater_protocol::{Body, Checksum, DataLine, OpId};

use super::types::type_id;
use crate::core::LocalBucket;

/// The meaning of a staged record for its bucket's copy of a row.
pub(crate) mod kind {
    /// The bucket's copy is removed: the bucket was cleared or is no longer listed.
    pub(crate) const DROP: i64 = 0;
    /// The app wrote to the row. `data` is the server's state of it, if there was one.
    pub(crate) const TOUCHED: i64 = 1;
    /// The bucket's copy has a new value.
    pub(crate) const PUT: i64 = 2;
    /// The bucket's copy is removed by an operation.
    pub(crate) const REMOVE: i64 = 3;
}

/// SQL for a number that is not above any `seq` in use, and not above zero. Records that must come
/// before everything staged are numbered downwards from it.
pub(crate) const BEFORE_ALL: &str = "min(0, (SELECT coalesce(min(seq), 0) FROM _tw_staged))";

/// The number of operations staged between two compactions of the table. At this size a compaction
/// takes a fraction of a second.
const COMPACT_AFTER: i64 = 50_000;

/// Values kept from line to line, so that they are not looked up for each operation.
#[derive(Debug, Default)]
pub(crate) struct StagingCache {
    types: HashMap<String, i64>,
    /// The greatest `seq` at the last compaction.
    compacted_to: i64,
}

/// Stores a line and the state in which it leaves its bucket. Must be called within a transaction.
pub(crate) fn stage(
    connection: &Connection,
    cache: &mut StagingCache,
    line: &DataLine<'_>,
    after: LocalBucket,
) -> rusqlite::Result<()> {
    let bucket = bucket_id(connection, &line.bucket)?;

    // A CLEAR voids everything before it, also within its own line.
    let mut operations = line.operations.as_slice();
    if let Some(last) = operations.iter().rposition(|operation| operation.body == Body::Clear) {
        clear(connection, bucket)?;
        operations = &operations[last + 1..];
    }

    let mut insert = connection.prepare_cached(
        "INSERT INTO _tw_staged (kind, type, id, bucket, subkey, op_id, data) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for operation in operations {
        let (kind, row, data) = match &operation.body {
            Body::Put { row, data } => (kind::PUT, row, Some(data)),
            Body::Remove { row } => (kind::REMOVE, row, None),
            Body::Move | Body::Clear => continue,
        };
        let type_id = match cache.types.get(&*row.object_type) {
            Some(id) => *id,
            None => {
                let id = type_id(connection, &row.object_type)?;
                cache.types.insert(row.object_type.clone().into_owned(), id);
                id
            }
        };

        let op_id = operation.op_id.get();
        let data = data.map(|data| strict_json(connection, data)).transpose()?;
        insert.execute(params![kind, type_id, row.object_id, bucket, row.subkey, op_id, data])?;
    }

    store_state(connection, bucket, after)
}

/// Returns the text as strict JSON. SQLite's JSON5 reader accepts more, and official clients rely
/// on it: a PowerSync service sends infinite numbers by name.
pub(crate) fn strict_json<'d>(
    connection: &Connection,
    data: &'d str,
) -> rusqlite::Result<Cow<'d, str>> {
    if serde_json::from_str::<serde::de::IgnoredAny>(data).is_ok() {
        return Ok(data.into());
    }

    let mut normalise = connection.prepare_cached("SELECT json(?1)")?;
    normalise.query_row([data], |row| row.get(0)).map(Cow::Owned)
}

/// Makes a fetched snapshot the bucket's content. `line` is the snapshot's line as JSON. Must be
/// called within a transaction.
pub(crate) fn stage_snapshot(
    connection: &Connection,
    name: &str,
    line: &str,
    after: LocalBucket,
) -> rusqlite::Result<()> {
    let bucket = bucket_id(connection, name)?;
    clear(connection, bucket)?;
    connection
        .prepare_cached("INSERT INTO _tw_snapshots (bucket, line) VALUES (?1, ?2)")?
        .execute(params![bucket, line])?;

    store_state(connection, bucket, after)
}

/// Stores the state of a bucket after something was staged for it.
fn store_state(connection: &Connection, bucket: i64, after: LocalBucket) -> rusqlite::Result<()> {
    let position = after.position.get();
    let count = after.count_since.cast_signed();
    connection
        .prepare_cached(
            "UPDATE _tw_buckets SET position = ?2, sum = ?3, count_since = ?4, has_staged = 1 \
             WHERE id = ?1",
        )?
        .execute(params![bucket, position, after.sum.0, count])
        .map(|_| ())
}

fn bucket_id(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO _tw_buckets (name) VALUES (?1) \
             ON CONFLICT (name) DO UPDATE SET name = name RETURNING id",
        )?
        .query_row([name], |row| row.get(0))
}

/// Deletes the staged operations of a bucket. The next publication removes its published copies,
/// except those that were sent again by then.
fn clear(connection: &Connection, bucket: i64) -> rusqlite::Result<()> {
    // `_tw_staged` has no index by bucket: the flag spares a fresh bucket the scan.
    let has_staged: bool = connection
        .prepare_cached("SELECT has_staged FROM _tw_buckets WHERE id = ?1")?
        .query_row([bucket], |row| row.get(0))?;
    if has_staged {
        connection.prepare_cached("DELETE FROM _tw_staged WHERE bucket = ?1")?.execute([bucket])?;
        let delete = "DELETE FROM _tw_snapshots WHERE bucket = ?1";
        connection.prepare_cached(delete)?.execute([bucket])?;
    }

    connection
        .prepare_cached("UPDATE _tw_buckets SET is_cleared = 1, has_staged = 0 WHERE id = ?1")?
        .execute([bucket])?;
    Ok(())
}

/// Resets a bucket to its initial state. Must be called within a transaction.
pub(crate) fn reset(connection: &Connection, bucket: i64) -> rusqlite::Result<()> {
    clear(connection, bucket)?;
    connection
        .prepare_cached(
            "UPDATE _tw_buckets SET position = 0, sum = 0, count_at_checkpoint = 0, \
             count_since = 0 WHERE id = ?1",
        )?
        .execute([bucket])?;
    Ok(())
}

/// Resets a bucket by its name. An unknown bucket needs no reset.
pub(crate) fn reset_named(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached("SELECT id FROM _tw_buckets WHERE name = ?1")?;
    let ids: Vec<i64> =
        select.query_map([name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;

    ids.into_iter().try_for_each(|id| reset(connection, id))
}

/// Deletes superseded operations, if many were staged since the last time. Pending uploads may
/// defer checkpoints for weeks. The staged operations then grow with the number of changed rows,
/// and not with the number of changes.
pub(crate) fn compact(connection: &Connection, cache: &mut StagingCache) -> rusqlite::Result<()> {
    let last = "SELECT coalesce(max(seq), 0) FROM _tw_staged";
    let last: i64 = connection.prepare_cached(last)?.query_row([], |row| row.get(0))?;

    // A publication empties the table, and `seq` starts again.
    let since = last - cache.compacted_to.min(last);
    if since >= COMPACT_AFTER {
        delete_superseded(connection)?;
        cache.compacted_to = last;
    }
    Ok(())
}

fn delete_superseded(connection: &Connection) -> rusqlite::Result<()> {
    let delete = "DELETE FROM _tw_staged WHERE seq IN (SELECT seq FROM (
        SELECT seq, row_number() OVER (
            PARTITION BY type, id, bucket, subkey ORDER BY seq DESC) AS age
        FROM _tw_staged) WHERE age > 1)";
    connection.execute(delete, []).map(|_| ())
}

/// Returns the stored state of each bucket.
pub(crate) fn load(connection: &Connection) -> rusqlite::Result<BTreeMap<String, LocalBucket>> {
    let mut select = connection.prepare_cached(
        "SELECT name, position, sum, count_at_checkpoint, count_since FROM _tw_buckets",
    )?;

    select
        .query_map([], |row| {
            let bucket = LocalBucket {
                position: OpId::from_i64(row.get(1)?).unwrap_or_default(),
                sum: Checksum(row.get(2)?),
                count_at_checkpoint: row.get::<_, i64>(3)?.cast_unsigned(),
                count_since: row.get::<_, i64>(4)?.cast_unsigned(),
            };
            Ok((row.get(0)?, bucket))
        })?
        .collect()
}

#[cfg(test)]
mod tests;
