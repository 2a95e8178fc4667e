//! From changed rows to operations: what a row is in now, against what it was in before.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_protocol::{Body, OpId, RowKey};
use tidewater_storage::{
    BucketHead, BucketKey, Catalog, Generation, LookupKey, RecordKey, Replay, ReplayError,
    SegmentReader, Storage, StorageError, Truncation, answer_name,
};
use tidewater_sync_config::{BucketRow, LookupRow, RowOutput, TableEvaluator};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::apply::source_row::{Answer, Membership, SourceRow};
use crate::log::record_cache::RecordRef;
use crate::log::writer::{LogWriter, WriteError};
use crate::source::catalog::SourceTable;

/// PostgreSQL stores values out of line only in rows longer than this by default. Where a table
/// sets a lower target, values missing in the stream are read again instead.
const TOAST_ROW_BYTES: usize = 1_900;
/// Shorter values are never stored out of line: a pointer would be as long.
const TOAST_VALUE_BYTES: usize = 18;
/// Records stay small: longer values are read again when they are missing.
const TOAST_KEPT_BYTES_MAX: usize = 64 << 10;
/// Buckets listed at a time when a table is truncated.
const BUCKETS_PAGE: usize = 1_000;
/// A bucket is read again this often when the builder changes it meanwhile.
const REPLAY_ATTEMPTS: u32 = 5;

/// A table that the sync config reads.
#[derive(Debug)]
pub struct SyncedTable {
    /// Its number in the generation, by which its rows are stored.
    pub number: u16,
    /// What the catalogue says of it.
    pub table: SourceTable,
    /// Evaluates its rows.
    pub evaluator: TableEvaluator,
}

impl SyncedTable {
    /// Whether its rows have nothing but their content to tell them apart.
    pub fn is_keyless(&self) -> bool {
        self.table.key.is_empty()
    }

    /// Name of a row's record: the text of its key, or the hash of the whole row.
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

    /// Tells rows of this table apart from those of others with the same type and id.
    fn subkey(&self, row_key: &str, out: &mut String) {
        out.clear();
        write!(out, "{}.{:016x}", self.number, xxh3_64(row_key.as_bytes()))
            .expect("a String takes every write");
    }
}

/// A row whose record is at hand, until the writer's records are trimmed.
#[derive(Clone, Debug)]
pub struct RowRef {
    table: usize,
    key: Arc<str>,
    record: RecordRef,
}

impl RowRef {
    /// The place of its table in [`Applier::tables`].
    pub fn table(&self) -> usize {
        self.table
    }
}

/// Applies rows to the log under one generation. It knows nothing of PostgreSQL's protocol: rows
/// come in as text, whoever read them.
#[derive(Debug)]
pub struct Applier<S> {
    /// Where operations go.
    pub writer: LogWriter<S>,
    /// Under whose tags.
    pub generation: Generation,
    /// The tables. Rows name them by their places here.
    pub tables: Vec<SyncedTable>,
    /// The last truncation of each table; part of the next commit.
    pub truncated: Vec<Truncation>,
    output: RowOutput,
    /// Name of the bucket, and subkey of the row, that are being written to.
    bucket: String,
    subkey: String,
    encoded: Vec<u8>,
}

impl<S: Storage> Applier<S> {
    /// An applier that goes on from what the writer's control record says.
    pub fn new(writer: LogWriter<S>, generation: Generation, tables: Vec<SyncedTable>) -> Self {
        let truncated = writer.control().truncated.clone();
        Self {
            writer,
            generation,
            tables,
            truncated,
            output: RowOutput::default(),
            bucket: String::new(),
            subkey: String::new(),
            encoded: Vec::new(),
        }
    }

    /// Reads the records of rows, each a table's number and a row's key; gives them in this order.
    ///
    /// # Errors
    /// As [`LogWriter::load`].
    pub async fn load(&mut self, rows: Vec<(usize, Arc<str>)>) -> Result<Vec<RowRef>, WriteError> {
        let records: Vec<_> = rows.iter().map(|(table, key)| self.record(*table, key)).collect();
        let records = self.writer.load(records).await?;
        let row = |((table, key), record)| RowRef { table, key, record };
        Ok(rows.into_iter().zip(records).map(row).collect())
    }

