//! Turns changed rows into operations: compares the buckets and lookups of a row's new content with
//! those in its record.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_protocol::{Body, Digest, RowKey};
use tidewater_storage::{
    BucketKey, ControlStore, Generation, LookupKey, Lsn, RecordKey, RecordStore, SourceRowPage,
    StorageError, Tag, Ticket, Truncation, answer_name,
};
use tidewater_sync_config::{RowOutput, UnionEvaluator};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::apply::difference::{
    answers, changed_rows, left_answers, left_places, memberships, new_answers,
};
use crate::apply::digests::{BucketDigests, digest_free};
use crate::apply::fan_out::keep_limits;
use crate::apply::out_of_line::out_of_line;
use crate::apply::source_row::{Answer, Membership, SourceRow};
use crate::apply::tags::TagsByNumber;
use crate::apply::unsynced_rows::UnsyncedRows;
use crate::log::error::WriteError;
use crate::log::record_cache::RecordRef;
use crate::log::writer::{CommitOptions, LogWriter, RECORDS_CACHED_MAX};
use crate::metrics;
use crate::source::catalog::SourceTable;

/// Characters of a key that a log line shows.
const LOGGED_KEY_CHARS_MAX: usize = 200;

/// The reason why each number in a decoded record has a tag.
const KNOWN_NUMBER: &str = "numbers that no generation uses are left out";

/// A table that the sync config reads.
#[derive(Debug)]
pub struct SyncedTable {
    /// The number of the table in its generation, under which its rows are stored.
    pub number: u16,
    /// The table as the catalog describes it.
    pub table: SourceTable,
    /// The evaluator of its rows, whose definitions and lookups have their numbers in source rows.
    pub evaluator: UnionEvaluator,
    /// Changes that were committed up to this position are left to the table's copy.
    pub copied_after: Lsn,
    /// True if stored rows may be of a former shape of the table, until its copy is visible.
    pub has_former_rows: bool,
    /// True if a copy changes only what configs that are not served have of the table.
    pub is_extended: bool,
}

impl SyncedTable {
    /// Returns whether only their content distinguishes the table's rows.
    pub fn is_keyless(&self) -> bool {
        self.table.key.is_empty()
    }

    /// Returns the name of a row's record: the text of its key, or the hash of the whole row.
    pub fn row_key(&self, row: &[Option<&str>]) -> Arc<str> {
        if let [column] = self.table.key[..] {
            return row[column].unwrap_or_default().into();
        }

        let columns: Vec<_> =
            if self.is_keyless() { (0..row.len()).collect() } else { self.table.key.clone() };

        let mut text = String::new();
        for column in columns {
            // The length keeps ("a|b", "c") apart from ("a", "b|c"), the sign NULL from "".
            let value = row[column];
            text.push_str(&value.map_or_else(|| "-:".to_owned(), |v| format!("{}:{v}", v.len())));
        }

        if self.is_keyless() {
            return format!("{:032x}", xxh3_128(text.as_bytes())).into();
        }
        text.into()
    }

    /// Returns the texts of the key columns of a row.
    pub(crate) fn key_values(&self, row: &[Option<&str>]) -> Vec<String> {
        let key = self.table.key.iter();
        key.map(|&column| row[column].unwrap_or_default().to_owned()).collect()
    }

    /// Returns the texts of the key columns of the row with this name; `None` if no row of a table with
    /// this key has it. The opposite of [`SyncedTable::row_key`].
    pub fn key_of(&self, row_key: &str) -> Option<Vec<String>> {
        if self.table.key.len() == 1 {
            return Some(vec![row_key.to_owned()]);
        }
        let mut key = Vec::new();
        let mut rest = row_key;
        while !rest.is_empty() {
            let (length, text) = rest.split_once(':')?;
            let value = text.get(..length.parse().ok()?)?;
            key.push(value.to_owned());
            rest = &text[value.len()..];
        }
        (key.len() == self.table.key.len()).then_some(key)
    }

    /// Returns the name of the row with these texts in its key columns.
    pub fn name_of(&self, key: &[Option<&str>]) -> Arc<str> {
        let mut row = vec![None; self.table.schema.columns.len()];
        for (&column, value) in self.table.key.iter().zip(key) {
            row[column] = *value;
        }
        self.row_key(&row)
    }

    /// Writes the subkey of a row to `out`. It distinguishes the row from rows of other tables with the
    /// same type and id.
    pub(crate) fn subkey(&self, row_key: &str, out: &mut String) {
        out.clear();
        write!(out, "{}.{:016x}", self.number, xxh3_64(row_key.as_bytes()))
            .expect("a String takes every write");
    }
}

