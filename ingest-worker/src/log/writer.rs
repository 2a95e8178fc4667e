//! The log of one run: loads records, assembles units, stores and commits them. It knows nothing of
//! PostgreSQL.

use std::sync::Arc;

use bytes::Bytes;
use tidewater_protocol::{Body, Checksum, OpId};
use tidewater_storage::{
    Batch, BucketHead, ChangeName, ChangedNames, ClosedEpoch, CommittedOps, Control, ControlStore,
    Generation, LastTransaction, Lsn, Nonce, RecordKey, RecordStore, Ticket, Truncation, Version,
};

use crate::log::committer::Committer;
use crate::log::error::WriteError;
use crate::log::record_cache::{RecordCache, RecordRef};
use crate::log::seen_rows::SeenRows;
use crate::log::unit::Unit;

/// Records that are kept in memory between units, beside those that are not stored yet. A typical
/// record takes some 200 bytes, so this is a few MB.
pub(crate) const RECORDS_CACHED_MAX: usize = 10_000;

/// The log of one run of the worker, which owns an epoch.
///
/// A unit is what one commit contains. It is assembled by [`LogWriter::set`] and
/// [`LogWriter::append`], and ended by [`LogWriter::start_commit`]. A large one is stored in parts by
/// [`LogWriter::flush`]; no part is committed before the end.
///
/// While one batch is in flight, the next one may be assembled: neither `flush` nor `start_commit` waits
/// for the store, but both first wait for the batch before. So at most one is in flight.
#[derive(Debug)]
pub struct LogWriter<S> {
    committer: Committer<S>,
    unit: Unit,
    /// The buckets and lookups that the unit has written so far, for readers.
    changed_names: ChangedNames,
    records: RecordCache,
    /// Rows that the stream has brought, while a new generation is copied by this run.
    seen_rows: Option<SeenRows>,
}

