//! The writing half of the commit protocol: everything is stored first, then one conditional write
//! of the control record makes it count. Knows nothing of PostgreSQL.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use tidewater_protocol::{Body, OpId, Operation};
use tidewater_storage::{
    Batch, BucketHead, BucketKey, ClosedEpoch, Committed, CommittedOps, CompactionTask, Control,
    Generation, Lsn, Nonce, RecordConflict, RecordKey, RecordWrite, SegmentWriter, Storage,
    StorageError, SwapOutcome, Ticket, Truncation, Version, VersionedRecord, WriteContext,
};
use tokio::time::Instant;

use crate::log::in_flight::{Commit, InFlightWrite, WriteResult, retried};
use crate::log::record_cache::{RecordCache, RecordRef};
use crate::log::seen_rows::SeenRows;

/// A segment is cut here, so that a reader's page and a stored object stay small.
const SEGMENT_OPS_MAX: u64 = 10_000;
const SEGMENT_BYTES_MAX: usize = 1 << 20;
/// A unit is written out (not committed) beyond this many bytes, whatever the transaction's size.
const UNIT_BYTES_MAX: usize = 3 << 20;
/// RecordCache kept in memory between units.
pub(crate) const RECORDS_CACHED_MAX: usize = 10_000;
/// Buckets whose registration is remembered between units; registering twice does no harm.
const REMEMBERED_BUCKETS_MAX: usize = 100_000;
/// Record writes may be refused this often in a row: by a record that expired, or a dead one.
const CELL_ATTEMPTS: usize = 3;
/// Readers may still be working at a checkpoint that was visible this long ago.
const READER_LIFETIME: Duration = Duration::from_secs(10);

/// The builder looks at a bucket each time so many operations have come.
const COMPACTION_THRESHOLD: u64 = 1_000;

/// Why the log can no longer be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another worker has taken over: stop.
    #[error("another worker has taken over the log")]
    Fenced,
    /// Storage failed, also when asked again.
    #[error("storage failed")]
    Storage(#[from] StorageError),
    /// Four million runs have used up the op ids.
    #[error("no epoch is left: start a new deployment")]
    NoEpochLeft,
    /// A record kept changing under the one worker that may change it.
    #[error("a stored cell changes without this worker")]
    Contended,
}

/// One run of the worker: owns an epoch, assembles units, stores and commits them.
///
/// While one batch is being stored, the next part of the log may be assembled: [`LogWriter::flush`]
/// and [`LogWriter::start_commit`] do not wait for the store, and there is never more than one
/// batch under way.
#[derive(Debug)]
pub struct LogWriter<S> {
    storage: S,
    control: Control,
    committed_ops: CommittedOps,
    sequence: u64,
    records: RecordCache,
    open: HashMap<BucketKey, Vec<SegmentWriter>, RandomState>,
    registered: HashSet<BucketKey, RandomState>,
    unit_bytes: usize,
    recent: VecDeque<(Instant, OpId)>,
    compaction_threshold: u64,
    in_flight: Option<InFlightWrite>,
    first_copy: Option<SeenRows>,
}

