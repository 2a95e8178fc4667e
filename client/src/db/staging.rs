//! Operations received but not yet published.
//!
//! They wait in a table of their own. The other way, one write transaction left open from the
//! first line to the last, would store them once only, but it would lock the app out of its own
//! database during a long download, lose everything received when the process ends, and keep
//! every changed page out of the reach of a WAL checkpoint. The table costs one sequential write of
//! each operation; in return each line is durable, together with the position that says so.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, params};
use tidewater_protocol::{Body, Checksum, DataLine, OpId};

use crate::core::LocalBucket;
use crate::db::migrate::type_id;

/// What a staged row means for its bucket's copy of a row.
pub(crate) mod kind {
    /// The bucket's copies before were cleared or the bucket was lost.
    pub(crate) const DROP: i64 = 0;
    /// The app wrote to the row; `data` is the server's state of it, if there was one.
    pub(crate) const TOUCHED: i64 = 1;
    pub(crate) const PUT: i64 = 2;
    pub(crate) const REMOVE: i64 = 3;
}

/// Operations staged between two looks for superseded ones.
const COMPACT_AFTER: i64 = 50_000;

/// What is remembered from line to line, so that it is not looked up operation by operation.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    types: HashMap<String, i64>,
    /// The greatest `seq` when superseded operations were last dropped.
    compacted_to: i64,
}

/// Stores a line and the state it leaves its bucket in. To be called within a transaction.
pub(crate) fn stage(
    connection: &Connection,
    staging: &mut Staging,
    line: &DataLine<'_>,
    after: LocalBucket,
) -> rusqlite::Result<()> {
    let bucket = bucket_id(connection, &line.bucket)?;
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
        let type_id = match staging.types.get(&*row.object_type) {
            Some(id) => *id,
            None => {
                let id = type_id(connection, &row.object_type)?;
                staging.types.insert(row.object_type.clone().into_owned(), id);
                id
            }
        };
        let op_id = operation.op_id.get();
        let data = data.map(|data| strict(connection, data)).transpose()?;
        insert.execute(params![kind, type_id, row.object_id, bucket, row.subkey, op_id, data])?;
    }
    note_state(connection, bucket, after)
}

/// The text as strict JSON. SQLite reads more, and the official clients do so with its help: a
/// PowerSync service sends infinite numbers by name.
pub(crate) fn strict<'d>(connection: &Connection, data: &'d str) -> rusqlite::Result<Cow<'d, str>> {
    if serde_json::from_str::<serde::de::IgnoredAny>(data).is_ok() {
        return Ok(data.into());
    }
    let mut normalise = connection.prepare_cached("SELECT json(?1)")?;
    normalise.query_row([data], |row| row.get(0)).map(Cow::Owned)
}

/// Makes a snapshot, whose files are there, the bucket's content. To be called within a
/// transaction. `line` is the snapshot's line as JSON.
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
    note_state(connection, bucket, after)
}

/// The state that a bucket is in once something of it was staged.
fn note_state(connection: &Connection, bucket: i64, after: LocalBucket) -> rusqlite::Result<()> {
    let (position, count) = (after.position.get(), after.count_since.cast_signed());
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

/// Drops what is staged for a bucket; what is published of it goes at the next apply, unless it is
/// sent again.
fn clear(connection: &Connection, bucket: i64) -> rusqlite::Result<()> {
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

/// Takes a bucket back to "nothing downloaded". To be called within a transaction.
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

/// [`reset`] by name; a bucket that is not known needs none.
pub(crate) fn reset_named(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached("SELECT id FROM _tw_buckets WHERE name = ?1")?;
    let ids: Vec<i64> =
        select.query_map([name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    ids.into_iter().try_for_each(|id| reset(connection, id))
}

/// Drops staged operations that later ones supersede, if many came since the last time. While
/// local writes keep checkpoints back, for weeks perhaps, what is staged grows with the rows that
/// changed and not with the changes.
pub(crate) fn compact(connection: &Connection, staging: &mut Staging) -> rusqlite::Result<()> {
    let last = "SELECT coalesce(max(seq), 0) FROM _tw_staged";
    let last: i64 = connection.prepare_cached(last)?.query_row([], |row| row.get(0))?;
    // The table starts anew with each publication.
    let since = last - staging.compacted_to.min(last);
    if since >= COMPACT_AFTER {
        drop_superseded(connection)?;
        staging.compacted_to = last;
    }
    Ok(())
}

fn drop_superseded(connection: &Connection) -> rusqlite::Result<()> {
    let delete = "DELETE FROM _tw_staged WHERE seq IN (SELECT seq FROM (
        SELECT seq, row_number() OVER (
            PARTITION BY type, id, bucket, subkey ORDER BY seq DESC) AS age
        FROM _tw_staged) WHERE age > 1)";
    connection.execute(delete, []).map(|_| ())
}

/// What is held of each bucket.
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
mod tests {
    use super::*;
    use tidewater_protocol::{Operation, RowKey};

    #[test]
    fn what_only_sqlite_reads_as_json_is_made_strict() {
        let connection = Connection::open_in_memory().unwrap();
        let strict = |data| strict(&connection, data).ok();
        assert_eq!(strict(r#"{"a": 1}"#).as_deref(), Some(r#"{"a": 1}"#));
        let infinite = r#"{"a":Infinity,"b":-Infinity}"#;
        assert_eq!(strict(infinite).as_deref(), Some(r#"{"a":9e999,"b":-9e999}"#));
        assert_eq!(strict("nonsense"), None);
    }

    #[test]
    fn only_the_last_operation_of_a_row_is_needed() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("internal.sql")).unwrap();
        let mut staging = Staging::default();
        let operation = |id: i64, row: &'static str, data: Option<&'static str>| {
            let row = RowKey::new("t", row, "");
            let body = match data {
                Some(data) => Body::Put { row, data: data.into() },
                None => Body::Remove { row },
            };
            Operation { op_id: OpId::from_i64(id).unwrap(), checksum: Checksum(1), body }
        };
        let operations = vec![
            operation(1, "a", Some("1")),
            operation(2, "b", Some("2")),
            operation(3, "a", None),
            operation(4, "c", None),
            operation(5, "c", Some("5")),
        ];
        for bucket in ["x", "y"] {
            let line = DataLine { bucket: bucket.into(), operations: operations.clone() };
            stage(&connection, &mut staging, &line, LocalBucket::default()).unwrap();
        }
        drop_superseded(&connection).unwrap();
        let left = "SELECT group_concat(op_id, ' ') FROM _tw_staged";
        let left: String = connection.query_row(left, [], |row| row.get(0)).unwrap();
        assert_eq!(left, "2 3 5 2 3 5");
        // Too few of them to look again.
        compact(&connection, &mut staging).unwrap();
        assert_eq!(staging.compacted_to, 0);
        connection.execute("UPDATE _tw_staged SET seq = seq + ?1", [COMPACT_AFTER]).unwrap();
        compact(&connection, &mut staging).unwrap();
        assert_eq!(staging.compacted_to, COMPACT_AFTER + 10);
    }
}
