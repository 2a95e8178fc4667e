//! Applies gathered changes: finds the rows' records, fills in what the stream left out.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use tidewater_storage::Storage;

use crate::error::RunError;
use crate::pgoutput::{Datum, Malformed, Message, Tuple};
use crate::session::{Item, Session};
use crate::source::{CopyRow, row_query, split_copy_row};

/// A change, with its rows' values.
struct Change<'a> {
    table: usize,
    old_key: Option<Arc<str>>,
    new: Option<(Arc<str>, Vec<Datum<'a>>)>,
    /// The whole old row, where the replica identity is FULL.
    old_row: Vec<Datum<'a>>,
}

impl<S: Storage> Session<S> {
    /// Applies changes to the unit, in order.
    pub(crate) async fn apply(&mut self, items: Vec<Item>) -> Result<(), RunError> {
        self.applier.writer.trim();
        let mut keys = Vec::new();
        for item in &items {
            if let Item::Change(table, message) = item {
                let change = self.decode(*table, message)?;
                let rows = change.old_key.into_iter().chain(change.new.map(|(key, _)| key));
                keys.extend(rows.map(|row| (*table, row)));
            }
        }
        self.applier.load(keys).await?;
        for item in items {
            match item {
                Item::Change(table, message) => {
                    let change = self.decode(table, &message)?;
                    self.apply_change(change).await?;
                }
                Item::Truncate(tables) => {
                    for table in tables {
                        self.applier.truncate(table).await?;
                    }
                }
            }
            if self.applier.writer.is_full() {
                self.applier.writer.flush().await?;
            }
        }
        Ok(())
    }

    fn decode<'a>(&self, table: usize, message: &'a Bytes) -> Result<Change<'a>, RunError> {
        let malformed =
            |_: Malformed| RunError::Unexpected("the stream sent a malformed change".to_owned());
        let values = |tuple: Tuple<'a>| {
            let mut out = Vec::new();
            tuple.read(&mut out).map(|()| out).map_err(malformed)
        };
        let synced = &self.applier.tables[table];
        let is_full = synced.table.replica_identity == 'f';
        let mut change = Change { table, old_key: None, new: None, old_row: Vec::new() };
        let (old, new) = match Message::decode(message).map_err(malformed)? {
            Message::Insert { new, .. } => (None, Some(new)),
            Message::Update { old, new, .. } => (old, Some(new)),
            Message::Delete { old, .. } => (Some(old), None),
            Message::Relation(_) | Message::Truncate { .. } | Message::Other => {
                return Err(RunError::Unexpected("a change that is none was gathered".to_owned()));
            }
        };
        if let Some(old) = old {
            let old = values(old)?;
            change.old_key = Some(synced.row_key(&texts(&old)));
            if is_full {
                change.old_row = old;
            }
        }
        if let Some(new) = new {
            let mut new = values(new)?;
            // Key values are never left out, but a row without a key is its whole content.
            for (value, old) in new.iter_mut().zip(&change.old_row) {
                if *value == Datum::Unchanged {
                    *value = *old;
                }
            }
            change.new = Some((synced.row_key(&texts(&new)), new));
        }
        Ok(change)
    }

    async fn apply_change(&mut self, change: Change<'_>) -> Result<(), RunError> {
        let Change { table, old_key, new, .. } = change;
        let Some((new_key, new)) = new else {
            if let Some(old_key) = old_key {
                self.applier.delete(table, &old_key)?;
            }
            return Ok(());
        };
        let is_moved = old_key.as_ref().is_some_and(|old_key| *old_key != new_key);
        if old_key.is_some() && !is_moved && self.applier.tables[table].is_keyless() {
            // Such a row is its content, which is the same: to take it in would count it twice.
            return Ok(());
        }
        let former = old_key.as_ref().unwrap_or(&new_key);
        let record = self.applier.record(&self.applier.record_key(table, former))?;
        let kept = record.map(|record| record.toast).unwrap_or_default();
        let read = self.applier.tables[table].evaluator.columns_read();
        let left_out = |(column, value): (usize, &Datum<'_>)| {
            *value == Datum::Unchanged && read.get(column).copied().unwrap_or(false)
        };
        let missing: Vec<_> =
            new.iter().enumerate().filter(|&value| left_out(value)).map(|(at, _)| at).collect();
        // While a copy is ahead of the stream, the record of the old key may be another row's.
        let trusted = !(is_moved && self.gate.is_some());
        let found = |column: &usize| kept.iter().any(|(at, _)| usize::from(*at) == *column);
        let is_known = trusted && missing.iter().all(found);
        if !missing.is_empty() && !is_known {
            self.read_again(table, old_key.filter(|_| is_moved), &new_key, &new).await?;
            return Ok(());
        }
        let mut row = texts(&new);
        for column in missing {
            row[column] =
                kept.iter().find(|(at, _)| usize::from(*at) == column).map(|(_, text)| &**text);
        }
        if is_moved && let Some(old_key) = &old_key {
            self.applier.delete(table, old_key)?;
        }
        Ok(self.applier.upsert(table, &new_key, &row)?)
    }

    /// Reads a row from the table, since the stream left out a value that is not stored. The row
    /// is then ahead of the stream: readers wait until the stream has come as far.
    async fn read_again(
        &mut self,
        table: usize,
        moved_from: Option<Arc<str>>,
        row_key: &Arc<str>,
        new: &[Datum<'_>],
    ) -> Result<(), RunError> {
        let values = texts(new);
        let synced = &self.applier.tables[table];
        let key = synced.table.key.iter().map(|&column| values[column].unwrap_or_default());
        let query = row_query(synced, &key.map(str::to_owned).collect::<Vec<_>>());
        self.source.begin().await?;
        let rows = self.source.copy_out(&query).await?;
        let rows: Vec<_> = rows.collect().await;
        self.source.end().await?;
        let ahead = self.source.insert_lsn().await?;
        self.gate = Some(self.gate.map_or(ahead, |gate| gate.max(ahead)));
        if let Some(old_key) = moved_from {
            self.applier.delete(table, &old_key)?;
        }
        match rows.into_iter().next().transpose()? {
            Some(row) => {
                let mut copied = CopyRow::default();
                split_copy_row(&row, &mut copied)?;
                let mut row = Vec::new();
                copied.values(&mut row)?;
                self.applier.upsert(table, row_key, &row)?;
            }
            // It is gone by now, and the stream will say so before the gate opens.
            None => self.applier.delete(table, row_key)?,
        }
        // The stream must come by a commit after the read, also when nobody writes.
        Ok(self.source.emit("gate").await?)
    }
}

/// The values that are there.
fn texts<'a>(row: &[Datum<'a>]) -> Vec<Option<&'a str>> {
    row.iter()
        .map(|value| match value {
            Datum::Text(text) => Some(*text),
            Datum::Null | Datum::Unchanged => None,
        })
        .collect()
}
