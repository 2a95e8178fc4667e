//! The store's buckets and lookups, read as the sync API reads them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use tidewater_protocol::{Body, Checksum, Digest, ErrorChain, OpId, Operation};
use tidewater_storage::{
    Base, BucketHead, BucketItem, BucketKey, Catalog, LookupKey, ReadResult, RecordKey, Replay,
    ReplayError, SegmentReader, Storage, StorageError, VersionedRecord,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::apply::source_row::SourceRow;
use crate::verify::checkpoint::View;
use crate::verify::error::VerifyError;
use crate::verify::place::{Place, PlaceKind};
use crate::verify::scope::Scope;
use crate::verify::sides::{Places, Sides};
use crate::verify::subject::Subject;
use crate::verify::verdict::StoredChange;

/// Buckets, lookups or records that are read in one call. DynamoDB reads 100 items at once.
const PAGE: usize = 100;
/// Names that are listed in one call.
const NAMES_PAGE: usize = 1_000;
/// Buckets that are read at the same time. Most are small, and a call to DynamoDB takes milliseconds.
const BUCKETS_AT_ONCE: usize = 8;
/// Attempts to read a bucket while the builder replaces what is being read, or while the checkpoint of
/// the read becomes too old, and the pause between them.
const READ_ATTEMPTS: u32 = 5;
const READ_PAUSE: Duration = Duration::from_millis(200);

/// The findings about buckets, beside their rows.
#[derive(Debug, Default)]
pub(super) struct ReadBuckets {
    pub(super) count: u64,
    /// The op ids of bases that are newer than the checkpoint before the snapshot, by bucket.
    pub(super) new_bases: HashMap<String, OpId>,
    /// Buckets that cannot be read, and why.
    pub(super) damaged: BTreeMap<String, String>,
}

/// The reason why one attempt to read a bucket failed.
enum ReadFailure {
    /// Read it again: something was replaced meanwhile. If that does not help, it is damaged.
    Incomplete(String),
    /// The stored parts contradict each other.
    Damaged(String),
    Storage(StorageError),
    Spill(io::Error),
}

impl From<StorageError> for ReadFailure {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Damaged(..) => Self::Damaged(ErrorChain(&error).to_string()),
            StorageError::Unavailable(_)
            | StorageError::Unknown(_)
            | StorageError::Refused(_)
            | StorageError::Full(_)
            | StorageError::TooNew { .. } => Self::Storage(error),
        }
    }
}

impl From<ReplayError> for ReadFailure {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Incomplete(broken) => Self::Incomplete(broken.to_string()),
            ReplayError::Storage(error) => error.into(),
        }
    }
}

/// Reads buckets, and hands their changes to `sides`.
pub(super) struct BucketReader<'a, S> {
    pub(super) storage: &'a S,
    pub(super) scope: &'a Scope,
    /// The checkpoint before the snapshot.
    pub(super) since: OpId,
    pub(super) sides: Mutex<&'a mut dyn Sides>,
    pub(super) read: Mutex<ReadBuckets>,
}

impl<'a, S: Storage> BucketReader<'a, S> {
    pub(super) fn new(
        storage: &'a S,
        scope: &'a Scope,
        since: OpId,
        sides: &'a mut dyn Sides,
    ) -> Self {
        Self { storage, scope, since, sides: Mutex::new(sides), read: Mutex::default() }
    }

