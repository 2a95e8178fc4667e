//! Applies a batch of changes: loads the rows' records, fills in the values that the stream left
//! out, and asks for a row where it cannot.
//!
//! No I/O on the source happens here. Applying is resumable: [`Applier::apply`] stops at a change
//! that needs a row from the source, and goes on after [`Applier::supply_row`].

use std::sync::Arc;

use tidewater_storage::{BucketStore, ControlStore, ObjectStore, OpLog, RecordStore, Registry};

use crate::apply::applier::{Applier, RowRef, SyncedTable};
use crate::apply::changes::{Change, ChangeBatch, RowChange};
use crate::log::error::WriteError;
use crate::log::writer::RECORDS_CACHED_MAX;
use crate::source::pgoutput::{Datum, Malformed};

/// The reason why each key has a row.
const ROW_PER_KEY: &str = "a row is loaded for each key";

/// The reason why a batch could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The stream sent bytes that are no change.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The log cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The point at which [`Applier::apply`] stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyStep {
    /// All changes are applied.
    Done,
    /// A value is neither in the stream nor in the row's record: the row must be read.
    NeedsRow(RowRequest),
}

/// A row that must be read from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRequest {
    /// Index of the table in the run.
    pub table: usize,
    /// Texts of its key columns.
    pub key: Vec<String>,
}

/// A batch that is being applied. It borrows the values from the batch's messages.
#[derive(Debug)]
pub struct BatchApplication<'b> {
    remaining: std::vec::IntoIter<PreparedChange<'b>>,
    /// The change that waits for [`Applier::supply_row`].
    waiting: Option<Upsert<'b>>,
    /// True if stored rows may be ahead of the stream. Each row that is read sets it.
    has_barrier: bool,
}

/// A change whose records are loaded.
#[derive(Debug)]
enum PreparedChange<'b> {
    Upsert(Upsert<'b>),
    Delete(RowRef),
    Truncate(&'b [usize]),
}

/// A row that exists after the change.
#[derive(Debug)]
struct Upsert<'b> {
    /// The row under its old key, if the change names one.
    old: Option<RowRef>,
    /// True if the old key differs from the new one.
    is_moved: bool,
    new: RowRef,
    values: Vec<Datum<'b>>,
}

/// A change whose values are read.
struct DecodedChange<'b> {
    old_key: Option<Arc<str>>,
    new: Option<(Arc<str>, Vec<Datum<'b>>)>,
}

impl Upsert<'_> {
    /// Returns the row under its old key if the change moved it to another key.
    fn moved_from(&self) -> Option<&RowRef> {
        self.old.as_ref().filter(|_| self.is_moved)
    }
}

impl<S: ControlStore + RecordStore + Clone + 'static> Applier<S> {
    /// Reads a batch's values and loads the records of its rows.
    ///
    /// # Errors
    /// When a message is malformed, or as [`LogWriter::load`](crate::LogWriter::load).
    pub async fn prepare<'b>(
        &mut self,
        batch: &'b ChangeBatch,
    ) -> Result<BatchApplication<'b>, ApplyError> {
        // No reference to a record outlives a batch, so this is the moment to drop records.
        self.writer.trim(RECORDS_CACHED_MAX);

        let mut decoded = Vec::with_capacity(batch.changes.len());
        let mut keys = Vec::with_capacity(batch.changes.len());
        for change in &batch.changes {
            let Change::Row(change) = change else { continue };
            let change_table = change.table;
            let change = decode(&self.tables[change.table], change)?;
            let new_key = change.new.as_ref().map(|(key, _)| key);
            keys.extend(
                change.old_key.iter().chain(new_key).map(|key| (change_table, key.clone())),
            );
            decoded.push(change);
        }

        // One read for all of them. The rows come back in the order of the keys.
        let mut rows = self.load(keys).await?.into_iter();
        let mut decoded = decoded.into_iter();

        let mut prepared = Vec::with_capacity(batch.changes.len());
        for change in &batch.changes {
            if let Change::Truncate(tables) = change {
                prepared.push(PreparedChange::Truncate(tables));
                continue;
            }

            let change = decoded.next().expect("each row change was decoded");
            let old = change.old_key.as_ref().map(|_| rows.next().expect(ROW_PER_KEY));
            let Some((new_key, values)) = change.new else {
                prepared.extend(old.map(PreparedChange::Delete));
                continue;
            };

            let is_moved = change.old_key.is_some_and(|old_key| old_key != new_key);
            let new = rows.next().expect(ROW_PER_KEY);
            prepared.push(PreparedChange::Upsert(Upsert { old, is_moved, new, values }));
        }

        Ok(BatchApplication {
            remaining: prepared.into_iter(),
            waiting: None,
            has_barrier: batch.has_barrier,
        })
    }

    /// Applies the row that [`Applier::apply`] asked for, as it is in the source now; `None` if
    /// it no longer exists there.
    ///
    /// The row is then ahead of the stream. The caller must set a visibility barrier at a
    /// position of the source after the read.
    ///
    /// # Errors
    /// When a record is damaged, or as [`LogWriter::flush`](crate::LogWriter::flush).
    ///
    /// # Panics
    /// When no row was asked for.
    pub async fn supply_row(
        &mut self,
        application: &mut BatchApplication<'_>,
        row: Option<&[Option<&str>]>,
    ) -> Result<(), ApplyError> {
        let upsert = application.waiting.take().expect("a row was asked for");
        application.has_barrier = true;

        if let Some(old) = upsert.moved_from() {
            self.delete(old).await?;
        }
        match row {
            Some(values) => self.upsert(&upsert.new, values).await?,
            // It was deleted since. The stream brings the DELETE before it reaches the barrier.
            None => self.delete(&upsert.new).await?,
        }

        Ok(())
    }

    /// Applies a row's new content, or returns a request for the row if values are missing.
    async fn upsert_change(
        &mut self,
        upsert: &Upsert<'_>,
        has_barrier: bool,
    ) -> Result<Option<RowRequest>, ApplyError> {
        let table = &self.tables[upsert.new.table()];
        let mut values = texts(&upsert.values);
        let missing = missing_columns(table, &upsert.values);
        let mut stored = Vec::new();
        if !missing.is_empty() {
            stored = self.out_of_line(upsert.old.as_ref().unwrap_or(&upsert.new))?;
            let are_stored = missing.iter().all(|&column| stored_value(&stored, column).is_some());
            // With a barrier, records may be ahead of the stream: another row may have taken the
            // old key in the meantime, and the record under that key would be the other row's.
            // Values of a former shape of the table may be of other columns, or from before a rewrite.
            let is_trusted = !(has_barrier && (upsert.is_moved || table.has_former_rows));
            if !(is_trusted && are_stored) {
                let key = table.key_values(&values);
                return Ok(Some(RowRequest { table: upsert.new.table(), key }));
            }
        }
        for column in missing {
            values[column] = stored_value(&stored, column);
        }

        if let Some(old) = upsert.moved_from() {
            self.delete(old).await?;
        }
        self.upsert(&upsert.new, &values).await?;

        Ok(None)
    }
}

