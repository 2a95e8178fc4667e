//! From changed rows to operations: what a row is in now, against what it was in before.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidewater_protocol::{Body, OpId, RowKey};
use tidewater_storage::{
    BucketKey, Catalog, CellKey, Generation, Head, LookupKey, Replay, ReplayError, SegmentReader,
    Storage, StorageError, Truncation,
};
use tidewater_sync_config::{BucketRow, LookupRow, RowOutput, TableEvaluator};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::catalog::Table;
use crate::log_writer::{LogWriter, WriteError};
use crate::source_row::{Answer, Membership, SourceRow};

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
    /// Its number in the generation: its place among the sync config's tables.
    pub number: u16,
    /// What the catalogue says of it.
    pub table: Table,
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
    fn subkey(&self, row_key: &str) -> String {
        format!("{}.{:016x}", self.number, xxh3_64(row_key.as_bytes()))
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
    /// The tables, by their numbers.
    pub tables: Vec<SyncedTable>,
    /// The last truncation of each table; part of the next commit.
    pub truncated: Vec<Truncation>,
    output: RowOutput,
}

impl<S: Storage> Applier<S> {
    /// An applier that goes on from what the writer's control record says.
    pub fn new(writer: LogWriter<S>, generation: Generation, tables: Vec<SyncedTable>) -> Self {
        let truncated = writer.control().truncated.clone();
        Self { writer, generation, tables, truncated, output: RowOutput::default() }
    }

    /// Reads the records of rows. Must precede [`Applier::upsert`] and [`Applier::delete`].
    ///
    /// # Errors
    /// As [`LogWriter::load`].
    pub async fn load(
        &mut self,
        rows: impl IntoIterator<Item = (usize, Arc<str>)>,
    ) -> Result<(), WriteError> {
        let keys: Vec<_> =
            rows.into_iter().map(|(table, row_key)| self.record_key(table, &row_key)).collect();
        self.writer.load(keys).await
    }

    /// Identity of a row's record.
    pub(crate) fn record_key(&self, table: usize, row_key: &Arc<str>) -> CellKey {
        CellKey::SourceRow(self.generation.id, self.tables[table].number, row_key.clone())
    }

    /// The record of a row; it must be loaded.
    pub(crate) fn record(&self, key: &CellKey) -> Result<Option<SourceRow>, WriteError> {
        let Some((op, value)) = self.writer.get(key) else { return Ok(None) };
        if let CellKey::SourceRow(_, number, _) = key
            && self.truncated.iter().any(|t| t.table == *number && op < t.op)
        {
            return Ok(None);
        }
        let record = SourceRow::decode(value).ok_or_else(|| {
            WriteError::Storage(StorageError::Damaged("source row", "not a record".into()))
        })?;
        Ok(Some(record))
    }

