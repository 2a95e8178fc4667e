//! Makes a complete checkpoint visible, in one transaction.
//!
//! What is staged is read row by row, in the order of the tables' keys. For each row the copies
//! that the buckets hold are taken to their new state, the copy with the greatest op id wins, and
//! its value becomes the visible row. The value of a copy that is equal to the visible row is not
//! stored a second time (`_tw_rows.payload` is null); any other is kept aside there.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use tidewater_protocol::Checkpoint;

use crate::db::staging::{self, kind};
use crate::db::table_plan::{Slots, TablePlan};
use crate::publish::merge::{Merging, Pending};
use crate::publish::packs;

/// Tables by the number of their row type. A type that is not here has no table.
pub(crate) type Plans = BTreeMap<i64, TablePlan>;

/// The app's tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables<'a> {
    pub(crate) plans: &'a Plans,
    /// Of the schema that the plans were made from.
    pub(crate) generation: i64,
}

/// What an apply did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Published {
        tables: BTreeSet<String>,
        rows: u64,
        /// Buckets that came as snapshots.
        snapshots: BTreeSet<String>,
    },
    /// Local writes are not in this checkpoint yet.
    Held,
}

/// Why nothing was published; the database is as before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The app's tables do not take the row.
    #[error("table {table} refuses row '{id}': {reason}")]
    Refused { table: String, id: String, reason: String },
    /// Another process has opened the file with a changed schema.
    #[error("the schema was changed by another process: open the database again")]
    SchemaChanged,
    /// The files of a bucket's snapshot cannot be used: the bucket has to be downloaded again.
    #[error("the snapshot of bucket {bucket} cannot be used: {reason}")]
    Snapshot { bucket: String, reason: String },
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The device's disk.
    #[error("cannot use a file of a snapshot: {0}")]
    File(std::io::Error),
}

/// Publishes what is staged as `checkpoint`, unless the gate is shut: then only the positions are
/// noted.
pub(crate) fn apply(
    connection: &mut Connection,
    tables: Tables<'_>,
    merging: &mut Merging,
    checkpoint: &Checkpoint,
) -> Result<Applied, ApplyError> {
    // Files can be attached outside of a transaction only.
    let pending = merging.open(connection)?;
    let applied = apply_with(connection, tables, &pending, checkpoint);
    let detached = pending.detach(connection);
    let applied = applied?;
    detached?;
    Ok(applied)
}

fn apply_with(
    connection: &mut Connection,
    Tables { plans, generation }: Tables<'_>,
    pending: &Pending,
    checkpoint: &Checkpoint,
) -> Result<Applied, ApplyError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (gate, queue_is_empty, stored_generation): (i64, bool, i64) = tx.query_row(
        "SELECT gate, NOT EXISTS (SELECT 1 FROM _tw_queue), schema_generation FROM _tw_state",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    if stored_generation != generation {
        return Err(ApplyError::SchemaChanged);
    }
    let acknowledged = checkpoint.write_checkpoint.map_or(0, |number| number.get());
    if !queue_is_empty || gate > acknowledged {
        note_positions(&tx, checkpoint)?;
        tx.commit()?;
        return Ok(Applied::Held);
    }
    let lost = lose_buckets(&tx, checkpoint)?;
    // What a snapshot brings comes before what was staged of its bucket since, and before all
    // that changes little: see `merge/bulk.rs`.
    let merged = pending.merge(&tx, plans)?;
    note_positions(&tx, checkpoint)?;
    tx.execute("UPDATE _tw_state SET applying = 1", [])?;
    stage_drops_and_touches(&tx)?;
    let mut pass = Pass::new(&tx, plans)?;
    pass.run()?;
    for bucket in lost {
        tx.prepare_cached("DELETE FROM _tw_buckets WHERE id = ?1")?.execute([bucket])?;
    }
    let applied = Applied::Published {
        tables: pass.tables.into_iter().chain(merged.tables).collect(),
        rows: pass.rows + merged.rows,
        snapshots: merged.buckets,
    };
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
    )?;
    tx.commit()?;
    Ok(applied)
}

/// Each bucket of a validated checkpoint has got as far as the checkpoint.
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

