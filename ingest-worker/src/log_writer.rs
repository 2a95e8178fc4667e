//! The writing half of the commit protocol: everything is stored first, then one conditional write
//! of the control record makes it count. Knows nothing of PostgreSQL.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::{Body, OpId, Operation};
use tidewater_storage::{
    Batch, BucketKey, Cell, CellKey, CellWrite, ClosedEpoch, Committed, Control, Generation, Head,
    Limits, Lsn, Nonce, Refused, SegmentWriter, Storage, StorageError, SwapOutcome, Ticket,
    Truncation, Version, WriteContext,
};
use tokio::time::Instant;

/// A segment is cut here, so that a reader's page and a stored object stay small.
const SEGMENT_OPS_MAX: u64 = 10_000;
const SEGMENT_BYTES_MAX: usize = 4 << 20;
/// A unit is written out (not committed) beyond this many bytes, whatever the transaction's size.
const UNIT_BYTES_MAX: usize = 8 << 20;
/// Cells kept in memory between units.
const CACHED_CELLS_MAX: usize = 20_000;
/// Buckets whose registration is remembered between units; registering twice does no harm.
const REMEMBERED_BUCKETS_MAX: usize = 100_000;
/// Cell writes may be refused this often in a row: by a cell that expired, or a dead one.
const CELL_ATTEMPTS: usize = 3;
/// Storage calls are repeated this often before the run ends.
const STORAGE_ATTEMPTS: u32 = 6;
/// Readers may still be working at a checkpoint that was visible this long ago.
const READER_LIFETIME: Duration = Duration::from_secs(10);

/// The builder looks at a bucket each time so many operations have come.
const DUE_EVERY: u64 = 1_000;

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
    /// A cell kept changing under the one worker that may change it.
    #[error("a stored cell changes without this worker")]
    Contended,
}

/// What a cell holds, as the worker sees it.
#[derive(Debug, Default)]
struct Known {
    /// The stored cell, if there is one; `None` while it was not read.
    stored: Option<Option<Cell>>,
    pending: Option<Version>,
}

/// One run of the worker: owns an epoch, assembles units, stores and commits them.
#[derive(Debug)]
pub struct LogWriter<S> {
    storage: S,
    control: Control,
    limits: Limits,
    sequence: u64,
    cells: HashMap<CellKey, Known>,
    dirty: Vec<CellKey>,
    open: HashMap<BucketKey, Vec<SegmentWriter>>,
    registered: HashSet<BucketKey>,
    unit_bytes: usize,
    recent: VecDeque<(Instant, OpId)>,
    due_every: u64,
}

