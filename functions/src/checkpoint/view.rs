//! The store as it is at one visible checkpoint.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::{Epoch, OpId};
use tidewater_storage::{
    BucketHead, BucketItem, BucketKey, BucketStore, Catalog, ChangeName, ChangeRing, CommittedOps,
    Control, GenerationId, LookupKey, LookupRow, LookupStore, ReadResult, StorageError, Ticket,
    Visible, table_of_answer,
};
use tidewater_sync_config::Question;
use tokio::time::Instant;

use super::batching_cache::BatchingCache;
use super::error::CheckpointError;
use super::generation::CompiledGeneration;

/// Number of keys of one caller that a call of the store reads. A caller with more takes turns with
/// the others, so that nobody waits for more than one such call of each of them.
const TURN_KEYS_MAX: usize = 1_000;

/// Age of a catalog from which a client that needs it has it read again, although its checkpoint is still
/// the newest. The snapshot builder publishes bases between checkpoints, and new clients should get them.
/// Five seconds keep the reads of a busy server rare.
pub(crate) const CATALOG_AGE_MAX: Duration = Duration::from_secs(5);

/// The outputs of all answers to one question; `None` if the checkpoint is too old to be read.
type Outputs = Option<Arc<[String]>>;

/// A bucket's head at the checkpoint, and its newest catalog. Both are from one read.
#[derive(Clone)]
pub(crate) struct BucketState {
    pub(crate) head: BucketHead,
    pub(crate) catalog: Arc<Catalog>,
}

/// The identity of a visible checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointId {
    /// The run of the worker that wrote the control record.
    pub(crate) run: Run,
    /// Revision of the control record that it was read from.
    pub(crate) revision: u64,
    /// The checkpoint's op id.
    pub(crate) op: OpId,
    /// The last write-checkpoint ticket that it covers.
    pub(crate) ticket: Ticket,
    /// The generation whose buckets are visible.
    pub(crate) generation: GenerationId,
}

/// The identity of a run of the worker. A store that was restored may have the same epoch twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) epoch: Epoch,
    /// A hash of the run's random number.
    pub(crate) owner: u64,
}

impl CheckpointId {
    /// Returns whether everything of `other` is known to who knows this. Of two runs nothing is known:
    /// the store may have been restored between them.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        self.run == other.run && self.revision >= other.revision
    }
}

/// The store at one visible checkpoint. All streams of a process share what one of them has read.
///
/// Heads and outputs of a checkpoint never change. So the views of control records that name the same
/// checkpoint share what was read. The snapshot builder replaces catalogs, so a cached catalog may be
/// older than the stored one. Objects that it names stay readable for the grace period, and a stream
/// that misses one reads the catalog again. [`CheckpointView::has_old_catalogs`] tells whether a client
/// that needs a catalog should have it read again before.
pub(crate) struct CheckpointView {
    id: CheckpointId,
    visible: Visible,
    /// Op ids that are committed in the control record that names the checkpoint. Behind a visibility
    /// barrier, they include op ids after the checkpoint.
    pub(crate) committed_ops: Arc<CommittedOps>,
    pub(crate) generation: Arc<CompiledGeneration>,
    /// The changes of the control record and of the ones before it.
    pub(crate) changes: ChangeRing,
    outputs: Arc<BatchingCache<LookupKey, Outputs>>,
    buckets: Arc<BucketReads>,
    /// The empty catalog, which all buckets without a stored catalog share.
    empty_catalog: Arc<Catalog>,
}

/// The parts of buckets that were read.
struct BucketReads {
    /// States of buckets; `None` if the checkpoint is too old to be read.
    states: BatchingCache<BucketKey, Option<BucketState>>,
    /// The time before the first read: no catalog is older.
    since: Instant,
}

impl BucketReads {
    fn new(now: Instant) -> Self {
        Self { states: BatchingCache::new(), since: now }
    }
}

impl CheckpointView {
    /// Creates the view of a control record's visible checkpoint. What was read at a former view of the
    /// same checkpoint is known.
    pub(super) fn new(
        control: &Control,
        visible: Visible,
        committed_ops: CommittedOps,
        generation: Arc<CompiledGeneration>,
        former: Option<&Self>,
        now: Instant,
    ) -> Self {
        let former = former.filter(|former| former.is_at(control, &visible));
        let outputs = former.map(|former| Arc::clone(&former.outputs)).unwrap_or_default();
        let buckets = former.map(|former| Arc::clone(&former.buckets));
        Self {
            id: CheckpointId {
                run: run(control),
                revision: control.revision,
                op: visible.at.op,
                ticket: visible.at.ticket,
                generation: visible.generation,
            },
            visible,
            committed_ops: Arc::new(committed_ops),
            generation,
            changes: control.changes.clone(),
            outputs,
            buckets: buckets.unwrap_or_else(|| Arc::new(BucketReads::new(now))),
            empty_catalog: Arc::default(),
        }
    }

    /// Returns the checkpoint's identity.
    pub(crate) fn id(&self) -> CheckpointId {
        self.id
    }

    /// Returns whether this is a view of a control record's checkpoint.
    pub(super) fn is_of(&self, control: &Control) -> bool {
        self.id.revision == control.revision && self.id.run == run(control)
    }

    /// Returns whether a control record names the same checkpoint of the same run. Then the same versions
    /// are read there: a commit that leaves the checkpoint commits nothing up to it.
    fn is_at(&self, control: &Control, visible: &Visible) -> bool {
        self.id.run == run(control)
            && self.visible.at.op == visible.at.op
            && self.visible.generation == visible.generation
            && self.visible.truncated == visible.truncated
    }