    /// The same for rows of one table that the copy has read, each of them once.
    ///
    /// # Errors
    /// As [`LogWriter::load`].
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
        let row = |(key, record)| RowRef { table, key, record };
        Ok(keys.into_iter().zip(records).map(row).collect())
    }

    fn record(&self, table: usize, row_key: &Arc<str>) -> RecordKey {
        RecordKey::SourceRow(self.generation.id, self.tables[table].number, row_key.clone())
    }

    /// The stored form of a row's record.
    fn stored_record(&self, row: &RowRef) -> Option<Bytes> {
        let (op, value) = self.writer.get(row.record)?;
        let number = self.tables[row.table].number;
        let is_truncated = self.truncated.iter().any(|t| t.table == number && op < t.op);
        (!is_truncated).then(|| value.clone())
    }

    fn set_record(&mut self, row: &RowRef, record: &SourceRow<'_>) {
        record.encode(&row.key, &mut self.encoded);
        self.writer.set(row.record, Some(Bytes::copy_from_slice(&self.encoded)));
    }

    /// The values that an UPDATE of the row may leave out, as far as they are known.
    pub(crate) fn out_of_line(&self, row: &RowRef) -> Result<Vec<(u16, String)>, WriteError> {
        let Some(stored) = self.stored_record(row) else { return Ok(Vec::new()) };
        let record = decode(&stored, row)?;
        Ok(record.toast.into_iter().map(|(column, text)| (column, text.to_owned())).collect())
    }

    /// A row has this content now.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn upsert(&mut self, row: &RowRef, values: &[Option<&str>]) -> Result<(), WriteError> {
        let stored = self.stored_record(row);
        let old = stored.as_ref().map(|stored| decode(stored, row)).transpose()?;
        if self.tables[row.table].is_keyless()
            && let Some(mut record) = old
        {
            // The same content once more: the buckets hold it already.
            record.copies += 1;
            self.set_record(row, &record);
            return Ok(());
        }
        let mut output = std::mem::take(&mut self.output);
        self.tables[row.table].evaluator.evaluate(values, &mut output);
        for error in output.errors() {
            let table = self.tables[row.table].table.display_name();
            tracing::warn!(table = %table, error, "row skipped");
        }
        let old = old.unwrap_or_default();
        self.tables[row.table].subkey(&row.key, &mut self.subkey);
        let record = SourceRow {
            copies: 1,
            memberships: self.diff_buckets(&old.memberships, &output),
            answers: self.diff_lookups(&old.answers, output.lookups(), row),
            toast: out_of_line(values, self.tables[row.table].evaluator.columns_read()),
        };
        if record != old {
            self.set_record(row, &record);
        }
        self.output = output;
        Ok(())
    }

    /// A row is gone.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn delete(&mut self, row: &RowRef) -> Result<(), WriteError> {
        let Some(stored) = self.stored_record(row) else { return Ok(()) };
        let mut old = decode(&stored, row)?;
        if old.copies > 1 {
            old.copies -= 1;
            self.set_record(row, &old);
            return Ok(());
        }
        self.tables[row.table].subkey(&row.key, &mut self.subkey);
        self.diff_buckets(&old.memberships, &RowOutput::default());
        self.diff_lookups(&old.answers, std::iter::empty(), row);
        self.writer.set(row.record, None);
        Ok(())
    }

    /// Emits what changed between the former and the present buckets of the row with the current
    /// subkey; gives the present ones.
    fn diff_buckets<'a>(
        &mut self,
        old: &[Membership<'_>],
        new: &'a RowOutput,
    ) -> Vec<Membership<'a>> {
        let memberships: Vec<_> = new.buckets().map(|row| membership(&row)).collect();
        // REMOVEs first: a row that moves within a bucket under another id is gone, then there.
        for gone in old.iter().filter(|old| !memberships.iter().any(|m| m.is_same_place(old))) {
            self.name_bucket(gone);
            let row = RowKey::new(gone.object_type, gone.object_id, &self.subkey);
            self.writer.append(&self.bucket, Body::Remove { row });
        }
        for (present, row) in memberships.iter().zip(new.buckets()) {
            if old.contains(present) {
                continue;
            }
            self.name_bucket(present);
            let key = RowKey::new(row.object_type, row.object_id, &self.subkey);
            self.writer.append(&self.bucket, Body::Put { row: key, data: row.data.into() });
        }
        memberships
    }

    /// The same for the lookups that the row answers.
    fn diff_lookups<'a>(
        &mut self,
        old: &[Answer<'_>],
        new: impl Iterator<Item = LookupRow<'a>>,
        row: &RowRef,
    ) -> Vec<Answer<'a>> {
        let new: Vec<_> = new.map(|row| (answer(&row), row.output)).collect();
        if old.is_empty() && new.is_empty() {
            return Vec::new();
        }
        let number = self.tables[row.table].number;
        let place = |generation: &Generation, a: &Answer<'_>, output_hash: u64| {
            let tag = &generation.lookups[usize::from(a.lookup)];
            let name = answer_name(number, &row.key, output_hash);
            RecordKey::Lookup(LookupKey::new(tag, a.key), name)
        };
        for gone in old.iter().filter(|old| !new.iter().any(|(new, _)| new == *old)) {
            let key = place(&self.generation, gone, gone.output_hash);
            self.writer.set_at(key, None);
        }
        for (present, output) in new.iter().filter(|(new, _)| !old.contains(new)) {
            let key = place(&self.generation, present, present.output_hash);
            self.writer.set_at(key, Some(output.as_bytes().to_vec().into()));
        }
        new.into_iter().map(|(answer, _)| answer).collect()
    }

    fn name_bucket(&mut self, membership: &Membership<'_>) {
        let tag = &self.generation.definitions[usize::from(membership.definition)];
        BucketKey::write_name(tag, membership.params, &mut self.bucket);
    }

    /// All rows of a table, by its number, are gone: REMOVE each live one from each bucket; its
    /// records and its answers to lookups count as gone from here on.
    ///
    /// # Errors
    /// As [`LogWriter::flush`].
    pub async fn truncate(&mut self, number: u16) -> Result<(), WriteError> {
        // What the unit holds so far must be found among the segments.
        self.writer.flush().await?;
        self.writer.finish().await?;
        let prefix = format!("{number}.");
        for tag in self.generation.definitions.clone() {
            let mut after = None;
            loop {
                let storage = self.writer.storage();
                let page = storage.registered_buckets(&tag, after.as_ref(), BUCKETS_PAGE).await?;
                for bucket in &page {
                    self.remove_live_rows(bucket, &prefix).await?;
                }
                match page.last() {
                    Some(last) if page.len() == BUCKETS_PAGE => after = Some(last.clone()),
                    _ => break,
                }
            }
        }
        let op = self.writer.next_op();
        self.truncated.retain(|truncation| truncation.table != number);
        self.truncated.push(Truncation { table: number, op });
        Ok(())
    }

    /// Emits a REMOVE for each of the bucket's rows whose subkey begins with `prefix`.
    async fn remove_live_rows(
        &mut self,
        bucket: &BucketKey,
        prefix: &str,
    ) -> Result<(), WriteError> {
        let mut attempt = 1;
        let live = loop {
            match self.live_rows(bucket, prefix).await {
                Ok(live) => break live,
                // The builder has replaced what was being read.
                Err(ReplayError::Incomplete(_)) if attempt < REPLAY_ATTEMPTS => attempt += 1,
                Err(ReplayError::Incomplete(broken)) => {
                    let error = StorageError::Damaged("log", broken.into());
                    return Err(WriteError::Storage(error));
                }
                Err(ReplayError::Storage(error)) => return Err(WriteError::Storage(error)),
            }
        };
        for row in live {
            self.writer.append(bucket.as_str(), Body::Remove { row });
            if self.writer.is_full() {
                self.writer.flush().await?;
            }
        }
        Ok(())
    }

    /// The rows of a bucket whose subkey begins with `prefix`, as this run sees them.
    async fn live_rows(
        &mut self,
        bucket: &BucketKey,
        prefix: &str,
    ) -> Result<BTreeSet<RowKey<'static>>, ReplayError> {
        let storage = self.writer.storage();
        let committed_ops = self.writer.committed_ops();
        let item = storage.buckets(std::slice::from_ref(bucket)).await?.pop().flatten();
        let Some(item) = item else { return Ok(BTreeSet::new()) };
        let Some(head) =
            item.head.latest_for_writer(committed_ops).and_then(|version| version.value.as_ref())
        else {
            return Ok(BTreeSet::new());
        };
        let head = BucketHead::decode(head)?;
        let catalog = Catalog::decode(&item.catalog)?;
        let counts =
            |op: OpId| committed_ops.is_committed(op) || committed_ops.is_from_current_epoch(op);
        let mut replay = Replay::new(storage, bucket, catalog.base.as_ref(), head, counts);
        let mut live = BTreeSet::new();
        while let Some(payload) = replay.next().await? {
            for operation in SegmentReader::new(&payload) {
                let operation =
                    operation.map_err(|error| StorageError::Damaged("segment", error.into()))?;
                match operation.body {
                    Body::Put { row, .. } if row.subkey.starts_with(prefix) => {
                        live.insert(row.into_owned());
                    }
                    Body::Remove { row } => {
                        live.remove(&row.into_owned());
                    }
                    Body::Put { .. } | Body::Move | Body::Clear => {}
                }
            }
        }
        Ok(live)
    }
}