/// Clears the buckets that the checkpoint does not name, and returns them.
fn lose_buckets(tx: &Transaction<'_>, checkpoint: &Checkpoint) -> rusqlite::Result<Vec<i64>> {
    let named: BTreeSet<_> = checkpoint.buckets.iter().map(|b| b.bucket.as_str()).collect();
    let mut select = tx.prepare_cached("SELECT id, name FROM _tw_buckets")?;
    let mut rows = select.query([])?;
    let mut lost = Vec::new();
    while let Some(row) = rows.next()? {
        if !named.contains(row.get_ref(1)?.as_str()?) {
            lost.push(row.get(0)?);
        }
    }
    lost.iter().try_for_each(|bucket| staging::reset(tx, *bucket))?;
    Ok(lost)
}

/// Puts the copies that cleared buckets held, and the rows that the app wrote to, before all that
/// is staged: their numbers are below zero.
fn stage_drops_and_touches(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let cleared = "SELECT EXISTS (SELECT 1 FROM _tw_buckets WHERE is_cleared AND has_rows)";
    if tx.query_row(cleared, [], |row| row.get(0))? {
        packs::open_cleared(tx)?;
        let drops = format!(
            "INSERT INTO _tw_staged (seq, kind, type, id, bucket, subkey, op_id, data) \
             SELECT {BEFORE_ALL} - row_number() OVER (), {}, type, id, bucket, subkey, op_id, NULL \
             FROM _tw_rows \
             WHERE bucket IN (SELECT id FROM _tw_buckets WHERE is_cleared AND has_rows)",
            kind::DROP
        );
        tx.execute(&drops, [])?;
    }
    let touched = format!(
        "INSERT INTO _tw_staged (seq, kind, type, id, bucket, subkey, op_id, data) \
         SELECT {BEFORE_ALL} - row_number() OVER (), {}, type, id, 0, '', 0, base FROM _tw_touched",
        kind::TOUCHED
    );
    tx.execute(&touched, []).map(|_| ())
}

/// SQL for a number that is not above any that is used, and not above zero.
pub(crate) const BEFORE_ALL: &str = "min(0, (SELECT coalesce(min(seq), 0) FROM _tw_staged))";

/// A bucket's copy of a row.
#[derive(Debug)]
struct Copy {
    bucket: i64,
    subkey: String,
    op_id: i64,
    value: CopyValue,
    is_changed: bool,
}

#[derive(Debug)]
enum CopyValue {
    /// That of the row as it was visible before.
    Visible,
    /// Its JSON.
    Text(String),
}

/// A row while what is staged for it is gone through.
#[derive(Debug)]
struct Row {
    type_id: i64,
    id: String,
    copies: Vec<Copy>,
    gone: Vec<(i64, String)>,
    had_copies: bool,
    /// Set if the app wrote to the row: the server's value before, if there was one.
    touched: Option<Option<String>>,
}

struct Pass<'a> {
    tx: &'a Transaction<'a>,
    plans: &'a Plans,
    tables: BTreeSet<String>,
    rows: u64,
    has_deferred: bool,
    has_packs: bool,
}

impl<'a> Pass<'a> {
    fn new(tx: &'a Transaction<'a>, plans: &'a Plans) -> rusqlite::Result<Self> {
        let has_packs = packs::any(tx)?;
        Ok(Self { tx, plans, tables: BTreeSet::new(), rows: 0, has_deferred: false, has_packs })
    }

    fn run(&mut self) -> Result<(), ApplyError> {
        // The sort is SQLite's: it spills to a file, so memory stays bounded.
        let mut select = self.tx.prepare(
            "SELECT type, id, kind, bucket, subkey, op_id, data FROM _tw_staged \
             ORDER BY type, id, seq",
        )?;
        let mut staged = select.query([])?;
        let mut current: Option<Row> = None;
        while let Some(entry) = staged.next()? {
            let type_id: i64 = entry.get(0)?;
            let id = entry.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let mut row = match current.take() {
                Some(row) if row.type_id == type_id && row.id == id => row,
                former => {
                    if let Some(former) = former {
                        self.finish(former)?;
                    }
                    self.load(type_id, id)?
                }
            };
            let data: Option<String> = entry.get(6)?;
            row.receive(entry.get(2)?, (entry.get(3)?, entry.get(4)?), entry.get(5)?, data);
            current = Some(row);
        }
        if let Some(last) = current {
            self.finish(last)?;
        }
        self.write_deferred()
    }