    /// A row has this content now. Its record must be loaded.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn upsert(
        &mut self,
        table: usize,
        row_key: &Arc<str>,
        row: &[Option<&str>],
    ) -> Result<(), WriteError> {
        let key = self.record_key(table, row_key);
        let old = self.record(&key)?;
        if self.tables[table].is_keyless()
            && let Some(mut record) = old
        {
            // The same content once more: the buckets hold it already.
            record.copies += 1;
            self.writer.set(&key, Some(record.encode()));
            return Ok(());
        }
        let mut output = std::mem::take(&mut self.output);
        self.tables[table].evaluator.evaluate(row, &mut output);
        for error in output.errors() {
            tracing::warn!(table = %self.tables[table].table.display_name(), error, "row skipped");
        }
        let old = old.unwrap_or_default();
        let subkey = self.tables[table].subkey(row_key);
        let record = SourceRow {
            copies: 1,
            memberships: self.diff_buckets(&old.memberships, output.buckets(), &subkey),
            answers: self.diff_lookups(&old.answers, output.lookups(), table, row_key),
            toast: out_of_line(row, self.tables[table].evaluator.columns_read()),
        };
        self.output = output;
        if record != old {
            self.writer.set(&key, Some(record.encode()));
        }
        Ok(())
    }

    /// A row is gone. Its record must be loaded.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn delete(&mut self, table: usize, row_key: &Arc<str>) -> Result<(), WriteError> {
        let key = self.record_key(table, row_key);
        let Some(mut old) = self.record(&key)? else { return Ok(()) };
        if old.copies > 1 {
            old.copies -= 1;
            self.writer.set(&key, Some(old.encode()));
            return Ok(());
        }
        let subkey = self.tables[table].subkey(row_key);
        self.diff_buckets(&old.memberships, std::iter::empty(), &subkey);
        self.diff_lookups(&old.answers, std::iter::empty(), table, row_key);
        self.writer.set(&key, None);
        Ok(())
    }

    /// Emits what changed between the row's former and present buckets; gives the present ones.
    fn diff_buckets<'a>(
        &mut self,
        old: &[Membership],
        new: impl Iterator<Item = BucketRow<'a>>,
        subkey: &str,
    ) -> Vec<Membership> {
        let new: Vec<_> = new.map(|row| (membership(&row), row)).collect();
        // REMOVEs first: a row that moves within a bucket under another id is gone, then there.
        for gone in old.iter().filter(|old| !new.iter().any(|(new, _)| new.is_same_place(old))) {
            let bucket = self.bucket(gone);
            let row = RowKey::new(&gone.object_type, &gone.object_id, subkey);
            self.writer.append(&bucket, Body::Remove { row });
        }
        for (present, row) in &new {
            if old.contains(present) {
                continue;
            }
            let bucket = self.bucket(present);
            let key = RowKey::new(row.object_type, row.object_id, subkey);
            self.writer.append(&bucket, Body::Put { row: key, data: row.data.into() });
        }
        new.into_iter().map(|(membership, _)| membership).collect()
    }

    /// The same for the lookups that the row answers.
    fn diff_lookups<'a>(
        &mut self,
        old: &[Answer],
        new: impl Iterator<Item = LookupRow<'a>>,
        table: usize,
        row_key: &Arc<str>,
    ) -> Vec<Answer> {
        let new: Vec<_> = new.map(|row| (answer(&row), row.output)).collect();
        let source: Arc<str> = format!("{}.{row_key}", self.tables[table].number).into();
        let place = |generation: &Generation, a: &Answer, output_hash: u64| {
            let tag = &generation.lookups[usize::from(a.lookup)];
            // One row may answer one question with several outputs: the output is part of the name.
            CellKey::Lookup(LookupKey::new(tag, &a.key), format!("{source}.{output_hash:x}").into())
        };
        for gone in old.iter().filter(|old| !new.iter().any(|(new, _)| new == *old)) {
            let key = place(&self.generation, gone, gone.output_hash);
            self.writer.set(&key, None);
        }
        for (present, output) in new.iter().filter(|(new, _)| !old.contains(new)) {
            let key = place(&self.generation, present, present.output_hash);
            self.writer.set(&key, Some(output.as_bytes().to_vec().into()));
        }
        new.into_iter().map(|(answer, _)| answer).collect()
    }

    fn bucket(&self, membership: &Membership) -> BucketKey {
        let tag = &self.generation.definitions[usize::from(membership.definition)];
        BucketKey::new(tag, &membership.params)
    }

    /// All rows of a table are gone: REMOVE each live one from each bucket; its records and its
    /// answers to lookups count as gone from here on.
    ///
    /// # Errors
    /// As [`LogWriter::flush`].
    pub async fn truncate(&mut self, table: usize) -> Result<(), WriteError> {
        // What the unit holds so far must be found among the segments.
        self.writer.flush().await?;
        let prefix = format!("{}.", self.tables[table].number);
        for tag in self.generation.definitions.clone() {
            let mut after = None;
            loop {
                let storage = self.writer.storage();
                let page = storage.registered(&tag, after.as_ref(), BUCKETS_PAGE).await?;
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
        let number = self.tables[table].number;
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
                Err(ReplayError::Broken(_)) if attempt < REPLAY_ATTEMPTS => attempt += 1,
                Err(ReplayError::Broken(broken)) => {
                    let error = StorageError::Damaged("log", broken.into());
                    return Err(WriteError::Storage(error));
                }
                Err(ReplayError::Storage(error)) => return Err(WriteError::Storage(error)),
            }
        };
        for row in live {
            self.writer.append(bucket, Body::Remove { row });
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
        let limits = self.writer.limits();
        let item = storage.buckets(std::slice::from_ref(bucket)).await?.pop().flatten();
        let Some(item) = item else { return Ok(BTreeSet::new()) };
        let Some(head) = item.head.own(limits).and_then(|version| version.value.as_ref()) else {
            return Ok(BTreeSet::new());
        };
        let head = Head::decode(head)?;
        let catalog = Catalog::decode(&item.catalog)?;
        let counts = |op: OpId| limits.live(op) || limits.is_current(op);
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

impl Membership {
    fn is_same_place(&self, other: &Self) -> bool {
        (self.definition, &self.params, &self.object_type, &self.object_id)
            == (other.definition, &other.params, &other.object_type, &other.object_id)
    }
}

fn membership(row: &BucketRow<'_>) -> Membership {
    Membership {
        definition: number(row.definition),
        params: row.params.to_owned(),
        object_type: row.object_type.to_owned(),
        object_id: row.object_id.to_owned(),
        data_hash: xxh3_64(row.data.as_bytes()),
    }
}

fn answer(row: &LookupRow<'_>) -> Answer {
    Answer {
        lookup: number(row.lookup),
        key: row.key.to_owned(),
        output_hash: xxh3_64(row.output.as_bytes()),
    }
}

fn number(index: usize) -> u16 {
    u16::try_from(index).expect("a sync config has far fewer than 65,536 definitions")
}

/// The values that a later UPDATE may leave out, of the columns that are read.
fn out_of_line(row: &[Option<&str>], columns_read: &[bool]) -> Vec<(u16, String)> {
    let row_bytes: usize = row.iter().flatten().map(|value| value.len()).sum();
    if row_bytes < TOAST_ROW_BYTES {
        return Vec::new();
    }
    let long = row.iter().enumerate().filter_map(|(column, value)| {
        let value = value.filter(|v| columns_read[column] && v.len() >= TOAST_VALUE_BYTES)?;
        Some((number(column), value.to_owned()))
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
