//! Copies a table, chunk by chunk, between the stream's transactions.

use bytes::Bytes;
use futures::StreamExt;
use tidewater_storage::Storage;

use crate::config::Progress;
use crate::error::RunError;
use crate::initial_copy::state::{CopyState, GoneTable, TableCopy};
use crate::log::writer::RECORDS_CACHED_MAX;
use crate::replication::session::Session;
use crate::source::connection::{CopyRows, rows_query};
use crate::source::error::SourceError;
use crate::start::BARRIER_UNKNOWN;

/// Rows of a chunk: after each the cursor is committed.
const CHUNK_ROWS: usize = 20_000;
/// Rows, and bytes of them, that are held at a time.
const HELD_ROWS: usize = 2_000;
const HELD_BYTES: usize = 2 << 20;

impl<S: Storage> Session<S> {
    /// Copies the next chunk and commits it with the cursor. No transaction of the stream is
    /// applied meanwhile, and everything applied before is in the chunk's snapshot.
    pub(crate) async fn copy_chunk(
        &mut self,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), RunError> {
        let next = self.copy.as_ref().and_then(CopyState::next);
        let Some((number, progress)) = next else { return Ok(()) };
        let after = match progress {
            TableCopy::After(key) => Some(key.clone()),
            TableCopy::Todo | TableCopy::Done | TableCopy::Whole(_) => None,
        };
        let table = self.applier.tables.iter().position(|table| table.number == number);
        let table =
            table.ok_or_else(|| RunError::Unexpected("a table has no number".to_owned()))?;
        let snapshot_text;
        let (count, last_key) = {
            let snapshot = self.source.begin_snapshot().await?;
            snapshot_text = snapshot.to_string();
            let synced = &self.applier.tables[table];
            let query = rows_query(synced, after.as_deref(), CHUNK_ROWS);
            let rows = self.source.copy_out(&synced.table, &query).await?;
            let read = self.take_rows(table, rows, on_progress).await?;
            self.source.end_snapshot().await?;
            read
        };
        let is_keyless = self.applier.tables[table].is_keyless();
        let progress = match last_key {
            _ if is_keyless => TableCopy::Whole(snapshot_text),
            Some(key) if count == CHUNK_ROWS => TableCopy::After(key),
            _ => TableCopy::Done,
        };
        let is_done = !matches!(progress, TableCopy::After(_));
        if let Some(copy) = &mut self.copy {
            copy.advance(number, progress);
        }
        let is_last = self.copy.as_ref().is_some_and(|copy| copy.next().is_none());
        if is_last {
            self.visibility_barrier = Some(self.source.insert_lsn().await?);
        }
        self.commit().await?;
        if is_done {
            let name = self.applier.tables[table].table.display_name();
            let rows = self.copied_rows.get(&table).copied().unwrap_or_default();
            on_progress(Progress::Copied { table: name, rows });
        }
        if is_last {
            // The stream must come by a commit after the last chunk, also when nobody writes.
            self.source.emit_message("gate").await?;
        }
        Ok(())
    }

    /// Removes the rows of tables that the generation held and that are not there any more. As the
    /// stream may still be at a time when they were, readers wait until it has come as far.
    pub(crate) async fn remove_gone(&mut self, gone: &[GoneTable]) -> Result<(), RunError> {
        for table in gone {
            self.applier.truncate(table.number).await?;
            // Nobody looks for its rows' records; of its answers readers must know.
            if !table.has_lookups {
                self.applier.truncated.retain(|truncated| truncated.table != table.number);
            }
        }
        let has_copied = self.copy.as_ref().is_some_and(|copy| copy.next().is_none());
        if has_copied && self.visibility_barrier == Some(BARRIER_UNKNOWN) {
            self.visibility_barrier = Some(self.source.insert_lsn().await?);
            self.commit().await?;
            self.source.emit_message("gate").await?;
        }
        Ok(())
    }

    /// Applies the rows of a query; gives their number and the key of the last.
    async fn take_rows(
        &mut self,
        table: usize,
        rows: impl futures::Stream<Item = Result<Bytes, SourceError>> + Send,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(usize, Option<Vec<String>>), RunError> {
        let mut rows = std::pin::pin!(rows);
        let (mut count, mut last_key) = (0, None);
        let mut held = CopyRows::default();
        let mut held_rows = 0;
        loop {
            let row = rows.next().await.transpose()?;
            let is_last = row.is_none();
            if let Some(row) = row {
                held.push(&row);
                held_rows += 1;
            }
            if is_last || held_rows >= HELD_ROWS || held.len() >= HELD_BYTES {
                count += held_rows;
                if let Some(key) = self.take_held(table, &held).await? {
                    last_key = Some(key);
                }
                self.report(table, held_rows, on_progress);
                held.clear();
                held_rows = 0;
            }
            if is_last {
                return Ok((count, last_key));
            }
        }
    }

    async fn take_held(
        &mut self,
        table: usize,
        held: &CopyRows,
    ) -> Result<Option<Vec<String>>, RunError> {
        self.applier.writer.trim(RECORDS_CACHED_MAX);
        let synced = &self.applier.tables[table];
        let columns = synced.table.schema.columns.len();
        let values = held.values()?;
        let values: Vec<_> = values.chunks_exact(columns.max(1)).collect();
        let keys = values.iter().map(|row| synced.row_key(row)).collect();
        let rows = self.applier.load_copied(table, keys).await?;
        for (row, values) in rows.iter().zip(&values) {
            self.applier.upsert(row, values)?;
            if self.applier.writer.is_full() {
                self.applier.writer.flush().await?;
            }
        }
        let key = &self.applier.tables[table].table.key;
        let text =
            |row: &&[Option<&str>], column: usize| row[column].unwrap_or_default().to_owned();
        Ok(values.last().map(|row| key.iter().map(|&column| text(row, column)).collect()))
    }

    fn report(
        &mut self,
        table: usize,
        rows: usize,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) {
        let total = self.copied_rows.entry(table).or_default();
        *total += rows as u64;
        let synced = &self.applier.tables[table].table;
        let estimated = synced.estimated_rows;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate for a progress bar"
        )]
        let estimated = (estimated >= 0.0).then_some(estimated as u64);
        let table = synced.display_name();
        on_progress(Progress::Copying { table, rows: *total, estimated });
    }
}