/// A row whose record is loaded. Valid until the writer's records are trimmed.
#[derive(Clone, Debug)]
pub struct RowRef {
    table: usize,
    key: Arc<str>,
    record: RecordRef,
}

impl RowRef {
    /// Returns the index of its table in [`Applier::tables`].
    pub fn table(&self) -> usize {
        self.table
    }
}

/// Applies rows to the log under the maintained generations. It does no I/O on the source: rows come in as text,
/// whether from the stream or from a copy.
#[derive(Debug)]
pub struct Applier<S> {
    /// The writer of the log.
    pub writer: LogWriter<S>,
    /// The latest generation.
    pub generation: Generation,
    /// The tables of the run. Rows refer to them by their indexes.
    pub tables: Arc<[SyncedTable]>,
    /// The last truncation of each table. Every commit contains them.
    pub truncated: Vec<Truncation>,
    pub(crate) unsynced_rows: UnsyncedRows,
    /// The tags of all maintained definitions and lookups, by their numbers in source rows. They name
    /// the buckets.
    pub(super) definition_tags: TagsByNumber,
    lookup_tags: TagsByNumber,
    pub(super) output: RowOutput,
    /// The definitions of each table for which source rows have no digest, by their numbers.
    pub(super) digest_free: Vec<Vec<u16>>,
    /// The digests of the rows in buckets, until the copy over them is complete.
    pub(super) bucket_digests: Option<BucketDigests>,
    /// Buffers for the name of the current bucket and the subkey of the current row.
    pub(super) bucket: String,
    pub(super) subkey: String,
    encoded: Vec<u8>,
}