impl<S: ControlStore + RecordStore + Clone + 'static> LogWriter<S> {
    /// Begins a new epoch by one conditional write, which also closes the former epoch at what it has
    /// committed. `generation` is a new one, which is stored after that.
    ///
    /// # Errors
    /// `Fenced` when another worker did so at the same moment.
    pub async fn take_over(
        storage: S,
        former: Option<Control>,
        next: Control,
        archived: Vec<ClosedEpoch>,
        generation: Option<&Generation>,
    ) -> Result<Self, WriteError> {
        let epoch = next.epoch;
        let committer = Committer::take_over(storage, former, next, archived, generation).await?;

        Ok(Self {
            committer,
            unit: Unit::new(epoch),
            changed_names: ChangedNames::default(),
            records: RecordCache::default(),
            // Rows are stored already for a generation that continues another one.
            seen_rows: generation
                .filter(|generation| generation.rows_of() == generation.id)
                .map(|_| SeenRows::default()),
        })
    }

    /// Queues a bucket for compaction after this many operations, instead of a thousand.
    #[must_use]
    pub fn with_compaction_threshold(mut self, operations: u64) -> Self {
        self.unit.set_compaction_threshold(operations);
        self
    }

    /// Returns the control record as this run last wrote it.
    pub fn control(&self) -> &Control {
        self.committer.control()
    }

    /// Returns the control record as it will be after the commit in flight, if there is one.
    pub fn latest_control(&self) -> &Control {
        self.committer.latest_control()
    }

    /// Returns the store.
    pub fn storage(&self) -> &S {
        self.committer.storage()
    }

    /// Returns which operations are committed.
    pub fn committed_ops(&self) -> &CommittedOps {
        self.committer.committed_ops()
    }

    /// Drops cached records that are neither in the unit nor in flight, if there are more than
    /// `kept_max` of them. This invalidates every [`RecordRef`] returned so far.
    pub fn trim(&mut self, kept_max: usize) {
        self.records.trim(kept_max);
    }

    /// Loads records, in the order of the keys. Those that are not cached are read from the store.
    ///
    /// # Errors
    /// `Fenced` when a later run has written one of them.
    pub async fn load(
        &mut self,
        keys: impl IntoIterator<Item = RecordKey>,
    ) -> Result<Vec<RecordRef>, WriteError> {
        let mut records = Vec::new();
        for key in keys {
            if let Some(seen_rows) = &mut self.seen_rows {
                seen_rows.note(&key);
            }
            records.push(self.records.entry(key));
        }
        self.read_missing(&records).await?;
        Ok(records)
    }

    /// Loads the records of rows that a copy has read, each of them once.
    ///
    /// While this run is the first to copy a generation, nothing can be stored of a row that the
    /// stream has not brought, so that row is not looked up: the copy of a large table is then blind.
    ///
    /// # Errors
    /// Those of [`LogWriter::load`].
    pub async fn load_copied(
        &mut self,
        keys: impl IntoIterator<Item = RecordKey>,
    ) -> Result<Vec<RecordRef>, WriteError> {
        let mut records = Vec::new();
        for key in keys {
            let is_new = self.seen_rows.as_ref().is_some_and(|rows| rows.is_new(&key));
            let record = self.records.entry(key);
            // If a record is stored all the same, the condition of its write fails, and the run ends
            // or builds it again.
            if is_new && self.records.is_unread(record) {
                self.records.note_stored(record, None);
            }
            records.push(record);
        }

        self.read_missing(&records).await?;
        Ok(records)
    }

    /// Reads those of the records that were never read.
    async fn read_missing(&mut self, records: &[RecordRef]) -> Result<(), WriteError> {
        let unread = self.records.unread(records.iter().copied());
        if unread.is_empty() {
            return Ok(());
        }

        let keys: Vec<_> = unread.iter().map(|&one| self.records.key(one).clone()).collect();
        let stored = self.committer.read(&keys).await?;
        for (record, stored) in unread.into_iter().zip(stored) {
            self.records.note_stored(record, stored.map(Arc::new));
        }
        Ok(())
    }

    /// Returns the value of a loaded record as this run sees it, committed or not, and the operation
    /// that wrote it; `None` if there is none, or if it was deleted.
    ///
    /// # Panics
    /// When the record was not loaded.
    pub fn get(&self, record: RecordRef) -> Option<(OpId, &Bytes)> {
        let (stored, pending) = self.records.get(record);
        let version =
            pending.or_else(|| stored.and_then(|one| one.latest_for_writer(self.committed_ops())));
        version.and_then(|version| Some((version.op, version.value.as_ref()?)))
    }

    /// Gives a record a value in the unit; `None` deletes it.
    pub fn set(&mut self, record: RecordRef, value: Option<Bytes>) {
        let op = self.next_op();
        self.unit.count_record(value.as_ref().map_or(0, Bytes::len));
        self.records.set(record, Version { op, value });
    }

    /// Gives a record that need not be loaded a value in the unit; `None` deletes it.
    pub fn set_at(&mut self, key: RecordKey, value: Option<Bytes>) {
        let record = self.records.entry(key);
        self.set(record, value);
    }

    /// Appends an operation to the bucket of this name ([`BucketKey::as_str`](tidewater_storage::BucketKey::as_str)) in the unit.
    ///
    /// # Panics
    /// When the body is a MOVE or CLEAR, which only the builder writes.
    pub fn append(&mut self, bucket: &str, body: Body<'_>) {
        let checksum = body.checksum().expect("the worker writes PUT and REMOVE only");
        self.append_with_checksum(bucket, body, checksum);
    }

    /// Appends an operation as [`LogWriter::append`] does, if its checksum is known.
    pub fn append_with_checksum(&mut self, bucket: &str, body: Body<'_>, checksum: Checksum) {
        self.unit.append(bucket, body, checksum);
    }

    /// Returns an op id of its own, for what is neither an operation nor a record.
    pub fn next_op(&mut self) -> OpId {
        self.unit.next_op()
    }

    /// Returns whether there is anything to commit beside a position.
    pub fn has_uncommitted(&self) -> bool {
        self.unit.last_op().is_some_and(|op| op > self.latest_control().committed.op)
    }

    /// Returns whether the unit should be flushed although it is not complete.
    fn is_full(&self) -> bool {
        self.unit.is_full()
    }

    /// Returns the bytes of the unit that are not in flight yet.
    #[cfg(test)]
    pub(crate) fn unit_bytes(&self) -> usize {
        self.unit.bytes()
    }

    /// Does [`LogWriter::flush`] if the unit is full. Loaded records stay loaded, so this may happen in
    /// the middle of a row.
    ///
    /// # Errors
    /// Those of [`LogWriter::flush`].
    pub async fn flush_if_full(&mut self) -> Result<(), WriteError> {
        if self.is_full() { self.flush().await } else { Ok(()) }
    }

    /// Starts to store the unit so far. It stays uncommitted, so nobody sees it.
    ///
    /// # Errors
    /// After any error the run must end: parts of the unit may be stored, and only another epoch
    /// leaves them uncommitted for ever.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        // The conditions of this batch's writes are what the batch before has stored.
        self.finish().await?;
        let batch = self.assemble().await?;
        if !batch.is_empty() {
            self.committer.start_store(batch);
        }
        Ok(())
    }

    /// Starts to store the rest of the unit, and to commit the unit: then everything up to `lsn` and
    /// `ticket` is committed. Readers see it unless the visibility barrier is above `lsn`. What is
    /// written from here on belongs to the next unit.
    ///
    /// # Errors
    /// After any error the run must end. Whether the commit happened is for the next run to find.
    pub async fn start_commit(
        &mut self,
        lsn: Lsn,
        ticket: Ticket,
        options: CommitOptions,
    ) -> Result<(), WriteError> {
        // Commits are in order: the one before must be done, as this one names its revision.
        self.finish().await?;
        let batch = self.assemble().await?;

        // The control record is written after the batch is stored, in the same task. Until then no
        // reader finds anything of it, and a crash leaves only uncommitted versions.
        let position = self.committer.position_after(self.unit.last_op(), lsn, ticket);
        let CommitOptions {
            visibility_barrier,
            switch_barrier,
            former_until,
            truncated,
            last_transaction,
            current_at,
        } = options;
        let before = Control { switch_barrier, ..self.control().clone() };
        let next = before.after_commit(position, truncated, visibility_barrier);
        let next = Control { last_transaction, ..next }.with_former_until(former_until);
        let next = match current_at {
            Some(time) => next.current_as_of(time),
            None => next,
        };
        // The names are complete: every flush of the unit has added its own, and this was the last one.
        let changed_names = std::mem::take(&mut self.changed_names);
        let next = next.naming_changes(self.control(), &changed_names);
        self.committer.start_commit(batch, next);
        Ok(())
    }

    /// Commits the unit and waits for that: see [`LogWriter::start_commit`].
    ///
    /// # Errors
    /// Those of [`LogWriter::start_commit`].
    pub async fn commit(
        &mut self,
        lsn: Lsn,
        ticket: Ticket,
        options: CommitOptions,
    ) -> Result<(), WriteError> {
        self.start_commit(lsn, ticket, options).await?;
        self.finish().await
    }

    /// Returns whether a batch is in flight.
    pub fn is_busy(&self) -> bool {
        self.committer.is_busy()
    }

    /// Returns once [`LogWriter::finish`] does not need to wait for the store. It may be cancelled.
    pub async fn wait_in_flight(&mut self) {
        self.committer.wait().await;
    }

    /// Waits until the batch in flight is stored, and committed if it was to be.
    ///
    /// # Errors
    /// After any error the run must end.
    pub async fn finish(&mut self) -> Result<(), WriteError> {
        let Some(result) = self.committer.finish().await? else { return Ok(()) };

        // Conflicts were resolved over what the store had, so the cache must have that, too. Otherwise
        // the next write of the record would fail its condition.
        for write in result.rebuilt {
            let record = self.records.entry(write.key);
            self.records.note_stored(record, Some(write.record));
        }
        self.records.release_in_flight();

        // Without the barrier the copy is done, and a stored record may be of any age: from now on each
        // row is looked up. Until then, what was not seen in the stream cannot be stored.
        if let Some(next) = result.committed {
            let is_too_large = self.seen_rows.as_ref().is_some_and(SeenRows::is_too_large);
            if next.visibility_barrier.is_none() || is_too_large {
                self.seen_rows = None;
            }
        }
        Ok(())
    }

    /// Takes what the unit holds as a batch to store: segments, bucket heads and records.
    async fn assemble(&mut self) -> Result<Batch, WriteError> {
        // A write is conditional on the newest stored version, so each record must have been read.
        let open = self.unit.take_open();
        let heads: Vec<_> = open
            .iter()
            .map(|open| self.records.entry(RecordKey::Bucket(open.bucket.clone())))
            .collect();
        let changed = self.records.changed().to_vec();
        self.read_missing(&heads).await?;
        self.read_missing(&changed).await?;

        // The heads become records of the unit like the others.
        let mut batch = Batch::default();
        for (open, record) in open.into_iter().zip(heads) {
            let head = self.get(record).map(|(_, value)| BucketHead::decode(value)).transpose()?;
            let head = self.unit.close_bucket(open, head.unwrap_or_default(), &mut batch);
            let version = Version { op: head.last, value: Some(head.encode()) };
            self.records.set(record, version);
        }

        let retention = self.committer.retention();
        batch.records = self
            .records
            .take_changed(|key, stored, version| retention.with_version(key, stored, version));
        for write in &batch.records {
            if let Some(name) = ChangeName::of_record(&write.key) {
                self.changed_names.insert(name);
            }
        }
        Ok(batch)
    }
}

/// Changes that a commit makes besides the position.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// Position that the stream must pass before readers see the commit: see
    /// [`Control::visibility_barrier`].
    pub visibility_barrier: Option<Lsn>,
    /// Position that the stream must pass before readers get the latest generation: see
    /// [`Control::switch_barrier`].
    pub switch_barrier: Option<Lsn>,
    /// Time until which a generation is maintained that readers lose by the commit: see
    /// [`MaintainedGeneration::until`](tidewater_storage::MaintainedGeneration::until).
    pub former_until: u64,
    /// The last truncation of each table: see [`Control::truncated`].
    pub truncated: Vec<Truncation>,
    /// The last transaction that the stream has sent: see [`Control::last_transaction`].
    pub last_transaction: Option<LastTransaction>,
    /// Time as of which the commit has everything of the source: see [`Control::current_as_of`].
    pub current_at: Option<u64>,
}

/// Returns a random name for a new owner of the control record, by which it recognises its own write.
pub(crate) fn nonce() -> Result<Nonce, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(Nonce(format!("{:032x}", u128::from_le_bytes(bits))))
}

#[cfg(test)]
mod tests;
