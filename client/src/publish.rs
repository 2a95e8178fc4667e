//! Makes a complete checkpoint visible, in one transaction.
//!
//! [`CheckpointPublisher::publish`] does, in this order:
//!
//! 1. Attaches the files of fetched snapshots. SQLite attaches outside of a transaction only.
//! 2. Begins the transaction. Stops if another process has changed the schema.
//! 3. Checks for pending uploads. If the checkpoint does not contain all local writes, notes the
//!    buckets' positions and ends here: the publication is deferred.
//! 4. Clears the buckets that the checkpoint does not list.
//! 5. Merges the snapshots (`snapshot_merger.rs`): most rows are copied by one statement per table,
//!    the others are staged in front of what came after the snapshot.
//! 6. Stages the removal of what cleared buckets contained, and the server's state of each row that
//!    the app wrote to.
//! 7. Publishes everything staged, row by row (`row_publisher.rs`).
//! 8. Empties the staging tables, records the checkpoint and commits.
//!
//! A failure at any step rolls everything back. The staged operations stay, so nothing is downloaded
//! twice.

use std::collections::BTreeSet;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tidewater_protocol::Checkpoint;

use crate::db::database::Database;
use crate::db::snapshot_files::SnapshotFiles;
use crate::db::staging::{self, BEFORE_ALL, kind};
use crate::db::table_plan::{TablePlan, TablePlans};
use crate::db::types::type_id;
use crate::schema::Schema;
use row_publisher::RowPublisher;
use snapshot_merger::{AttachedSnapshots, SnapshotMerger};

mod bulk_load;
mod error;
mod fast_path;
mod file_merger;
mod open_file;
mod packs;
mod row_publisher;
mod row_state;
mod snapshot_merger;

pub(crate) use error::PublishError;

/// The result of publishing a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Publication {
    Published {
        /// The app's tables that changed.
        tables: BTreeSet<String>,
        /// The number of rows that were examined.
        rows: u64,
        /// The buckets that came as snapshots.
        snapshot_buckets: BTreeSet<String>,
    },
    /// Local writes are not in this checkpoint yet. Only positions were noted.
    Deferred,
}

/// Publishes checkpoints into the app's tables.
///
/// It is used while the lock of [`Database::writers`] is held, so a publication and a local
/// transaction never overlap in one process. SQLite's own lock does the same between processes.
#[derive(Debug)]
pub(crate) struct CheckpointPublisher {
    plans: TablePlans,
    /// The generation of the schema that the plans were made from.
    schema_generation: i64,
    snapshots: SnapshotMerger,
}

impl CheckpointPublisher {
    pub(crate) fn new(database: &Database, schema: &Schema) -> rusqlite::Result<Self> {
        let writers = database.writers();
        let mut plans = TablePlans::new();
        for table in &schema.tables {
            plans.insert(type_id(&writers.sync, &table.name)?, TablePlan::new(table));
        }

        Ok(Self {
            plans,
            schema_generation: database.schema_generation,
            snapshots: SnapshotMerger::new(SnapshotFiles::beside(&database.path)),
        })
    }

    /// Returns the names of the synced tables.
    pub(crate) fn table_names(&self) -> BTreeSet<String> {
        self.plans.values().map(|plan| plan.name.clone()).collect()
    }

    /// Notes that this process has fetched and verified the files of a snapshot's line.
    pub(crate) fn note_verified(&mut self, line: String) {
        self.snapshots.note_verified(line);
    }

    /// Removes the files of snapshots. Must be called only if none waits to be published.
    pub(crate) fn clear_snapshots(&mut self) -> std::io::Result<()> {
        self.snapshots.clear()
    }

    /// Publishes the staged operations as `checkpoint`, unless uploads are pending.
    pub(crate) fn publish(
        &mut self,
        connection: &mut Connection,
        checkpoint: &Checkpoint,
    ) -> Result<Publication, PublishError> {
        let attached = self.snapshots.attach(connection)?;
        let published = self.publish_with(connection, &attached, checkpoint);

        // The files are detached after a failure, too: an attached file could not be replaced.
        let detached = attached.detach(connection);
        let published = published?;
        detached?;
        Ok(published)
    }

    fn publish_with(
        &self,
        connection: &mut Connection,
        attached: &AttachedSnapshots,
        checkpoint: &Checkpoint,
    ) -> Result<Publication, PublishError> {
        // An immediate transaction keeps other writers out from here on, so that the results of the
        // checks stay true until the commit.
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.check_generation(&tx)?;

        // Nothing becomes visible, but all of the checkpoint is stored. With the positions noted, the
        // next stream continues behind it.
        if !contains_local_writes(&tx, checkpoint)? {
            note_positions(&tx, checkpoint)?;
            tx.commit()?;
            return Ok(Publication::Deferred);
        }

        // A cleared bucket loses its staged snapshot, too, so this comes before the merge.
        let unlisted = clear_unlisted_buckets(&tx, checkpoint)?;

        // Snapshots come before everything else that writes. Their rows are older than what was
        // staged since, and large loads want to come before small writes (see `bulk_load.rs`).
        let merged = attached.merge(&tx, &self.plans)?;

        note_positions(&tx, checkpoint)?;

        // From here on our triggers do not capture. Only this transaction sees the flag.
        tx.execute("UPDATE _tw_state SET applying = 1", [])?;
        stage_removals(&tx)?;
        stage_local_writes(&tx)?;
        let published = RowPublisher::new(&tx, &self.plans)?.run()?;

        // Their copies are gone, so nothing refers to these buckets any more.
        for bucket in unlisted {
            tx.prepare_cached("DELETE FROM _tw_buckets WHERE id = ?1")?.execute([bucket])?;
        }
        record_checkpoint(&tx, checkpoint)?;
        tx.commit()?;

        Ok(Publication::Published {
            tables: published.tables.into_iter().chain(merged.tables).collect(),
            rows: published.rows + merged.rows,
            snapshot_buckets: merged.buckets,
        })
    }

