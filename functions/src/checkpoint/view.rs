//! The store as it is at one visible checkpoint.
//!
//! What is true at a checkpoint never changes, so all streams of a process share what one of them
//! has read there.

use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::{Epoch, OpId};
use tidewater_storage::{
    BucketHead, BucketItem, BucketKey, Catalog, ClosedEpoch, CommittedOps, Control, LookupKey,
    LookupRow, ReadResult, Storage, StorageError, Visible, table_of_answer,
};
use tidewater_sync_config::Question;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::batching_cache::BatchingCache;
use super::error::CheckpointError;
use super::generation::{CompiledGeneration, GenerationCache};

/// A view is taken anew after this, though its checkpoint still be the newest: while no checkpoint
/// comes, the builder may publish what new clients are better served from.
const AGE_MAX: Duration = Duration::from_secs(5);

/// Outputs of one question; `None` when the checkpoint is too old to know.
type Answer = Option<Arc<[String]>>;

/// A bucket at a checkpoint.
#[derive(Clone)]
pub(crate) struct BucketContent {
    pub(crate) head: BucketHead,
    pub(crate) catalog: Arc<Catalog>,
}

/// The store at one visible checkpoint.
pub(crate) struct CheckpointView {
    /// Revision of the control record that it was taken from.
    pub(crate) revision: u64,
    pub(crate) visible: Visible,
    /// Which op ids count.
    pub(crate) committed_ops: Arc<CommittedOps>,
    pub(crate) generation: Arc<CompiledGeneration>,
    answers: BatchingCache<LookupKey, Answer>,
    /// `None` when the checkpoint is too old to know.
    contents: BatchingCache<BucketKey, Option<BucketContent>>,
    taken_at: Instant,
    /// Most buckets have an empty one.
    no_catalog: Arc<Catalog>,
}

impl CheckpointView {
    /// Heads and catalogs of buckets, in the order of the keys; of one that is not stored, the
    /// empty ones.
    pub(crate) async fn contents<S: Storage>(
        &self,
        storage: &S,
        keys: &[BucketKey],
    ) -> Result<Vec<BucketContent>, CheckpointError> {
        let read = |keys: Vec<BucketKey>| async move {
            let items = storage.buckets(&keys).await?;
            items.iter().map(|item| self.content(item.as_ref())).collect()
        };
        let contents: Vec<_> =
            self.contents.get(keys, read).await.map_err(CheckpointError::Storage)?;
        contents.into_iter().collect::<Option<_>>().ok_or(CheckpointError::TooOld)
    }

    fn content(&self, item: Option<&BucketItem>) -> Result<Option<BucketContent>, StorageError> {
        let Some(item) = item else {
            return Ok(Some(self.with_catalog(BucketHead::default(), &[])?));
        };
        let head = match item.head.read_at(self.visible.at.op, &self.committed_ops) {
            ReadResult::Found(_, value) => BucketHead::decode(value)?,
            ReadResult::NotFound => BucketHead::default(),
            ReadResult::TooOld => return Ok(None),
        };
        let content = self.with_catalog(head, &item.catalog)?;
        // The builder was at a later checkpoint: what it published cannot be served at this one.
        let ahead = content.catalog.base.as_ref().is_some_and(|base| base.to > head.last);
        Ok((!ahead).then_some(content))
    }

    fn with_catalog(&self, head: BucketHead, stored: &[u8]) -> Result<BucketContent, StorageError> {
        let catalog = if stored.is_empty() {
            Arc::clone(&self.no_catalog)
        } else {
            Arc::new(Catalog::decode(stored)?)
        };
        Ok(BucketContent { head, catalog })
    }

    /// The outputs that answer each question.
    pub(crate) async fn answers<S: Storage>(
        &self,
        storage: &S,
        questions: &[Question],
    ) -> Result<Vec<Arc<[String]>>, CheckpointError> {
        let keys: Vec<_> = questions.iter().map(|q| self.generation.lookup(q)).collect();
        let read = |keys: Vec<LookupKey>| async move {
            let rows = storage.lookup_rows(&keys).await?;
            rows.iter().map(|rows| self.outputs(rows)).collect()
        };
        let answers: Vec<Answer> =
            self.answers.get(&keys, read).await.map_err(CheckpointError::Storage)?;
        answers.into_iter().collect::<Option<_>>().ok_or(CheckpointError::TooOld)
    }