    /// Returns whether catalogs that were read here may be older than `CATALOG_AGE_MAX`.
    pub(crate) fn has_old_catalogs(&self) -> bool {
        self.buckets.since.elapsed() >= CATALOG_AGE_MAX
    }

    /// Returns the same view without what was read of buckets.
    pub(super) fn without_catalogs(&self, now: Instant) -> Self {
        Self {
            visible: self.visible.clone(),
            committed_ops: Arc::clone(&self.committed_ops),
            generation: Arc::clone(&self.generation),
            changes: self.changes.clone(),
            outputs: Arc::clone(&self.outputs),
            buckets: Arc::new(BucketReads::new(now)),
            empty_catalog: Arc::clone(&self.empty_catalog),
            ..*self
        }
    }

    /// Returns heads and catalogs of buckets, in the order of the keys. A bucket that is not stored
    /// is empty.
    pub(crate) async fn buckets<S: BucketStore>(
        &self,
        storage: &S,
        keys: &[BucketKey],
    ) -> Result<Vec<BucketState>, CheckpointError> {
        let mut states = Vec::with_capacity(keys.len());
        for turn in keys.chunks(TURN_KEYS_MAX) {
            let read = self.buckets.states.get(turn, async |keys| {
                let items = storage.buckets(&keys).await?;
                items.iter().map(|item| self.bucket_state(item.as_ref())).collect()
            });
            states.extend(read.await.map_err(CheckpointError::Storage)?);
        }
        states.into_iter().collect::<Option<_>>().ok_or(CheckpointError::TooOld)
    }

    fn bucket_state(&self, item: Option<&BucketItem>) -> Result<Option<BucketState>, StorageError> {
        let Some(item) = item else {
            return Ok(Some(self.with_catalog(BucketHead::default(), &[])?));
        };
        let head = match item.head.read_at(self.id.op, &self.committed_ops) {
            ReadResult::Found(_, value) => BucketHead::decode(value)?,
            ReadResult::NotFound => BucketHead::default(),
            ReadResult::TooOld => return Ok(None),
        };
        let state = self.with_catalog(head, &item.catalog)?;

        // The builder may have worked at a later checkpoint. A base that contains operations after
        // this checkpoint cannot be served at it. Both op ids are the bucket's last one at a
        // checkpoint, and op ids only increase: the greater one belongs to the later checkpoint.
        //
        // A floor of a later time is harmless: it is never above the base, and so not above the head.
        // Clients below it get the base.
        let is_ahead = state.catalog.base.as_ref().is_some_and(|base| base.to > head.last);
        Ok((!is_ahead).then_some(state))
    }

    fn with_catalog(&self, head: BucketHead, stored: &[u8]) -> Result<BucketState, StorageError> {
        let catalog = if stored.is_empty() {
            Arc::clone(&self.empty_catalog)
        } else {
            Arc::new(Catalog::decode(stored)?)
        };
        Ok(BucketState { head, catalog })
    }

    /// Returns the outputs of all answers to each question, in the order of the questions.
    pub(super) async fn outputs<S: LookupStore>(
        &self,
        storage: &S,
        questions: &[Question],
    ) -> Result<Vec<Arc<[String]>>, CheckpointError> {
        let keys: Vec<_> =
            questions.iter().map(|question| self.generation.lookup(question)).collect();
        let mut outputs: Vec<Outputs> = Vec::with_capacity(keys.len());
        for turn in keys.chunks(TURN_KEYS_MAX) {
            let read = self.outputs.get(turn, async |keys| {
                let rows = storage.lookup_rows(&keys).await?;
                rows.iter().map(|rows| self.outputs_of(rows)).collect()
            });
            outputs.extend(read.await.map_err(CheckpointError::Storage)?);
        }
        outputs.into_iter().collect::<Option<_>>().ok_or(CheckpointError::TooOld)
    }

    /// Returns the name by which commits say that the answer to a question may have changed.
    pub(super) fn lookup_name(&self, question: &Question) -> ChangeName {
        ChangeName::of_lookup(&self.generation.lookup(question))
    }

    fn outputs_of(&self, rows: &[LookupRow]) -> Result<Outputs, StorageError> {
        let mut outputs = Vec::new();
        for row in rows {
            match row.record.read_at(self.id.op, &self.committed_ops) {
                ReadResult::Found(op, _) if self.is_truncated(&row.answer_name, op)? => {}
                ReadResult::Found(_, value) => outputs.push(output(value)?),
                ReadResult::NotFound => {}
                ReadResult::TooOld => return Ok(None),
            }
        }
        outputs.sort_unstable();
        outputs.dedup();
        Ok(Some(outputs.into()))
    }

    /// Returns whether the answer that was written at `op` counts as deleted, because its table was
    /// truncated later.
    fn is_truncated(&self, answer_name: &str, op: OpId) -> Result<bool, StorageError> {
        let Some(table) = table_of_answer(answer_name) else {
            let problem = format!("'{answer_name}' names no table");
            return Err(StorageError::Damaged("lookup", problem.into()));
        };
        Ok(self.visible.truncated.iter().any(|one| one.table == table && op < one.op))
    }
}

fn run(control: &Control) -> Run {
    let mut hasher = DefaultHasher::new();
    control.owner.0.hash(&mut hasher);
    Run { epoch: control.epoch, owner: hasher.finish() }
}

/// Decodes the value of a lookup record: the output of one answer.
fn output(value: &[u8]) -> Result<String, StorageError> {
    String::from_utf8(value.to_vec()).map_err(|error| StorageError::Damaged("lookup", error.into()))
}