    fn load(&self, type_id: i64, id: &str) -> rusqlite::Result<Row> {
        if self.has_packs {
            packs::open_holding(self.tx, type_id, id)?;
        }
        let mut select = self.tx.prepare_cached(
            "SELECT bucket, subkey, op_id, payload FROM _tw_rows WHERE type = ?1 AND id = ?2",
        )?;
        let copies: Vec<_> = select
            .query_map(params![type_id, id], |row| {
                let value = row.get::<_, Option<String>>(3)?;
                let value = value.map_or(CopyValue::Visible, CopyValue::Text);
                let (bucket, subkey, op_id) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(Copy { bucket, subkey, op_id, value, is_changed: false })
            })?
            .collect::<rusqlite::Result<_>>()?;
        let had_copies = !copies.is_empty();
        Ok(Row { type_id, id: id.to_owned(), copies, gone: Vec::new(), had_copies, touched: None })
    }

    fn finish(&mut self, mut row: Row) -> Result<(), ApplyError> {
        self.rows += 1;
        if let Some(plan) = self.plans.get(&row.type_id) {
            self.show(plan, &mut row)?;
        }
        let mut delete = self.tx.prepare_cached(
            "DELETE FROM _tw_rows WHERE type = ?1 AND id = ?2 AND bucket = ?3 AND subkey = ?4",
        )?;
        for (bucket, subkey) in &row.gone {
            delete.execute(params![row.type_id, row.id, bucket, subkey])?;
        }
        let mut upsert = self.tx.prepare_cached(
            "INSERT OR REPLACE INTO _tw_rows (type, id, bucket, subkey, op_id, payload) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for copy in row.copies.iter().filter(|copy| copy.is_changed) {
            let payload = match &copy.value {
                CopyValue::Visible => None,
                CopyValue::Text(text) => Some(text),
            };
            let (bucket, subkey, op_id) = (copy.bucket, &copy.subkey, copy.op_id);
            upsert.execute(params![row.type_id, row.id, bucket, subkey, op_id, payload])?;
        }
        Ok(())
    }

    /// Makes the winning copy's value the visible row, and sees to it that every other copy whose
    /// value was the visible one keeps its own.
    fn show(&mut self, plan: &TablePlan, row: &mut Row) -> Result<(), ApplyError> {
        let winner = (0..row.copies.len()).max_by_key(|&at| {
            let copy = &row.copies[at];
            (copy.op_id, copy.bucket, copy.subkey.clone())
        });
        let Some(winner) = winner else {
            if row.had_copies || row.touched.is_some() {
                self.tables.insert(plan.name.clone());
                plan.delete(self.tx, &row.id)?;
            }
            return Ok(());
        };
        let before = match &row.touched {
            _ if !row.needs_value_before(winner) => None,
            Some(base) => base.clone(),
            None => plan.image(self.tx, &row.id)?,
        };
        let value = std::mem::replace(&mut row.copies[winner].value, CopyValue::Visible);
        let (text, is_new) = match value {
            CopyValue::Text(text) => (Some(text), true),
            CopyValue::Visible => (before.clone(), false),
        };
        row.copies[winner].is_changed |= is_new;
        let Some(text) = text else { return Ok(()) };
        let slots = self.read(plan, &row.id, &text)?;
        for (at, copy) in row.copies.iter_mut().enumerate() {
            if at != winner {
                copy.set_apart(plan, before.as_deref(), (&text, &slots), is_new);
            }
        }
        if is_new || row.touched.is_some() {
            self.tables.insert(plan.name.clone());
            self.upsert(plan, &row.id, &slots, &text)?;
        }
        Ok(())
    }