    fn outputs(&self, rows: &[LookupRow]) -> Result<Answer, StorageError> {
        let mut outputs = Vec::new();
        for row in rows {
            match row.record.read_at(self.visible.at.op, &self.committed_ops) {
                ReadResult::Found(op, _) if self.is_truncated(&row.source, op)? => {}
                ReadResult::Found(_, value) => outputs.push(text(value)?),
                ReadResult::NotFound => {}
                ReadResult::TooOld => return Ok(None),
            }
        }
        outputs.sort_unstable();
        outputs.dedup();
        Ok(Some(outputs.into()))
    }

    /// Whether an answer that was given by this operation is gone, since its row's table was
    /// truncated afterwards.
    fn is_truncated(&self, answer: &str, op: OpId) -> Result<bool, StorageError> {
        let unnamed =
            || StorageError::Damaged("lookup", format!("'{answer}' names no table").into());
        let table = table_of_answer(answer).ok_or_else(unnamed)?;
        Ok(self.visible.truncated.iter().any(|one| one.table == table && op < one.op))
    }
}

/// The value of a lookup record: one output.
fn text(value: &[u8]) -> Result<String, StorageError> {
    String::from_utf8(value.to_vec()).map_err(|error| StorageError::Damaged("lookup", error.into()))
}

/// The views of one process.
pub(crate) struct ViewCache<S> {
    storage: S,
    generations: GenerationCache,
    current: Mutex<CachedView>,
}

#[derive(Default)]
struct CachedView {
    view: Option<Arc<CheckpointView>>,
    /// The archive as it was when this epoch was at work.
    archived: Option<(Epoch, Vec<ClosedEpoch>)>,
}

impl<S: Storage> ViewCache<S> {
    pub(crate) fn new(storage: S) -> Self {
        Self { storage, generations: GenerationCache::default(), current: Mutex::default() }
    }

    /// The newest view there is.
    ///
    /// # Errors
    /// `NotReady` while nothing is visible.
    pub(crate) async fn latest(&self) -> Result<Arc<CheckpointView>, CheckpointError> {
        let control = self.storage.control().await?;
        self.shared(control).await
    }

    /// The newest view there is, read anew: what was read at this checkpoint before is forgotten.
    /// Catalogs change while checkpoints stay.
    ///
    /// # Errors
    /// `NotReady` while nothing is visible.
    pub(crate) async fn renewed(&self) -> Result<Arc<CheckpointView>, CheckpointError> {
        let control = self.storage.control().await?;
        let mut current = self.current.lock().await;
        current.view = None;
        self.replace(&mut current, control).await
    }

    /// A view of a later revision than `seen` if there is one; not always the newest.
    pub(crate) async fn after(&self, seen: u64) -> Result<Arc<CheckpointView>, CheckpointError> {
        let mut current = self.current.lock().await;
        if let Some(view) = &current.view
            && view.revision > seen
        {
            return Ok(Arc::clone(view));
        }
        // Read under the lock: those who were woken together wait for one read.
        let control = self.storage.control().await?;
        self.replace(&mut current, control).await
    }

    async fn shared(
        &self,
        control: Option<Control>,
    ) -> Result<Arc<CheckpointView>, CheckpointError> {
        let mut current = self.current.lock().await;
        self.replace(&mut current, control).await
    }

    async fn replace(
        &self,
        current: &mut CachedView,
        control: Option<Control>,
    ) -> Result<Arc<CheckpointView>, CheckpointError> {
        let control = control.ok_or(CheckpointError::NotReady)?;
        if let Some(view) = &current.view
            && view.revision >= control.revision
            && view.taken_at.elapsed() < AGE_MAX
        {
            return Ok(Arc::clone(view));
        }
        let visible = control.visible.clone().ok_or(CheckpointError::NotReady)?;
        let generation = self.generations.get(&self.storage, visible.generation).await?;
        // Epochs are archived before the record drops them, and the record was read first.
        if current.archived.as_ref().is_none_or(|(epoch, _)| *epoch != control.epoch) {
            current.archived = Some((control.epoch, self.storage.archived_epochs().await?));
        }
        let archived = current.archived.as_ref().map_or(&[][..], |(_, archived)| archived);
        let view = Arc::new(CheckpointView {
            revision: control.revision,
            committed_ops: Arc::new(control.committed_ops(archived)),
            visible,
            generation,
            answers: BatchingCache::new(),
            contents: BatchingCache::new(),
            taken_at: Instant::now(),
            no_catalog: Arc::default(),
        });
        current.view = Some(Arc::clone(&view));
        Ok(view)
    }
}

#[cfg(test)]
mod tests;