impl Membership<'_> {
    fn is_same_place(&self, other: &Membership<'_>) -> bool {
        (self.definition, self.params, self.object_type, self.object_id)
            == (other.definition, other.params, other.object_type, other.object_id)
    }
}

fn decode<'a>(stored: &'a [u8], row: &'a RowRef) -> Result<SourceRow<'a>, WriteError> {
    SourceRow::decode(stored, &row.key).ok_or_else(|| {
        WriteError::Storage(StorageError::Damaged("source row", "not a record".into()))
    })
}

fn membership<'a>(row: &BucketRow<'a>) -> Membership<'a> {
    Membership {
        definition: number(row.definition),
        params: row.params,
        object_type: row.object_type,
        object_id: row.object_id,
        data_hash: xxh3_64(row.data.as_bytes()),
    }
}

fn answer<'a>(row: &LookupRow<'a>) -> Answer<'a> {
    Answer { lookup: number(row.lookup), key: row.key, output_hash: xxh3_64(row.output.as_bytes()) }
}

fn number(index: usize) -> u16 {
    u16::try_from(index).expect("a sync config has far fewer than 65,536 definitions")
}

/// The values that a later UPDATE may leave out, of the columns that are read.
fn out_of_line<'a>(row: &[Option<&'a str>], columns_read: &[bool]) -> Vec<(u16, &'a str)> {
    let row_bytes: usize = row.iter().flatten().map(|value| value.len()).sum();
    if row_bytes < TOAST_ROW_BYTES {
        return Vec::new();
    }
    let long = row.iter().enumerate().filter_map(|(column, value)| {
        let value = value.filter(|v| columns_read[column] && v.len() >= TOAST_VALUE_BYTES)?;
        Some((number(column), value))
    });
    let mut kept: Vec<_> = long.collect();
    // The longest go first when there is not room for all of them.
    kept.sort_unstable_by_key(|(_, value)| value.len());
    let mut bytes = 0;
    kept.retain(|(_, value)| {
        bytes += value.len();
        bytes <= TOAST_KEPT_BYTES_MAX
    });
    kept.sort_unstable_by_key(|(column, _)| *column);
    kept
}

#[cfg(test)]
mod tests;