    fn read<'t>(&self, plan: &TablePlan, id: &str, text: &'t str) -> Result<Slots<'t>, ApplyError> {
        plan.read(text).map_err(|error| refused(plan, id, error.to_string()))
    }

    /// Writes the visible row. One that stands in the way of a unique index may itself move away
    /// later in this apply: then this one waits for the end.
    fn upsert(
        &mut self,
        plan: &TablePlan,
        id: &str,
        slots: &Slots<'_>,
        text: &str,
    ) -> Result<(), ApplyError> {
        match plan.upsert(self.tx, id, slots) {
            Ok(()) => Ok(()),
            Err(error) if is_constraint(&error) => {
                if !std::mem::replace(&mut self.has_deferred, true) {
                    self.tx.execute_batch(
                        "CREATE TEMP TABLE IF NOT EXISTS _tw_deferred (tab, id, data);
                         DELETE FROM _tw_deferred;",
                    )?;
                }
                plan.delete(self.tx, id)?;
                let insert = "INSERT INTO _tw_deferred (tab, id, data) VALUES (?1, ?2, ?3)";
                self.tx.prepare_cached(insert)?.execute([&plan.name, id, text])?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write_deferred(&self) -> Result<(), ApplyError> {
        if !self.has_deferred {
            return Ok(());
        }
        let mut select = self.tx.prepare("SELECT tab, id, data FROM _tw_deferred")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (table, id, text): (String, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let Some(plan) = self.plans.values().find(|plan| plan.name == table) else { continue };
            let slots = self.read(plan, &id, &text)?;
            plan.upsert(self.tx, &id, &slots).map_err(|error| {
                if is_constraint(&error) {
                    refused(plan, &id, error.to_string())
                } else {
                    error.into()
                }
            })?;
        }
        drop(rows);
        drop(select);
        self.tx.execute_batch("DELETE FROM _tw_deferred")?;
        Ok(())
    }
}

impl Row {
    fn receive(&mut self, kind: i64, key: (i64, String), op_id: i64, data: Option<String>) {
        let (bucket, subkey) = key;
        if kind == kind::TOUCHED {
            self.touched = Some(data);
            return;
        }
        let place = self.copies.iter().position(|c| c.bucket == bucket && c.subkey == subkey);
        match (data, place) {
            (Some(data), Some(place)) => {
                let copy = &mut self.copies[place];
                (copy.op_id, copy.value, copy.is_changed) = (op_id, CopyValue::Text(data), true);
            }
            (Some(data), None) => {
                let value = CopyValue::Text(data);
                self.copies.push(Copy { bucket, subkey, op_id, value, is_changed: true });
            }
            (None, Some(place)) => {
                let Copy { bucket, subkey, .. } = self.copies.swap_remove(place);
                self.gone.push((bucket, subkey));
            }
            (None, None) => {}
        }
    }

    /// Whether the value that was visible before has to be known.
    fn needs_value_before(&self, winner: usize) -> bool {
        let others_had_it = self
            .copies
            .iter()
            .enumerate()
            .any(|(at, copy)| at != winner && matches!(copy.value, CopyValue::Visible));
        let is_visible = matches!(self.copies[winner].value, CopyValue::Visible);
        others_had_it || (is_visible && (self.touched.is_some() || self.copies.len() > 1))
    }
}

impl Copy {
    /// Keeps this copy's value aside if it differs from what is visible from now on.
    fn set_apart(
        &mut self,
        plan: &TablePlan,
        before: Option<&str>,
        (text, slots): (&str, &Slots<'_>),
        is_new: bool,
    ) {
        let is_equal = |other: &str| other == text || plan.read(other).is_ok_and(|o| o == *slots);
        match &self.value {
            CopyValue::Visible if !is_new => {}
            CopyValue::Visible => {
                if let Some(before) = before.filter(|before| !is_equal(before)) {
                    self.value = CopyValue::Text(before.to_owned());
                    self.is_changed = true;
                }
            }
            CopyValue::Text(own) if self.is_changed && is_equal(own) => {
                self.value = CopyValue::Visible;
            }
            CopyValue::Text(_) => {}
        }
    }
}

pub(crate) fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

fn refused(plan: &TablePlan, id: &str, reason: String) -> ApplyError {
    ApplyError::Refused { table: plan.name.clone(), id: id.to_owned(), reason }
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;