    /// Reads all buckets of the scope.
    pub(super) async fn read_all(
        &self,
        subject: &Subject,
        on_buckets: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), VerifyError> {
        let numbers = subject.generation.definition_numbers.numbers();
        for (&definition, tag) in numbers.iter().zip(&subject.generation.definitions) {
            let reads = |number| {
                let table = subject.table(number);
                let definition = usize::from(definition);
                table
                    .is_some_and(|table| table.evaluator.definitions().any(|one| one == definition))
            };
            if !self.scope.has_any_table(reads) {
                continue;
            }

            let mut after = None;
            loop {
                let names =
                    self.storage.registered_buckets(tag, after.as_ref(), NAMES_PAGE).await?;
                let is_last = names.len() < NAMES_PAGE;
                after = names.last().cloned();
                self.read_buckets(names, on_buckets).await?;
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads those of some buckets that belong to the scope.
    pub(super) async fn read_buckets(
        &self,
        mut names: Vec<BucketKey>,
        on_buckets: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), VerifyError> {
        names.retain(|name| self.scope.has_container(PlaceKind::Row, name.as_str()));

        for page in names.chunks(PAGE) {
            let view = View::newest(self.storage).await?;
            let items = self.storage.buckets(page).await?;
            let buckets = page.iter().zip(items);
            futures::stream::iter(buckets.map(Ok::<_, VerifyError>))
                .try_for_each_concurrent(BUCKETS_AT_ONCE, |(name, item)| {
                    self.read_bucket(name, item, &view)
                })
                .await?;
            on_buckets(self.read.lock().unwrap_or_else(PoisonError::into_inner).count);
        }
        Ok(())
    }

    /// Returns what was found out about the buckets.
    pub(super) fn finish(self) -> ReadBuckets {
        self.read.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_bucket(
        &self,
        name: &BucketKey,
        item: Option<BucketItem>,
        view: &View,
    ) -> Result<(), VerifyError> {
        let mut attempt = self.replay(name, item.as_ref(), view).await;
        for _ in 1..READ_ATTEMPTS {
            if !matches!(attempt, Err(ReadFailure::Incomplete(_))) {
                break;
            }
            tokio::time::sleep(READ_PAUSE).await;
            let view = View::newest(self.storage).await?;
            let item = self.storage.buckets(std::slice::from_ref(name)).await?.pop().flatten();
            attempt = self.replay(name, item.as_ref(), &view).await;
        }

        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.count += 1;
        match attempt {
            Ok(Some(base)) if base > self.since => {
                read.new_bases.insert(name.as_str().to_owned(), base);
            }
            Ok(_) => {}
            Err(ReadFailure::Incomplete(problem) | ReadFailure::Damaged(problem)) => {
                read.damaged.insert(name.as_str().to_owned(), problem);
            }
            Err(ReadFailure::Storage(error)) => return Err(error.into()),
            Err(ReadFailure::Spill(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// Reads a bucket at a checkpoint. Returns the op id of its base, if it has one.
    async fn replay(
        &self,
        name: &BucketKey,
        item: Option<&BucketItem>,
        view: &View,
    ) -> Result<Option<OpId>, ReadFailure> {
        let Some(item) = item else { return Ok(None) };
        let head = match item.head.read_at(view.visible.at.op, &view.committed_ops) {
            ReadResult::Found(_, head) => BucketHead::decode(head)?,
            ReadResult::NotFound => return Ok(None),
            ReadResult::TooOld => {
                return Err(ReadFailure::Incomplete("it is too new to be read".to_owned()));
            }
        };
        let catalog = Catalog::decode(&item.catalog)?;
        let base = catalog.base.as_ref();
        if base.is_some_and(|base| base.to > head.last) {
            return Err(ReadFailure::Incomplete("its base is newer than its head".to_owned()));
        }

        let is_committed = |op| view.committed_ops.is_committed(op);
        let mut replay = Replay::new(self.storage, name, base, head, is_committed);
        let mut sums = Sums::new(base);
        while let Some(payload) = replay.next().await? {
            let mut sides = self.sides.lock().unwrap_or_else(PoisonError::into_inner);
            for operation in SegmentReader::new(&payload) {
                let operation =
                    operation.map_err(|error| ReadFailure::Damaged(error.to_string()))?;
                let is_of_base = sums.add(&operation);
                self.take(name, &operation, is_of_base, &mut **sides)?;
            }
        }
        sums.verify(base, &head)?;
        Ok(base.map(|base| base.to))
    }

    /// Hands an operation to the receiver.
    fn take(
        &self,
        bucket: &BucketKey,
        operation: &Operation<'_>,
        is_of_base: bool,
        sides: &mut dyn Sides,
    ) -> Result<(), ReadFailure> {
        let op = operation.op_id;
        let (row, data) = match &operation.body {
            Body::Put { row, data } => (row, Some(&**data)),
            Body::Remove { row } => (row, None),
            Body::Move | Body::Clear => {
                return Err(ReadFailure::Damaged(format!("operation {op} changes no row")));
            }
        };
        let digest = data.map(|data| Digest::of_put(row, data));
        let checksum =
            digest.map_or_else(|| operation.body.checksum(), |digest| Some(digest.checksum()));
        if checksum != Some(operation.checksum) {
            let problem = format!("operation {op} has another checksum than its content");
            return Err(ReadFailure::Damaged(problem));
        }

        let place = Place {
            kind: PlaceKind::Row,
            container: bucket.as_str(),
            object_type: &row.object_type,
            object_id: &row.object_id,
            subkey: &row.subkey,
        };
        if !self.scope.has(&place) {
            return Ok(());
        }
        let content = digest.map(|digest| digest.0);
        let change = StoredChange { op, content, is_oldest_kept: is_of_base };
        sides.stored(&place, change, data).map_err(ReadFailure::Spill)
    }
}

/// The checksums of a bucket's operations.
struct Sums {
    /// Rows of the base that are still to come.
    base_rows: u64,
    of_base: Checksum,
    of_log: Checksum,
}

impl Sums {
    fn new(base: Option<&Base>) -> Self {
        let base_rows = base.map_or(0, |base| base.rows);
        Self { base_rows, of_base: Checksum::ZERO, of_log: Checksum::ZERO }
    }

    /// Adds an operation. Returns whether it is a row of the base.
    fn add(&mut self, operation: &Operation<'_>) -> bool {
        let is_of_base = self.base_rows > 0;
        if is_of_base {
            self.base_rows -= 1;
            self.of_base += operation.checksum;
        } else {
            self.of_log += operation.checksum;
        }
        is_of_base
    }

    /// Compares the sums with those that devices are sent.
    fn verify(&self, base: Option<&Base>, head: &BucketHead) -> Result<(), ReadFailure> {
        let before_log = base.map_or(Checksum::ZERO, |base| base.checksum);
        if let Some(base) = base
            && (self.base_rows > 0 || self.of_base + base.remainder != base.checksum)
        {
            let problem = format!("the rows of its base {} do not have its checksum", base.to);
            return Err(ReadFailure::Damaged(problem));
        }

        if before_log + self.of_log != head.sum {
            let sum = before_log + self.of_log;
            let problem =
                format!("its operations have checksum {sum}, and its head has {}", head.sum);
            return Err(ReadFailure::Damaged(problem));
        }
        Ok(())
    }
}

/// Names the lookups that rows of a table answered when they were last applied. Answers that the table no
/// longer gives are found only so.
pub(super) async fn read_former_lookups<S: Storage>(
    storage: &S,
    subject: &Subject,
    table: u16,
    scope: &Scope,
    sides: &mut dyn Sides,
) -> Result<(), VerifyError> {
    let generation = subject.generation.rows_of();
    let tags = subject.lookup_tags();

    let mut after: Option<String> = None;
    loop {
        let page = storage.source_rows(generation, table, after.as_deref(), NAMES_PAGE).await?;
        for names in page.names.chunks(PAGE) {
            let keys: Vec<_> = names
                .iter()
                .map(|name| RecordKey::SourceRow(generation, table, name.clone()))
                .collect();
            for (name, record) in names.iter().zip(storage.records(&keys).await?) {
                for version in record.iter().flat_map(|record| &record.versions) {
                    let value = version.value.as_deref();
                    let Some(row) = value.and_then(|value| SourceRow::decode(value, name)) else {
                        continue;
                    };
                    for answer in row.answers {
                        let Some(tag) = tags.get(&answer.lookup) else { continue };
                        let lookup = format!("{tag}{}", answer.key);
                        if scope.has_container(PlaceKind::Answer, &lookup) {
                            sides.lookup(&lookup)?;
                        }
                    }
                }
            }
        }

        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Reads the answers to lookups, and adds their changes to `places`. With `only_known`, places that are
/// not among them are left out.
pub(super) async fn read_answers<S: Storage>(
    storage: &S,
    subject: &Subject,
    scope: &Scope,
    lookups: &[String],
    since: OpId,
    only_known: bool,
    places: &mut Places,
) -> Result<HashMap<Box<[u8]>, OpId>, VerifyError> {
    let mut floors = HashMap::new();
    let mut encoded = Vec::new();
    for page in lookups.chunks(PAGE) {
        let view = View::newest(storage).await?;
        let keys: Vec<_> = page.iter().filter_map(|name| lookup_key(subject, name)).collect();
        let rows = storage.lookup_rows(&keys).await?;
        let rows = keys.iter().zip(rows);
        let rows = rows.flat_map(|(key, rows)| rows.into_iter().map(move |row| (key, row)));
        for (key, row) in rows {
            let place = Place::answer(key.as_str(), &row.answer_name);
            if !scope.has(&place) {
                continue;
            }

            place.encode(&mut encoded);
            if only_known && !places.contains_key(encoded.as_slice()) {
                continue;
            }

            let sides = places.entry(encoded.as_slice().into()).or_default();
            sides.changes = answer_changes(&row.record, &view, place.table());
            sides.stored_data = newest_output(&row.record, &sides.changes);
            if row.record.floor > since {
                floors.insert(encoded.as_slice().into(), row.record.floor);
            }
        }
    }
    Ok(floors)
}

/// Returns the key of a lookup from its stored name.
fn lookup_key(subject: &Subject, name: &str) -> Option<LookupKey> {
    let tag = subject.generation.lookups.iter().find(|tag| name.starts_with(tag.as_str()))?;
    Some(LookupKey::new(tag, name.strip_prefix(tag.as_str())?))
}

/// Returns the changes of an answer up to a checkpoint.
fn answer_changes(record: &VersionedRecord, view: &View, table: Option<u16>) -> Vec<StoredChange> {
    let is_seen = |op| op <= view.visible.at.op && view.committed_ops.is_committed(op);
    let versions = record.versions.iter().filter(|version| is_seen(version.op));
    let mut changes: Vec<_> = versions
        .map(|version| StoredChange {
            op: version.op,
            content: version.value.as_deref().map(xxh3_64),
            // Earlier versions may have been dropped.
            is_oldest_kept: true,
        })
        .collect();

    // A truncation of the table voids the versions before it.
    let truncated = view.visible.truncated.iter().find(|one| Some(one.table) == table);
    if let Some(truncated) = truncated
        && changes.iter().any(|change| change.op < truncated.op)
    {
        changes.push(StoredChange { op: truncated.op, content: None, is_oldest_kept: true });
    }
    changes
}

/// Returns the output of an answer after its changes; `None` if it is no answer any more.
fn newest_output(record: &VersionedRecord, changes: &[StoredChange]) -> Option<String> {
    let newest = changes.iter().max_by_key(|change| change.op)?;
    let version = record.versions.iter().find(|version| version.op == newest.op)?;
    Some(String::from_utf8_lossy(version.value.as_deref()?).into_owned())
}

#[cfg(test)]
mod tests {
    use tidewater_protocol::{Epoch, RowKey};

    use super::*;

    fn op(number: u64) -> OpId {
        OpId::new(Epoch::ZERO, number)
    }

    fn operation(number: u64, data: &'static str) -> Operation<'static> {
        let body = Body::Put { row: RowKey::new("t", "1", "0.1"), data: data.into() };
        Operation { op_id: op(number), checksum: body.checksum().unwrap(), body }
    }

    fn base(rows: u64, sum: Checksum, remainder: Checksum) -> Base {
        Base {
            to: op(9),
            checksum: sum + remainder,
            remainder,
            rows,
            count: rows,
            name: String::new(),
            marker: 0,
            files: 0,
            frames: 1,
        }
    }

    /// Adds up operations of a base of one row and a log of the others.
    fn verified(base: Option<&Base>, operations: &[Operation<'_>], sum: Checksum) -> bool {
        let mut sums = Sums::new(base);
        for operation in operations {
            sums.add(operation);
        }
        sums.verify(base, &BucketHead { last: op(99), sum, count: 9 }).is_ok()
    }

    #[test]
    fn the_checksums_of_base_and_log_lead_to_that_of_the_head() {
        let [first, second] = [operation(1, "{}"), operation(10, "{ }")];
        let one = first.checksum;
        let two = second.checksum;
        let both = [first.clone(), second];
        assert!(verified(None, &both, one + two));
        assert!(!verified(None, &both, one));

        let left_out = Checksum(77);
        let with_base = base(1, one, left_out);
        assert!(verified(Some(&with_base), &both, one + left_out + two));
        assert!(!verified(Some(&with_base), &both, one + two), "the head lacks what was left out");
        let of_another = base(1, one + Checksum(1), left_out);
        let sum = of_another.checksum;
        assert!(!verified(Some(&of_another), &both[..1], sum), "the row is not the base's");
        let lacking = base(2, one, left_out);
        assert!(
            !verified(Some(&lacking), &[first], one + left_out),
            "a row of the base is missing"
        );
    }
}