    /// Refuses to publish into tables that another process has changed.
    fn check_generation(&self, tx: &Transaction<'_>) -> Result<(), PublishError> {
        let sql = "SELECT schema_generation FROM _tw_state";
        let stored: i64 = tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        if stored == self.schema_generation { Ok(()) } else { Err(PublishError::SchemaChanged) }
    }
}

/// Returns whether the checkpoint contains every local write: none waits in the queue, and the
/// write checkpoint of those that were sent has been reached. This is the pending upload check. Its
/// result stays true until the transaction ends.
fn contains_local_writes(tx: &Transaction<'_>, checkpoint: &Checkpoint) -> rusqlite::Result<bool> {
    let (pending_until, queue_is_empty): (i64, bool) = tx.query_row(
        "SELECT gate, NOT EXISTS (SELECT 1 FROM _tw_queue) FROM _tw_state",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let reached = checkpoint.write_checkpoint.map_or(0, |number| number.get());

    Ok(queue_is_empty && pending_until <= reached)
}

/// Notes that each bucket of a verified checkpoint is stored up to the checkpoint.
fn note_positions(tx: &Transaction<'_>, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    let mut upsert = tx.prepare_cached(
        "INSERT INTO _tw_buckets (name, position, count_at_checkpoint) VALUES (?1, ?2, ?3) \
         ON CONFLICT (name) DO UPDATE SET position = excluded.position, \
         count_at_checkpoint = excluded.count_at_checkpoint, count_since = 0",
    )?;
    let position = checkpoint.last_op_id.get();

    for bucket in &checkpoint.buckets {
        upsert.execute(params![bucket.bucket, position, bucket.count.cast_signed()])?;
    }
    Ok(())
}

/// Clears the buckets that the checkpoint does not list, and returns their ids.
fn clear_unlisted_buckets(
    tx: &Transaction<'_>,
    checkpoint: &Checkpoint,
) -> rusqlite::Result<Vec<i64>> {
    let listed: BTreeSet<_> = checkpoint.buckets.iter().map(|b| b.bucket.as_str()).collect();
    let mut select = tx.prepare_cached("SELECT id, name FROM _tw_buckets")?;
    let mut rows = select.query([])?;
    let mut unlisted = Vec::new();
    while let Some(row) = rows.next()? {
        if !listed.contains(row.get_ref(1)?.as_str()?) {
            unlisted.push(row.get(0)?);
        }
    }

    for &bucket in &unlisted {
        staging::reset(tx, bucket)?;
    }
    Ok(unlisted)
}

/// Stages the removal of the copies that cleared buckets contained, before everything else: what
/// the bucket brought again since then comes after it and stays.
fn stage_removals(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let has_cleared = "SELECT EXISTS (SELECT 1 FROM _tw_buckets WHERE is_cleared AND has_rows)";
    if !tx.query_row(has_cleared, [], |row| row.get(0))? {
        return Ok(());
    }

    packs::unpack_cleared(tx)?;
    let removals = format!(
        "INSERT INTO _tw_staged (seq, kind, type, id, bucket, subkey, op_id, data) \
         SELECT {BEFORE_ALL} - row_number() OVER (), {}, type, id, bucket, subkey, op_id, NULL \
         FROM _tw_rows \
         WHERE bucket IN (SELECT id FROM _tw_buckets WHERE is_cleared AND has_rows)",
        kind::DROP
    );
    tx.execute(&removals, []).map(|_| ())
}

/// Stages the rows that the app wrote to, so that each shows the server's state again.
fn stage_local_writes(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let touched = format!(
        "INSERT INTO _tw_staged (seq, kind, type, id, bucket, subkey, op_id, data) \
         SELECT {BEFORE_ALL} - row_number() OVER (), {}, type, id, 0, '', 0, base FROM _tw_touched",
        kind::TOUCHED
    );
    tx.execute(&touched, []).map(|_| ())
}

/// Empties the staging tables and makes the checkpoint the visible one.
fn record_checkpoint(tx: &Transaction<'_>, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    tx.execute_batch(
        "DELETE FROM _tw_staged;
         DELETE FROM _tw_snapshots;
         DELETE FROM _tw_touched;
         UPDATE _tw_buckets SET has_rows = 1 WHERE has_staged;
         UPDATE _tw_buckets SET has_staged = 0 WHERE has_staged;
         UPDATE _tw_buckets SET is_cleared = 0 WHERE is_cleared;",
    )?;

    tx.execute(
        "UPDATE _tw_state SET applying = 0, gate = 0, checkpoint = ?1, \
         synced_at_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        [checkpoint.last_op_id.get()],
    )
    .map(|_| ())
}

#[cfg(test)]
mod tests;