impl<S: ControlStore + RecordStore + Clone + 'static> Applier<S> {
    /// Returns an applier that continues where the writer's control record says.
    pub fn new(
        writer: LogWriter<S>,
        generation: Generation,
        tables: impl Into<Arc<[SyncedTable]>>,
    ) -> Self {
        let truncated = writer.control().truncated.clone();
        let tables = tables.into();
        let digest_free = tables.iter().map(|table| digest_free(&table.evaluator)).collect();

        Self {
            writer,
            digest_free,
            bucket_digests: None,
            definition_tags: TagsByNumber::default(),
            lookup_tags: TagsByNumber::default(),
            generation: generation.clone(),
            tables,
            truncated,
            unsynced_rows: UnsyncedRows::default(),
            output: RowOutput::default(),
            bucket: String::new(),
            subkey: String::new(),
            encoded: Vec::new(),
        }
        .maintaining(&[generation])
    }

    /// Maintains other generations over the same source rows, too.
    #[must_use]
    pub fn maintaining(mut self, others: &[Generation]) -> Self {
        for other in others {
            self.definition_tags.add(&other.definition_numbers, &other.definitions);
            self.lookup_tags.add(&other.lookup_numbers, &other.lookups);
        }
        self
    }

    /// Loads the records of rows, each given by its table's index and its key, in this order.
    ///
    /// # Errors
    /// Those of [`LogWriter::load`].
    pub async fn load(&mut self, rows: Vec<(usize, Arc<str>)>) -> Result<Vec<RowRef>, WriteError> {
        let records: Vec<_> = rows.iter().map(|(table, key)| self.record(*table, key)).collect();
        let records = self.writer.load(records).await?;
        let rows = rows.into_iter().zip(records);
        Ok(rows.map(|((table, key), record)| RowRef { table, key, record }).collect())
    }

    /// Loads the records of rows of one table that the initial copy has read, each of them once.
    ///
    /// # Errors
    /// Those of [`LogWriter::load`].
    pub async fn load_copied(
        &mut self,
        table: usize,
        keys: Vec<Arc<str>>,
    ) -> Result<Vec<RowRef>, WriteError> {
        if self.tables[table].is_keyless() {
            // Equal rows share a record.
            return self.load(keys.into_iter().map(|key| (table, key)).collect()).await;
        }
        let records: Vec<_> = keys.iter().map(|key| self.record(table, key)).collect();
        let records = self.writer.load_copied(records).await?;
        let rows = keys.into_iter().zip(records);
        Ok(rows.map(|(key, record)| RowRef { table, key, record }).collect())
    }

    /// Applies rows that the initial copy has read, one after another in `values`. Returns the key
    /// of the last one.
    ///
    /// # Errors
    /// Those of [`LogWriter::load`] and [`LogWriter::flush`].
    pub async fn apply_copied(
        &mut self,
        table: usize,
        values: &[Option<&str>],
    ) -> Result<Option<Vec<String>>, WriteError> {
        // No reference to a record outlives this call or a batch of changes.
        self.writer.trim(RECORDS_CACHED_MAX);

        let synced = &self.tables[table];
        let columns = synced.table.schema.columns.len().max(1);
        let keys = values.chunks_exact(columns).map(|row| synced.row_key(row)).collect();
        let rows = self.load_copied(table, keys).await?;
        let is_extended = self.tables[table].is_extended;
        for (row, values) in rows.iter().zip(values.chunks_exact(columns)) {
            if is_extended {
                self.extend(row, values).await?;
            } else {
                self.upsert(row, values).await?;
            }
            self.writer.flush_if_full().await?;
        }

        let last_row = values.chunks_exact(columns).last();
        Ok(last_row.map(|row| self.tables[table].key_values(row)))
    }

    /// Returns the names of a table's stored rows from a place in the store on, about `rows_max` of
    /// them, and the next place. Rows that this run sees as deleted are left out.
    ///
    /// # Errors
    /// Those of [`LogWriter::load`] and [`LogWriter::flush`].
    pub async fn stored_rows(
        &mut self,
        table: usize,
        after: Option<&str>,
        rows_max: usize,
    ) -> Result<SourceRowPage, WriteError> {
        // The names are listed by the store, so everything must be stored first.
        self.writer.flush().await?;
        self.writer.finish().await?;
        self.writer.trim(RECORDS_CACHED_MAX);

        let number = self.tables[table].number;
        let storage = self.writer.storage();
        let page = storage.source_rows(self.generation.rows_of(), number, after, rows_max).await?;
        let rows = self.load(page.names.into_iter().map(|name| (table, name)).collect()).await?;
        let names = rows.iter().filter(|row| self.stored_record(row).is_some());
        Ok(SourceRowPage { names: names.map(|row| row.key.clone()).collect(), next: page.next })
    }

    /// Removes rows of a table by their names.
    ///
    /// # Errors
    /// Those of [`LogWriter::load`] and [`LogWriter::flush`].
    pub async fn remove_rows(
        &mut self,
        table: usize,
        names: Vec<Arc<str>>,
    ) -> Result<(), WriteError> {
        let rows = self.load(names.into_iter().map(|name| (table, name)).collect()).await?;
        for row in &rows {
            self.delete(row).await?;
            self.writer.flush_if_full().await?;
        }
        Ok(())
    }

    /// Begins to commit everything that was applied: see [`LogWriter::start_commit`]. With it go the
    /// truncations of this run, and the record of the initial copy, while there is one.
    ///
    /// # Errors
    /// Those of [`LogWriter::start_commit`].
    pub async fn start_commit(
        &mut self,
        lsn: Lsn,
        ticket: Ticket,
        options: CommitOptions,
        copy_record: Option<Vec<u8>>,
    ) -> Result<(), WriteError> {
        match copy_record {
            Some(record) => {
                self.writer.set_at(RecordKey::Copy(self.generation.rows_of()), Some(record.into()));
            }
            None => self.bucket_digests = None,
        }

        let options = CommitOptions { truncated: self.truncated.clone(), ..options };
        self.writer.start_commit(lsn, ticket, options).await
    }

    fn record(&self, table: usize, row_key: &Arc<str>) -> RecordKey {
        let number = self.tables[table].number;
        RecordKey::SourceRow(self.generation.rows_of(), number, row_key.clone())
    }

    /// Returns the stored form of a row's record, unless a truncation has voided it.
    pub(super) fn stored_record(&self, row: &RowRef) -> Option<Bytes> {
        let (op, value) = self.writer.get(row.record)?;
        let number = self.tables[row.table].number;
        let is_truncated = self.truncated.iter().any(|t| t.table == number && op < t.op);
        (!is_truncated).then(|| value.clone())
    }

    pub(super) fn set_record(&mut self, row: &RowRef, record: &SourceRow<'_>) {
        record.encode(&row.key, &mut self.encoded);
        self.writer.set(row.record, Some(Bytes::copy_from_slice(&self.encoded)));
    }

    /// Decodes a row's record. Buckets and lookups of former configs are left out: nobody reads them.
    pub(super) fn decode<'a>(
        &self,
        stored: &'a [u8],
        row: &'a RowRef,
    ) -> Result<SourceRow<'a>, WriteError> {
        let mut record = decode(stored, row)?;
        record.memberships.retain(|one| self.definition_tags.get(one.definition).is_some());
        record.answers.retain(|one| self.lookup_tags.get(one.lookup).is_some());
        Ok(record)
    }

    /// Returns the values of the row's record that an UPDATE may leave out, by column.
    pub(crate) fn out_of_line(&self, row: &RowRef) -> Result<Vec<(u16, String)>, WriteError> {
        let Some(stored) = self.stored_record(row) else { return Ok(Vec::new()) };
        let record = decode(&stored, row)?;
        Ok(record.toast.into_iter().map(|(column, text)| (column, text.to_owned())).collect())
    }

    /// Applies the new content of a row. It is stored in parts if it is in many buckets, so its
    /// operations never have to fit into memory together.
    ///
    /// # Errors
    /// When its record is damaged, or as [`LogWriter::flush`].
    pub async fn upsert(
        &mut self,
        row: &RowRef,
        values: &[Option<&str>],
    ) -> Result<(), WriteError> {
        let stored = self.stored_record(row);
        let old = stored.as_ref().map(|stored| self.decode(stored, row)).transpose()?;
        if self.tables[row.table].is_keyless()
            && let Some(mut record) = old
        {
            // One more row of the same content: it is in its buckets already.
            record.copies += 1;
            self.set_record(row, &record);
            return Ok(());
        }

        let mut output = std::mem::take(&mut self.output);
        self.tables[row.table].evaluator.evaluate(values, &mut output);
        let problems = keep_limits(&self.tables[row.table].evaluator, &mut output);
        self.note_problems(row, values, &problems);

        let old = old.unwrap_or_default();
        self.begin_row(row);
        let known = self.with_digests(&old.memberships)?;
        let mut memberships = self.diff_buckets(&known, &output).await?;
        self.drop_digests(row.table, &mut memberships);

        let record = SourceRow {
            copies: 1,
            memberships,
            answers: self.diff_lookups(&old.answers, answers(&output), row).await?,
            toast: out_of_line(values, self.tables[row.table].evaluator.columns_read()),
        };

        if record != old {
            self.set_record(row, &record);
        }

        self.output = output;
        Ok(())
    }

    /// Applies the removal of a row.
    ///
    /// # Errors
    /// When its record is damaged, or as [`LogWriter::flush`].
    pub async fn delete(&mut self, row: &RowRef) -> Result<(), WriteError> {
        let Some(stored) = self.stored_record(row) else { return Ok(()) };
        let mut old = self.decode(&stored, row)?;

        // Equal rows share a record, which stays until the last of them is gone.
        if old.copies > 1 {
            old.copies -= 1;
            self.set_record(row, &old);
            return Ok(());
        }
        self.begin_row(row);
        self.diff_buckets(&old.memberships, &RowOutput::default()).await?;
        self.diff_lookups(&old.answers, Vec::new(), row).await?;
        self.writer.set(row.record, None);
        self.note_problems(row, &[], &[]);
        Ok(())
    }

    /// Reads which rows are not synced. A former run has left them out.
    ///
    /// # Errors
    /// Those of [`LogWriter::load`].
    pub(crate) async fn load_unsynced_rows(&mut self) -> Result<(), WriteError> {
        let record =
            self.writer.load([UnsyncedRows::record_key(self.generation.rows_of())]).await?;
        if let Some((_, stored)) = record.first().and_then(|&record| self.writer.get(record)) {
            let damaged = |error: serde_json::Error| {
                WriteError::Storage(StorageError::Damaged("unsynced rows", error.into()))
            };
            self.unsynced_rows = UnsyncedRows::decode(stored).map_err(damaged)?;
        }

        let numbers: Vec<_> = self.tables.iter().map(|synced| synced.number).collect();
        for number in numbers {
            self.note_unsynced_rows(number);
        }
        Ok(())
    }

    /// Writes the subkey of a row, which its operations have.
    pub(super) fn begin_row(&mut self, row: &RowRef) {
        self.tables[row.table].subkey(&row.key, &mut self.subkey);
    }

    /// Notes why a row, or a part of it, is not synced; an empty list if it is.
    pub(super) fn note_problems(
        &mut self,
        row: &RowRef,
        values: &[Option<&str>],
        problems: &[String],
    ) {
        let synced = &self.tables[row.table];
        if problems.is_empty() {
            let number = synced.number;
            if self.unsynced_rows.remove(number, &row.key) {
                self.note_unsynced_rows(number);
            }
            return;
        }

        let table = synced.table.display_name();
        let key = match synced.is_keyless() {
            true => "(the table has no key)".to_owned(),
            false => synced.key_values(values).join(", "),
        };
        let key: String = key.chars().take(LOGGED_KEY_CHARS_MAX).collect();
        let problems = problems.join("; ");
        tracing::warn!(table = %table, key, "row not synced: {problems} (see docs/limits.md)");
        metrics::count_skipped_row(&table);
        let number = synced.number;
        if self.unsynced_rows.insert(number, &row.key) {
            self.note_unsynced_rows(number);
        }
    }

    /// Stores and reports which rows of a table are not synced, after a change. The list is committed
    /// with the change of the row, so the next run has it.
    pub(crate) fn note_unsynced_rows(&mut self, number: u16) {
        // A table that is gone has no name any more.
        if let Some(synced) = self.tables.iter().find(|synced| synced.number == number) {
            let count = self.unsynced_rows.count(number);
            metrics::record_unsynced_rows(&synced.table.display_name(), count);
        }
        if self.unsynced_rows.take_changed() {
            let record = UnsyncedRows::record_key(self.generation.rows_of());
            self.writer.set_at(record, Some(self.unsynced_rows.encode().into()));
        }
    }

    /// Emits the difference between the row's former and present buckets; `self.subkey` is that of
    /// the row. Returns the present ones.
    pub(super) async fn diff_buckets<'a>(
        &mut self,
        old: &[Membership<'_>],
        new: &'a RowOutput,
    ) -> Result<Vec<Membership<'a>>, WriteError> {
        let memberships = memberships(new, &self.subkey);

        // Each operation holds a copy of the row's data until it is stored. So the unit is flushed
        // whenever it is full, also within a row: what is stored stays uncommitted until the end of
        // the transaction.
        //
        // REMOVEs first: a row that moves within a bucket to another id is removed, then put.
        for gone in left_places(old, &memberships) {
            self.name_bucket(gone);
            let row = RowKey::new(gone.object_type, gone.object_id, &self.subkey);
            self.writer.append(&self.bucket, Body::Remove { row });
            self.writer.flush_if_full().await?;
        }

        for (present, row) in changed_rows(old, &memberships, new) {
            self.name_bucket(present);
            let key = RowKey::new(row.object_type, row.object_id, &self.subkey);
            let digest = Digest(present.digest);
            if let Some(digests) = &self.bucket_digests {
                digests.note_put(&self.bucket, &key, digest)?;
            }
            let body = Body::Put { row: key, data: row.data.into() };
            let checksum = digest.checksum();
            self.writer.append_with_checksum(&self.bucket, body, checksum);
            self.writer.flush_if_full().await?;
        }

        Ok(memberships)
    }

    /// Stores the difference between the row's former and present answers to lookups. Returns the
    /// present ones.
    pub(super) async fn diff_lookups<'a>(
        &mut self,
        old: &[Answer<'_>],
        new: Vec<(Answer<'a>, &'a str)>,
        row: &RowRef,
    ) -> Result<Vec<Answer<'a>>, WriteError> {
        if old.is_empty() && new.is_empty() {
            return Ok(Vec::new());
        }

        for gone in left_answers(old, &new) {
            let record = self.lookup_record(row, gone);
            self.writer.set_at(record, None);
            self.writer.flush_if_full().await?;
        }

        for (answer, output) in new_answers(old, &new) {
            let record = self.lookup_record(row, answer);
            self.writer.set_at(record, Some(output.as_bytes().to_vec().into()));
            self.writer.flush_if_full().await?;
        }

        Ok(new.into_iter().map(|(answer, _)| answer).collect())
    }

    /// Returns the name of the record that holds a row's answer to a lookup.
    fn lookup_record(&self, row: &RowRef, answer: &Answer<'_>) -> RecordKey {
        let tag = self.lookup_tags.get(answer.lookup).expect(KNOWN_NUMBER);
        let table = self.tables[row.table].number;
        let name = answer_name(table, &row.key, answer.output_hash);
        RecordKey::Lookup(LookupKey::new(tag, answer.key), name)
    }

    pub(super) fn name_bucket(&mut self, membership: &Membership<'_>) {
        let tag = self.definition_tags.get(membership.definition).expect(KNOWN_NUMBER);
        BucketKey::write_name(tag, membership.params, &mut self.bucket);
    }

    /// Returns the tag of a maintained definition, by its number.
    pub(super) fn definition_tag(&self, number: usize) -> &Tag {
        let number = u16::try_from(number).expect(KNOWN_NUMBER);
        self.definition_tags.get(number).expect(KNOWN_NUMBER)
    }
}

fn decode<'a>(stored: &'a [u8], row: &'a RowRef) -> Result<SourceRow<'a>, WriteError> {
    SourceRow::decode(stored, &row.key).ok_or_else(|| {
        WriteError::Storage(StorageError::Damaged("source row", "not a record".into()))
    })
}

#[cfg(test)]
mod tests;