impl<S: Storage> LogWriter<S> {
    /// Begins a new epoch by the one conditional write that also closes the former epoch at what
    /// it committed. `change` may replace what a new generation or a new slot needs; its
    /// generation must be stored already.
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
        if let Some(generation) = generation {
            retried(|| storage.put_generation(generation)).await?;
        }
        let expected = former.map(|former| former.revision);
        match retried(|| storage.swap_control(expected, &next)).await? {
            SwapOutcome::Done => {}
            SwapOutcome::Refused(_) => return Err(WriteError::Fenced),
        }
        let limits = next.limits(&retried(|| storage.archived_epochs()).await?);
        Ok(Self {
            storage,
            limits,
            control: next,
            sequence: 1,
            cells: HashMap::new(),
            dirty: Vec::new(),
            open: HashMap::new(),
            registered: HashSet::new(),
            unit_bytes: 0,
            recent: VecDeque::new(),
            due_every: DUE_EVERY,
        })
    }

    /// Makes a bucket due for the builder after so many operations, instead of a thousand.
    #[must_use]
    pub fn with_due_every(self, operations: u64) -> Self {
        Self { due_every: operations.max(1), ..self }
    }

    /// The control record as this run last wrote it.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The store.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Which op ids count.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Forgets cells that are not part of the unit, if there are many. What was loaded before may
    /// have to be loaded again.
    pub fn trim(&mut self) {
        if self.cells.len() > CACHED_CELLS_MAX {
            self.cells.retain(|_, known| known.pending.is_some());
        }
    }

    /// Reads those of the cells that are not at hand. Must precede [`LogWriter::get`].
    ///
    /// # Errors
    /// `Fenced` when a later run has written one of them.
    pub async fn load(
        &mut self,
        keys: impl IntoIterator<Item = CellKey>,
    ) -> Result<(), WriteError> {
        let unread = |key: &CellKey| self.cells.get(key).is_none_or(|known| known.stored.is_none());
        let mut missing: Vec<_> = keys.into_iter().filter(unread).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let stored = retried(|| self.storage.cells(&missing)).await?;
        for (key, stored) in missing.into_iter().zip(stored) {
            self.note_stored(key, stored)?;
        }
        Ok(())
    }

    /// The value of a loaded cell as this run sees it, and the operation that gave it.
    ///
    /// # Panics
    /// When the cell was not loaded.
    pub fn get(&self, key: &CellKey) -> Option<(OpId, &Bytes)> {
        let known = self.cells.get(key).expect("cells are loaded before they are read");
        let version = known.pending.as_ref();
        let stored = known.stored.as_ref().expect("cells are loaded before they are read");
        let version = version.or_else(|| stored.as_ref().and_then(|cell| cell.own(&self.limits)));
        version.and_then(|version| Some((version.op, version.value.as_ref()?)))
    }

    /// Gives a cell a value in the current unit; `None` is "gone".
    pub fn set(&mut self, key: &CellKey, value: Option<Bytes>) {
        let op = self.next_op();
        self.unit_bytes += 64 + value.as_ref().map_or(0, Bytes::len);
        self.set_version(key, Version { op, value });
    }

    /// Appends an operation to a bucket in the current unit. MOVE and CLEAR are the builder's.
    ///
    /// # Panics
    /// When the body is a MOVE or CLEAR.
    pub fn append(&mut self, bucket: &BucketKey, body: Body<'_>) {
        let checksum = body.checksum().expect("the worker writes PUT and REMOVE only");
        let op_id = self.next_op();
        if !self.open.contains_key(bucket) {
            self.open.insert(bucket.clone(), vec![SegmentWriter::default()]);
        }
        let runs = self.open.get_mut(bucket).expect("it was just inserted");
        let full =
            |run: &SegmentWriter| run.count() >= SEGMENT_OPS_MAX || run.len() >= SEGMENT_BYTES_MAX;
        if runs.last().is_none_or(full) {
            runs.push(SegmentWriter::default());
        }
        let run = runs.last_mut().expect("there is at least one run");
        let before = run.len();
        run.push(&Operation { op_id, checksum, body });
        self.unit_bytes += run.len() - before;
    }

    /// An op id of its own, for what is neither an operation nor a cell.
    pub fn next_op(&mut self) -> OpId {
        let op = OpId::new(self.control.epoch, self.sequence);
        self.sequence += 1;
        op
    }

    /// Whether there is anything to commit beside a position.
    pub fn has_uncommitted(&self) -> bool {
        self.sequence > 1
            && OpId::new(self.control.epoch, self.sequence - 1) > self.control.committed.op
    }

    /// Whether the unit should be written out although it is not complete.
    pub fn is_full(&self) -> bool {
        self.unit_bytes >= UNIT_BYTES_MAX
    }

    /// Stores what the unit holds so far, above the committed op id: nobody sees it.
    ///
    /// # Errors
    /// Any: the run must end, and what it wrote above the committed op id is dead.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        let heads = self.open.keys().cloned().map(CellKey::Bucket);
        let conditions: Vec<_> = heads.chain(self.dirty.iter().cloned()).collect();
        self.load(conditions).await?;
        let mut batch = Batch::default();
        for (bucket, runs) in std::mem::take(&mut self.open) {
            self.close_runs(&mut batch, bucket, runs)?;
        }
        let dirty = std::mem::take(&mut self.dirty);
        batch.cells = dirty.into_iter().map(|key| self.cell_write(key)).collect();
        if !(batch.segments.is_empty() && batch.cells.is_empty()) {
            self.store(batch).await?;
        }
        self.unit_bytes = 0;
        if self.registered.len() > REMEMBERED_BUCKETS_MAX {
            self.registered.clear();
        }
        Ok(())
    }

    /// Stores the rest of the unit, then commits it: everything up to `lsn` and `ticket` is taken
    /// in. Readers follow unless the gate is ahead of `lsn`.
    ///
    /// # Errors
    /// Any: the run must end; whether the commit happened is for the next run to find.
    pub async fn commit(&mut self, lsn: Lsn, ticket: Ticket, hold: Hold) -> Result<(), WriteError> {
        self.flush().await?;
        let op = if self.has_uncommitted() {
            OpId::new(self.control.epoch, self.sequence - 1)
        } else {
            self.control.committed.op
        };
        let ticket = ticket.max(self.control.committed.ticket);
        let committed = Committed { op, lsn: lsn.max(self.control.committed.lsn), ticket };
        let next = self.control.advanced(committed, hold.truncated, hold.gate);
        let expected = Some(self.control.revision);
        match retried(|| self.storage.swap_control(expected, &next)).await? {
            SwapOutcome::Done => {}
            SwapOutcome::Refused(_) => return Err(WriteError::Fenced),
        }
        let now = Instant::now();
        if let Some(visible) = &self.control.visible {
            self.recent.push_back((now, visible.at.op));
        }
        while self.recent.front().is_some_and(|(at, _)| now - *at > READER_LIFETIME) {
            self.recent.pop_front();
        }
        self.limits.advance(op);
        self.control = next;
        Ok(())
    }

    fn set_version(&mut self, key: &CellKey, version: Version) {
        let known = self.cells.entry(key.clone()).or_default();
        if known.pending.replace(version).is_none() {
            self.dirty.push(key.clone());
        }
    }

    fn note_stored(&mut self, key: CellKey, stored: Option<Cell>) -> Result<(), WriteError> {
        if stored.as_ref().is_some_and(|cell| cell.is_ahead_of(&self.limits)) {
            return Err(WriteError::Fenced);
        }
        self.cells.entry(key).or_default().stored = Some(stored);
        Ok(())
    }

    /// Turns a bucket's runs into segments that continue its chain, and moves its head.
    fn close_runs(
        &mut self,
        batch: &mut Batch,
        bucket: BucketKey,
        runs: Vec<SegmentWriter>,
    ) -> Result<(), WriteError> {
        let key = CellKey::Bucket(bucket.clone());
        let head = self.get(&key).map(|(_, value)| Head::decode(value)).transpose()?;
        let mut head = head.unwrap_or_default();
        let before = head.count / self.due_every;
        for run in runs {
            let segment = run.finish(bucket.clone(), head.last, head.sum);
            head.last = segment.last;
            head.sum += segment.sum;
            head.count += segment.count;
            batch.segments.push(segment);
        }
        self.set_version(&key, Version { op: head.last, value: Some(head.encode()) });
        if head.count / self.due_every > before {
            batch.due.push((bucket.clone(), head.last));
        }
        if self.registered.insert(bucket.clone()) {
            batch.registry.push(bucket);
        }
        Ok(())
    }

    /// The conditional write of a dirty cell, over what is known to be stored.
    fn cell_write(&self, key: CellKey) -> CellWrite {
        let known = self.cells.get(&key).expect("only cells at hand are written");
        let version = known.pending.clone().expect("only dirty cells are written");
        let recent: Vec<_> = self.recent.iter().map(|(_, op)| *op).collect();
        let context = WriteContext {
            limits: &self.limits,
            visible: self.control.visible.as_ref().map(|visible| visible.at.op),
            recent: &recent,
        };
        let stored = known.stored.as_ref().and_then(Option::as_ref);
        let cell = Cell::written(stored, version, &context);
        CellWrite { known_top: stored.map(Cell::top), key, cell }
    }

    /// Stores a batch; cells that were refused are built again over what is stored.
    async fn store(&mut self, mut batch: Batch) -> Result<(), WriteError> {
        for _ in 0..CELL_ATTEMPTS {
            let refused = retried(|| self.storage.write(&batch)).await?;
            let mut again = Vec::new();
            let refused_keys: HashSet<_> = refused.iter().map(|r| r.key.clone()).collect();
            for write in std::mem::take(&mut batch.cells) {
                if !refused_keys.contains(&write.key)
                    && let Some(known) = self.cells.get_mut(&write.key)
                {
                    known.stored = Some(Some(write.cell));
                    known.pending = None;
                }
            }
            for Refused { key, stored } in refused {
                self.note_stored(key.clone(), stored)?;
                again.push(self.cell_write(key));
            }
            if again.is_empty() {
                return Ok(());
            }
            batch = Batch { cells: again, ..Batch::default() };
        }
        Err(WriteError::Contended)
    }
}

/// What a commit does to visibility.
#[derive(Clone, Debug, Default)]
pub struct Hold {
    /// See [`Control::gate`].
    pub gate: Option<Lsn>,
    /// See [`Control::truncated`].
    pub truncated: Vec<Truncation>,
}

/// A new owner's name for itself.
pub(crate) fn nonce() -> Result<Nonce, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(Nonce(format!("{:032x}", u128::from_le_bytes(bits))))
}

/// Repeats a storage call while storage is unavailable. Every call of the ports may be repeated.
async fn retried<T, F, Fut>(call: F) -> Result<T, StorageError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, StorageError>>,
{
    let mut pause = Duration::from_millis(20);
    let mut attempt = 1;
    loop {
        match call().await {
            Err(StorageError::Unavailable(_) | StorageError::Unknown(_))
                if attempt < STORAGE_ATTEMPTS =>
            {
                attempt += 1;
                tokio::time::sleep(pause).await;
                pause *= 3;
            }
            result => return result,
        }
    }
}