impl<S> Applier<S>
where
    S: ControlStore + RecordStore + BucketStore + OpLog + ObjectStore + Registry + Clone + 'static,
{
    /// Applies the batch up to its end, or to the next change that needs a row from the source.
    ///
    /// # Errors
    /// Those of [`LogWriter::flush`](crate::LogWriter::flush).
    ///
    /// # Panics
    /// When the row that the last call asked for was not supplied.
    pub async fn apply(
        &mut self,
        application: &mut BatchApplication<'_>,
    ) -> Result<ApplyStep, ApplyError> {
        assert!(application.waiting.is_none(), "the row that was asked for must be supplied first");

        for change in application.remaining.by_ref() {
            match change {
                PreparedChange::Upsert(upsert) => {
                    let has_barrier = application.has_barrier;
                    if let Some(request) = self.upsert_change(&upsert, has_barrier).await? {
                        application.waiting = Some(upsert);
                        return Ok(ApplyStep::NeedsRow(request));
                    }
                }
                PreparedChange::Delete(row) => self.delete(&row).await?,
                PreparedChange::Truncate(tables) => {
                    for &table in tables {
                        let number = self.tables[table].number;
                        self.truncate(number).await?;
                    }
                }
            }
            self.writer.flush_if_full().await?;
        }

        Ok(ApplyStep::Done)
    }
}

/// Returns the columns that the sync config reads and that the stream left out.
fn missing_columns(table: &SyncedTable, values: &[Datum<'_>]) -> Vec<usize> {
    // The stream's columns beyond those of the catalog are new, and the config reads none of them.
    let columns = values.iter().zip(table.evaluator.columns_read()).enumerate();
    columns
        .filter(|(_, (value, is_read))| **value == Datum::Unchanged && **is_read)
        .map(|(column, _)| column)
        .collect()
}

/// Returns the value of a column among those of a record.
fn stored_value(stored: &[(u16, String)], column: usize) -> Option<&str> {
    stored.iter().find(|(at, _)| usize::from(*at) == column).map(|(_, text)| &**text)
}

/// Reads a change's values and derives the keys of its rows.
fn decode<'b>(table: &SyncedTable, change: &'b RowChange) -> Result<DecodedChange<'b>, Malformed> {
    let old = change.old.as_ref().map(|old| old.read(&change.message)).transpose()?;
    let new = change.new.as_ref().map(|new| new.read(&change.message)).transpose()?;
    let columns = table.table.schema.columns.len();
    if old.iter().chain(&new).any(|tuple| tuple.len() < columns) {
        return Err(Malformed);
    }

    let old_key = old.as_ref().map(|old| table.row_key(&texts(old)));
    let is_identity_full = table.table.replica_identity == 'f';
    let old = old.filter(|_| is_identity_full);
    let Some(mut new) = new else { return Ok(DecodedChange { old_key, new: None }) };

    // With a full replica identity the old row has what the new one leaves out. A keyless row
    // needs it: its key is its whole content.
    for (value, old) in new.iter_mut().zip(old.iter().flatten()) {
        if *value == Datum::Unchanged {
            *value = *old;
        }
    }

    let key = table.row_key(&texts(&new));
    // An UPDATE that changes nothing: the row is stored as it is, or its copy is still to come. The name
    // of a keyless row is its content, and applying the change would count the row twice.
    let is_unchanged =
        old.as_ref() == Some(&new) || (table.is_keyless() && old_key.as_ref() == Some(&key));
    if is_unchanged {
        return Ok(DecodedChange { old_key: None, new: None });
    }

    Ok(DecodedChange { old_key, new: Some((key, new)) })
}

/// Returns the texts of the values; `None` for NULL and for what is left out.
fn texts<'a>(row: &[Datum<'a>]) -> Vec<Option<&'a str>> {
    row.iter()
        .map(|value| match value {
            Datum::Text(text) => Some(*text),
            Datum::Null | Datum::Unchanged => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
