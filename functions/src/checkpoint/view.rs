//! The store as it is at one visible checkpoint.

use std::sync::Arc;

use tidewater_protocol::OpId;
use tidewater_storage::{
    BucketHead, BucketItem, BucketKey, BucketStore, Catalog, CommittedOps, Control, GenerationId,
    LookupKey, LookupRow, LookupStore, ReadResult, StorageError, Ticket, Visible, table_of_answer,
};
use tidewater_sync_config::Question;
use tokio::time::Instant;

use super::batching_cache::BatchingCache;
use super::error::CheckpointError;
use super::generation::CompiledGeneration;

/// The outputs of one question; `None` if the checkpoint is too old to be read.
type Answer = Option<Arc<[String]>>;

/// The content of a bucket at a checkpoint.
#[derive(Clone)]
pub(crate) struct BucketContent {
    pub(crate) head: BucketHead,
    pub(crate) catalog: Arc<Catalog>,
}

/// The identity of a visible checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointId {
    /// Revision of the control record that it was read from.
    pub(crate) revision: u64,
    /// The checkpoint's op id.
    pub(crate) op: OpId,
    /// The last write-checkpoint ticket that it covers.
    pub(crate) ticket: Ticket,
    /// The generation whose buckets are visible.
    pub(crate) generation: GenerationId,
}

/// The store at one visible checkpoint.
///
/// The content of a checkpoint never changes. So all streams of a process share what one of them
/// has read there.
pub(crate) struct CheckpointView {
    id: CheckpointId,
    visible: Visible,
    /// Operations that are committed at the checkpoint.
    pub(crate) committed_ops: Arc<CommittedOps>,
    pub(crate) generation: Arc<CompiledGeneration>,
    answers: BatchingCache<LookupKey, Answer>,
    /// Contents of buckets; `None` if the checkpoint is too old to be read.
    contents: BatchingCache<BucketKey, Option<BucketContent>>,
    taken_at: Instant,
    /// The catalog of the many buckets that have none, shared.
    empty_catalog: Arc<Catalog>,
}

impl CheckpointView {
    /// Creates the view of a control record's visible checkpoint. Nothing is read yet.
    pub(super) fn new(
        control: &Control,
        visible: Visible,
        committed_ops: CommittedOps,
        generation: Arc<CompiledGeneration>,
        now: Instant,
    ) -> Self {
        Self {
            id: CheckpointId {
                revision: control.revision,
                op: visible.at.op,
                ticket: visible.at.ticket,
                generation: visible.generation,
            },
            visible,
            committed_ops: Arc::new(committed_ops),
            generation,
            answers: BatchingCache::new(),
            contents: BatchingCache::new(),
            taken_at: now,
            empty_catalog: Arc::default(),
        }
    }

    /// Returns the checkpoint's identity.
    pub(crate) fn id(&self) -> CheckpointId {
        self.id
    }

    /// Returns when the view was taken.
    pub(super) fn taken_at(&self) -> Instant {
        self.taken_at
    }

    /// Returns heads and catalogs of buckets, in the order of the keys. A bucket that is not stored
    /// is empty.
    pub(super) async fn contents<S: BucketStore>(
        &self,
        storage: &S,
        keys: &[BucketKey],
    ) -> Result<Vec<BucketContent>, CheckpointError> {
        let contents = self.contents.get(keys, async |keys| {
            let items = storage.buckets(&keys).await?;
            items.iter().map(|item| self.content(item.as_ref())).collect()
        });
        let contents: Vec<_> = contents.await.map_err(CheckpointError::Storage)?;
        contents.into_iter().collect::<Option<_>>().ok_or(CheckpointError::TooOld)
    }

    fn content(&self, item: Option<&BucketItem>) -> Result<Option<BucketContent>, StorageError> {
        let Some(item) = item else {
            return Ok(Some(self.with_catalog(BucketHead::default(), &[])?));
        };
        let head = match item.head.read_at(self.id.op, &self.committed_ops) {
            ReadResult::Found(_, value) => BucketHead::decode(value)?,
            ReadResult::NotFound => BucketHead::default(),
            ReadResult::TooOld => return Ok(None),
        };
        let content = self.with_catalog(head, &item.catalog)?;

        // The builder may have worked at a later checkpoint. A base that contains operations beyond
        // this checkpoint cannot be served at it.
        let is_ahead = content.catalog.base.as_ref().is_some_and(|base| base.to > head.last);
        Ok((!is_ahead).then_some(content))
    }

    fn with_catalog(&self, head: BucketHead, stored: &[u8]) -> Result<BucketContent, StorageError> {
        let catalog = if stored.is_empty() {
            Arc::clone(&self.empty_catalog)
        } else {
            Arc::new(Catalog::decode(stored)?)
        };
        Ok(BucketContent { head, catalog })
    }

    /// Returns the outputs that answer each question.
    pub(super) async fn answers<S: LookupStore>(
        &self,
        storage: &S,
        questions: &[Question],
    ) -> Result<Vec<Arc<[String]>>, CheckpointError> {
        let keys: Vec<_> =
            questions.iter().map(|question| self.generation.lookup(question)).collect();
        let answers = self.answers.get(&keys, async |keys| {
            let rows = storage.lookup_rows(&keys).await?;
            rows.iter().map(|rows| self.outputs(rows)).collect()
        });
        let answers: Vec<Answer> = answers.await.map_err(CheckpointError::Storage)?;
        answers.into_iter().collect::<Option<_>>().ok_or(CheckpointError::TooOld)
    }

    fn outputs(&self, rows: &[LookupRow]) -> Result<Answer, StorageError> {
        let mut outputs = Vec::new();
        for row in rows {
            match row.record.read_at(self.id.op, &self.committed_ops) {
                ReadResult::Found(op, _) if self.is_truncated(&row.source, op)? => {}
                ReadResult::Found(_, value) => outputs.push(output(value)?),
                ReadResult::NotFound => {}
                ReadResult::TooOld => return Ok(None),
            }
        }
        outputs.sort_unstable();
        outputs.dedup();
        Ok(Some(outputs.into()))
    }

    /// Returns whether a truncation has removed the answer that `op` wrote: its row's table was
    /// truncated later.
    fn is_truncated(&self, answer: &str, op: OpId) -> Result<bool, StorageError> {
        let Some(table) = table_of_answer(answer) else {
            let problem = format!("'{answer}' names no table");
            return Err(StorageError::Damaged("lookup", problem.into()));
        };
        Ok(self.visible.truncated.iter().any(|one| one.table == table && op < one.op))
    }
}

/// Reads the value of a lookup record: one output.
fn output(value: &[u8]) -> Result<String, StorageError> {
    String::from_utf8(value.to_vec()).map_err(|error| StorageError::Damaged("lookup", error.into()))
}