impl<S: Storage> LogWriter<S> {
    /// Begins a new epoch by the one conditional write that also closes the former epoch at what
    /// it committed. Before it, the epochs that the record no longer names are archived. After it a
    /// new generation is stored: before, two runs that begin at once would store theirs under the same
    /// id, and readers could find the loser's. Until the first commit that shows it nobody reads it, and
    /// a run that finds none where the record names one makes its own.
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
        if !archived.is_empty() {
            retried(|| storage.archive_epochs(&archived)).await?;
        }
        let expected = former.map(|former| former.revision);
        match retried(|| storage.swap_control(expected, &next)).await? {
            SwapOutcome::Swapped => {}
            SwapOutcome::Conflict(_) => return Err(WriteError::Fenced),
        }
        if let Some(generation) = generation {
            retried(|| storage.put_generation(generation)).await?;
        }
        let committed_ops = next.committed_ops(&retried(|| storage.archived_epochs()).await?);
        Ok(Self {
            storage,
            committed_ops,
            control: next,
            sequence: 1,
            records: RecordCache::default(),
            open: HashMap::default(),
            registered: HashSet::default(),
            unit_bytes: 0,
            recent: VecDeque::new(),
            compaction_threshold: COMPACTION_THRESHOLD,
            in_flight: None,
            first_copy: generation.map(|_| SeenRows::default()),
        })
    }

    /// Makes a bucket due for the builder after so many operations, instead of a thousand.
    #[must_use]
    pub fn with_compaction_threshold(self, operations: u64) -> Self {
        Self { compaction_threshold: operations.max(1), ..self }
    }

    /// The control record as this run last wrote it.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The same, or as it will be once a commit that is under way has happened.
    pub fn latest_control(&self) -> &Control {
        self.in_flight.as_ref().and_then(InFlightWrite::commit).unwrap_or(&self.control)
    }

    /// The store.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Which op ids count.
    pub fn committed_ops(&self) -> &CommittedOps {
        &self.committed_ops
    }

    /// Forgets records that need not be at hand, if there are more than so many of them: what was
    /// loaded before has to be loaded again.
    pub fn trim(&mut self, kept_max: usize) {
        self.records.trim(kept_max);
    }

    /// Finds records, in the order of the keys, and reads those that are not at hand.
    ///
    /// # Errors
    /// `Fenced` when a later run has written one of them.
    pub async fn load(
        &mut self,
        keys: impl IntoIterator<Item = RecordKey>,
    ) -> Result<Vec<RecordRef>, WriteError> {
        let mut records = Vec::new();
        for key in keys {
            if let Some(first_copy) = &mut self.first_copy {
                first_copy.note(&key);
            }
            records.push(self.records.at(key));
        }
        self.read(&records).await?;
        Ok(records)
    }

    /// The same for the records of rows that a copy has read, each of them once. While the copy is
    /// the first of its generation, and no run but this has been at it, nothing can be stored of a
    /// row that the stream did not bring: that is not looked up.
    ///
    /// # Errors
    /// As [`LogWriter::load`].
    pub async fn load_copied(
        &mut self,
        keys: impl IntoIterator<Item = RecordKey>,
    ) -> Result<Vec<RecordRef>, WriteError> {
        let mut records = Vec::new();
        for key in keys {
            let is_new = self.first_copy.as_ref().is_some_and(|copy| copy.is_new(&key));
            let record = self.records.at(key);
            if is_new && self.records.is_unread(record) {
                self.records.note_stored(record, None);
            }
            records.push(record);
        }
        self.read(&records).await?;
        Ok(records)
    }

    async fn read(&mut self, records: &[RecordRef]) -> Result<(), WriteError> {
        let unread = self.records.unread(records.iter().copied());
        if unread.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> = unread.iter().map(|&record| self.records.key(record).clone()).collect();
        let stored = retried(|| self.storage.records(&keys)).await?;
        for (record, stored) in unread.into_iter().zip(stored) {
            self.note_stored(record, stored)?;
        }
        Ok(())
    }

    /// The value of a loaded record as this run sees it, and the operation that gave it.
    ///
    /// # Panics
    /// When the record was not loaded.
    pub fn get(&self, record: RecordRef) -> Option<(OpId, &Bytes)> {
        let (stored, pending) = self.records.get(record);
        let version = pending
            .or_else(|| stored.and_then(|record| record.latest_for_writer(&self.committed_ops)));
        version.and_then(|version| Some((version.op, version.value.as_ref()?)))
    }

    /// Gives a record a value in the current unit; `None` is "gone".
    pub fn set(&mut self, record: RecordRef, value: Option<Bytes>) {
        let op = self.next_op();
        self.unit_bytes += 64 + value.as_ref().map_or(0, Bytes::len);
        self.records.set(record, Version { op, value });
    }

    /// The same for a record that need not be loaded.
    pub fn set_at(&mut self, key: RecordKey, value: Option<Bytes>) {
        let record = self.records.at(key);
        self.set(record, value);
    }

    /// Appends an operation to the bucket of this name ([`BucketKey::as_str`]) in the current unit.
    /// MOVE and CLEAR are the builder's.
    ///
    /// # Panics
    /// When the body is a MOVE or CLEAR.
    pub fn append(&mut self, bucket: &str, body: Body<'_>) {
        let op_id = self.next_op();
        let runs = match self.open.get_mut(bucket) {
            Some(runs) => runs,
            None => self.open.entry(BucketKey::from_stored(bucket)).or_default(),
        };
        let full =
            |run: &SegmentWriter| run.count() >= SEGMENT_OPS_MAX || run.len() >= SEGMENT_BYTES_MAX;
        if runs.last().is_none_or(full) {
            runs.push(SegmentWriter::default());
        }
        let run = runs.last_mut().expect("there is at least one run");
        let before = run.len();
        let checksum = body.checksum().expect("the worker writes PUT and REMOVE only");
        run.push(&Operation { op_id, checksum, body });
        self.unit_bytes += run.len() - before;
    }

    /// An op id of its own, for what is neither an operation nor a record.
    pub fn next_op(&mut self) -> OpId {
        let op = OpId::new(self.control.epoch, self.sequence);
        self.sequence += 1;
        op
    }

    /// Whether there is anything to commit beside a position.
    pub fn has_uncommitted(&self) -> bool {
        self.sequence > 1
            && OpId::new(self.control.epoch, self.sequence - 1) > self.latest_control().committed.op
    }

    /// Whether the unit should be written out although it is not complete.
    pub fn is_full(&self) -> bool {
        self.unit_bytes >= UNIT_BYTES_MAX
    }

    /// Begins to store what the unit holds so far, above the committed op id: nobody sees it.
    ///
    /// # Errors
    /// Any: the run must end, and what it wrote above the committed op id is dead.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        self.finish().await?;
        let batch = self.assemble().await?;
        if !batch.is_empty() {
            self.in_flight = Some(InFlightWrite::start(&self.storage, batch, None));
        } else {
            self.records.release_in_flight();
        }
        Ok(())
    }

    /// Begins to store the rest of the unit and to commit it: everything up to `lsn` and `ticket`
    /// is taken in. Readers follow unless the visibility barrier is ahead of `lsn`. Whatever is written from
    /// here on belongs to the next unit.
    ///
    /// # Errors
    /// Any: the run must end; whether the commit happened is for the next run to find.
    pub async fn start_commit(
        &mut self,
        lsn: Lsn,
        ticket: Ticket,
        hold: CommitOptions,
    ) -> Result<(), WriteError> {
        self.finish().await?;
        let batch = self.assemble().await?;
        let op = if self.has_uncommitted() {
            OpId::new(self.control.epoch, self.sequence - 1)
        } else {
            self.control.committed.op
        };
        let ticket = ticket.max(self.control.committed.ticket);
        let committed = Committed { op, lsn: lsn.max(self.control.committed.lsn), ticket };
        let next = self.control.after_commit(committed, hold.truncated, hold.visibility_barrier);
        let commit = Commit { expected: self.control.revision, next };
        self.in_flight = Some(InFlightWrite::start(&self.storage, batch, Some(commit)));
        Ok(())
    }

    /// Commits the unit and waits until that has happened: see [`LogWriter::start_commit`].
    ///
    /// # Errors
    /// As [`LogWriter::start_commit`].
    pub async fn commit(
        &mut self,
        lsn: Lsn,
        ticket: Ticket,
        hold: CommitOptions,
    ) -> Result<(), WriteError> {
        self.start_commit(lsn, ticket, hold).await?;
        self.finish().await
    }

    /// Whether something is being stored or committed.
    pub fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Returns once [`LogWriter::finish`] need not wait for the store. May be broken off.
    pub async fn wait_in_flight(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.wait().await;
        }
    }

    /// Waits until what is under way is stored, and committed if it was to be.
    ///
    /// # Errors
    /// Any: the run must end.
    pub async fn finish(&mut self) -> Result<(), WriteError> {
        self.wait_in_flight().await;
        let Some(in_flight) = self.in_flight.take() else { return Ok(()) };
        let WriteResult { batch, commit, refused, mut swap } = in_flight.result()?;
        if !refused.is_empty() {
            self.store_again(&batch.records, refused).await?;
            if let Some(commit) = &commit {
                swap = Some(retried(|| commit.swap(&self.storage)).await?);
            }
        }
        self.records.release_in_flight();
        match (commit, swap) {
            (None, _) => Ok(()),
            (Some(commit), Some(SwapOutcome::Swapped)) => {
                self.note_committed(commit.next);
                Ok(())
            }
            (Some(_), _) => Err(WriteError::Fenced),
        }
    }

    /// Checkpoints that readers may still be working at.
    fn recent(&self) -> Vec<OpId> {
        self.recent.iter().map(|(_, op)| *op).collect()
    }

    fn note_committed(&mut self, next: Control) {
        let now = Instant::now();
        if let Some(visible) = &self.control.visible {
            self.recent.push_back((now, visible.at.op));
        }
        while self.recent.front().is_some_and(|(at, _)| now - *at > READER_LIFETIME) {
            self.recent.pop_front();
        }
        self.committed_ops.advance(next.committed.op);
        if next.visibility_barrier.is_none()
            || self.first_copy.as_ref().is_some_and(SeenRows::is_too_large)
        {
            self.first_copy = None;
        }
        self.control = next;
    }

    fn note_stored(
        &mut self,
        record: RecordRef,
        stored: Option<VersionedRecord>,
    ) -> Result<(), WriteError> {
        if stored.as_ref().is_some_and(|record| record.has_newer_epoch(&self.committed_ops)) {
            return Err(WriteError::Fenced);
        }
        self.records.note_stored(record, stored.map(Arc::new));
        Ok(())
    }

    /// What the unit holds, as it is to be stored.
    async fn assemble(&mut self) -> Result<Batch, WriteError> {
        let open = std::mem::take(&mut self.open);
        let heads: Vec<_> =
            open.keys().map(|bucket| self.records.at(RecordKey::Bucket(bucket.clone()))).collect();
        let changed = self.records.changed().to_vec();
        self.read(&heads).await?;
        self.read(&changed).await?;
        let mut batch = Batch::default();
        for ((bucket, runs), head) in open.into_iter().zip(heads) {
            self.close_runs(&mut batch, bucket, runs, head)?;
        }
        let recent = self.recent();
        let context = context(&self.committed_ops, &self.control, &recent);
        let written = |stored: Option<&VersionedRecord>, version| {
            VersionedRecord::with_version(stored, version, &context)
        };
        batch.records = self.records.take_changed(written);
        self.unit_bytes = 0;
        if self.registered.len() > REMEMBERED_BUCKETS_MAX {
            self.registered.clear();
        }
        Ok(batch)
    }

    /// Turns a bucket's runs into segments that continue its chain, and moves its head.
    fn close_runs(
        &mut self,
        batch: &mut Batch,
        bucket: BucketKey,
        runs: Vec<SegmentWriter>,
        record: RecordRef,
    ) -> Result<(), WriteError> {
        let head = self.get(record).map(|(_, value)| BucketHead::decode(value)).transpose()?;
        let mut head = head.unwrap_or_default();
        let before = head.count / self.compaction_threshold;
        for run in runs {
            let segment = run.finish(bucket.clone(), head.last, head.sum);
            head.last = segment.last;
            head.sum += segment.sum;
            head.count += segment.count;
            batch.segments.push(segment);
        }
        self.records.set(record, Version { op: head.last, value: Some(head.encode()) });
        if head.count / self.compaction_threshold > before {
            batch.compaction_tasks.push(CompactionTask::immediate(bucket.clone(), head.last));
        }
        if self.registered.insert(bucket.clone()) {
            batch.registry.push(bucket);
        }
        Ok(())
    }

    /// Builds the writes that were refused again, over what is stored, until they are taken.
    async fn store_again(
        &mut self,
        writes: &[RecordWrite],
        mut refused: Vec<RecordConflict>,
    ) -> Result<(), WriteError> {
        let recent = self.recent();
        for _ in 1..CELL_ATTEMPTS {
            let mut batch = Batch::default();
            for RecordConflict { key, stored } in std::mem::take(&mut refused) {
                let write = writes.iter().find(|write| write.key == key);
                let version = write.and_then(|write| write.record.versions.first()).cloned();
                let version = version.ok_or(WriteError::Contended)?;
                let is_own =
                    |top: OpId| self.committed_ops.is_from_current_epoch(top) && top != version.op;
                if stored.as_ref().is_some_and(|record| is_own(record.newest_op())) {
                    // Everything that this run has written it knows.
                    return Err(WriteError::Contended);
                }
                let record = self.records.at(key.clone());
                self.note_stored(record, stored)?;
                let context = context(&self.committed_ops, &self.control, &recent);
                let (stored, _) = self.records.get(record);
                let expected_newest = stored.map(VersionedRecord::newest_op);
                let new = Arc::new(VersionedRecord::with_version(stored, version, &context));
                self.records.note_stored(record, Some(Arc::clone(&new)));
                batch.records.push(RecordWrite { key, expected_newest, record: new });
            }
            let batch = Arc::new(batch);
            refused = retried(|| self.storage.write(Arc::clone(&batch))).await?;
            if refused.is_empty() {
                return Ok(());
            }
        }
        Err(WriteError::Contended)
    }
}

/// What decides which versions of a record are still needed.
fn context<'a>(
    committed_ops: &'a CommittedOps,
    control: &Control,
    recent: &'a [OpId],
) -> WriteContext<'a> {
    let visible = control.visible.as_ref().map(|visible| visible.at.op);
    WriteContext { committed_ops, visible, recent }
}

/// What a commit does to visibility.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// See [`Control::visibility_barrier`].
    pub visibility_barrier: Option<Lsn>,
    /// See [`Control::truncated`].
    pub truncated: Vec<Truncation>,
}

/// A new owner's name for itself.
pub(crate) fn nonce() -> Result<Nonce, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(Nonce(format!("{:032x}", u128::from_le_bytes(bits))))
}

#[cfg(test)]
mod tests;
