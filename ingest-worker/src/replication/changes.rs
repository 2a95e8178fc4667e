//! Applies gathered changes: finds the rows' records, fills in what the stream left out.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use tidewater_storage::Storage;

use crate::apply::applier::RowRef;
use crate::error::RunError;
use crate::log::writer::RECORDS_CACHED_MAX;
use crate::replication::session::{Item, Session};
use crate::source::connection::{CopyRows, row_query};
use crate::source::pgoutput::{Datum, Malformed, Message, Tuple};

/// A change, with its rows' values.
struct Change<'a> {
    old_key: Option<Arc<str>>,
    new: Option<(Arc<str>, Vec<Datum<'a>>)>,
}

/// A row that is there now, with its records at hand.
struct Upsert<'a> {
    /// The row under its former key, where the change names one.
    old: Option<RowRef>,
    is_moved: bool,
    new: RowRef,
    values: Vec<Datum<'a>>,
}

/// Something to apply.
enum Ready<'a> {
    Upsert(Upsert<'a>),
    Delete(RowRef),
    Truncate(&'a [usize]),
}

impl<S: Storage> Session<S> {
    /// Applies changes to the unit, in order.
    pub(crate) async fn apply(&mut self, items: Vec<Item>) -> Result<(), RunError> {
        self.applier.writer.trim(RECORDS_CACHED_MAX);
        for ready in self.prepare(&items).await? {
            match ready {
                Ready::Upsert(row) => self.upsert(&row).await?,
                Ready::Delete(row) => self.applier.delete(&row)?,
                Ready::Truncate(tables) => {
                    for &table in tables {
                        let number = self.applier.tables[table].number;
                        self.applier.truncate(number).await?;
                    }
                }
            }
            if self.applier.writer.is_full() {
                self.applier.writer.flush().await?;
            }
        }
        Ok(())
    }

    /// Reads changes and the records of their rows.
    async fn prepare<'a>(&mut self, items: &'a [Item]) -> Result<Vec<Ready<'a>>, RunError> {
        let mut changes = Vec::with_capacity(items.len());
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            let Item::Change(table, message) = item else { continue };
            let change = self.decode(*table, message)?;
            let keys = change.old_key.iter().chain(change.new.as_ref().map(|(key, _)| key));
            rows.extend(keys.map(|key| (*table, key.clone())));
            changes.push(change);
        }
        let rows = self.applier.load(rows).await?;
        let (mut rows, mut changes) = (rows.into_iter(), changes.into_iter());
        let mut ready = Vec::with_capacity(items.len());
        for item in items {
            if let Item::Truncate(tables) = item {
                ready.push(Ready::Truncate(tables));
                continue;
            }
            let missing = || RunError::Unexpected("a row was not loaded".to_owned());
            let Change { old_key, new } = changes.next().ok_or_else(missing)?;
            let old = old_key.as_ref().map(|_| rows.next().ok_or_else(missing)).transpose()?;
            let Some((key, values)) = new else {
                ready.extend(old.map(Ready::Delete));
                continue;
            };
            let new = rows.next().ok_or_else(missing)?;
            let is_moved = old_key.is_some_and(|old_key| old_key != key);
            ready.push(Ready::Upsert(Upsert { old, is_moved, new, values }));
        }
        Ok(ready)
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
        let mut change = Change { old_key: None, new: None };
        let (old, new) = match Message::decode(message).map_err(malformed)? {
            Message::Insert { new, .. } => (None, Some(new)),
            Message::Update { old, new, .. } => (old, Some(new)),
            Message::Delete { old, .. } => (Some(old), None),
            Message::Relation(_) | Message::Truncate { .. } | Message::Other => {
                return Err(RunError::Unexpected("a change that is none was gathered".to_owned()));
            }
        };
        let mut old_row = Vec::new();
        if let Some(old) = old {
            let old = values(old)?;
            change.old_key = Some(synced.row_key(&texts(&old)));
            if is_full {
                old_row = old;
            }
        }
        if let Some(new) = new {
            let mut new = values(new)?;
            // Key values are never left out, but a row without a key is its whole content.
            for (value, old) in new.iter_mut().zip(&old_row) {
                if *value == Datum::Unchanged {
                    *value = *old;
                }
            }
            change.new = Some((synced.row_key(&texts(&new)), new));
        }
        Ok(change)
    }

    async fn upsert(&mut self, row: &Upsert<'_>) -> Result<(), RunError> {
        let Upsert { old, is_moved, new, values } = row;
        let (old, synced) = (old.as_ref(), &self.applier.tables[new.table()]);
        if old.is_some() && !is_moved && synced.is_keyless() {
            // Such a row is its content, which is the same: to take it in would count it twice.
            return Ok(());
        }
        let moved_from = old.filter(|_| *is_moved);
        let read = synced.evaluator.columns_read();
        let left_out = |(column, value): (usize, &Datum<'_>)| {
            *value == Datum::Unchanged && read.get(column).copied().unwrap_or(false)
        };
        let missing: Vec<_> =
            values.iter().enumerate().filter(|&value| left_out(value)).map(|(at, _)| at).collect();
        let mut kept = Vec::new();
        if !missing.is_empty() {
            kept = self.applier.out_of_line(old.unwrap_or(new))?;
            // While a copy is ahead of the stream, the record of the old key may be another row's.
            let trusted = !(*is_moved && self.visibility_barrier.is_some());
            let found = |column: &usize| kept.iter().any(|(at, _)| usize::from(*at) == *column);
            if !(trusted && missing.iter().all(found)) {
                return self.read_again(moved_from, new, values).await;
            }
        }
        let mut row = texts(values);
        for column in missing {
            row[column] =
                kept.iter().find(|(at, _)| usize::from(*at) == column).map(|(_, text)| &**text);
        }
        if let Some(old) = moved_from {
            self.applier.delete(old)?;
        }
        Ok(self.applier.upsert(new, &row)?)
    }

    /// Reads a row from the table, since the stream left out a value that is not stored. The row
    /// is then ahead of the stream: readers wait until the stream has come as far.
    async fn read_again(
        &mut self,
        moved_from: Option<&RowRef>,
        new: &RowRef,
        values: &[Datum<'_>],
    ) -> Result<(), RunError> {
        let values = texts(values);
        let synced = &self.applier.tables[new.table()];
        let key = synced.table.key.iter().map(|&column| values[column].unwrap_or_default());
        let query = row_query(synced, &key.map(str::to_owned).collect::<Vec<_>>());
        self.source.begin_snapshot().await?;
        let rows = self.source.copy_out(&synced.table, &query).await?;
        let rows: Vec<_> = rows.collect().await;
        self.source.end_snapshot().await?;
        let ahead = self.source.insert_lsn().await?;
        self.visibility_barrier =
            Some(self.visibility_barrier.map_or(ahead, |barrier| barrier.max(ahead)));
        if let Some(old) = moved_from {
            self.applier.delete(old)?;
        }
        match rows.into_iter().next().transpose()? {
            Some(row) => {
                let mut copied = CopyRows::default();
                copied.push(&row);
                self.applier.upsert(new, &copied.values()?)?;
            }
            // It is gone by now, and the stream will say so before the visibility barrier opens.
            None => self.applier.delete(new)?,
        }
        // The stream must come by a commit after the read, also when nobody writes.
        Ok(self.source.emit_message("gate").await?)
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
