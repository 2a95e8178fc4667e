//! A batch on its way into the store, and the commit that may follow it.
//!
//! [`store_and_commit`] is the writing half of the commit protocol, from the first step to the last.
//! It runs in a task of its own, so that the next unit can be assembled meanwhile.

use std::sync::Arc;

use tidewater_protocol::OpId;
use tidewater_storage::{
    Batch, CommittedOps, Control, ControlStore, RecordConflict, RecordKey, RecordStore,
    RecordWrite, StorageError, SwapOutcome, Version, VersionedRecord, WriteContext,
};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::log::error::WriteError;
use crate::log::retry::retry;
use crate::metrics;

/// Attempts to write a record that the store refuses. A record that expired, or an uncommitted version
/// of an earlier run, explains one refusal each; a third one means that somebody else writes it.
const RECORD_ATTEMPTS_MAX: usize = 3;

/// The write of the control record that commits a unit.
#[derive(Debug)]
pub(crate) struct ControlSwap {
    /// Revision of the record that it replaces.
    pub(crate) expected_revision: u64,
    pub(crate) next: Control,
}

/// The facts that decide which versions of a record are still needed. They do not change while a
/// batch is in flight: only its end advances them.
#[derive(Clone, Debug)]
pub(crate) struct RetentionContext {
    pub(crate) committed_ops: Arc<CommittedOps>,
    /// The checkpoint that readers take now.
    pub(crate) visible: Option<OpId>,
    /// Checkpoints at which readers may still be working.
    pub(crate) recent: Vec<OpId>,
}

impl RetentionContext {
    /// Returns the record of this key after `version` is written over what is stored.
    pub(crate) fn with_version(
        &self,
        key: &RecordKey,
        stored: Option<&VersionedRecord>,
        version: Version,
    ) -> VersionedRecord {
        // Only a worker reads the others, and only at what is committed.
        let (visible, recent) = match key {
            RecordKey::Bucket(_) | RecordKey::Lookup(..) => (self.visible, &self.recent[..]),
            RecordKey::SourceRow(..) | RecordKey::Copy(_) => (None, &[][..]),
        };
        let context = WriteContext { committed_ops: &self.committed_ops, visible, recent };
        VersionedRecord::with_version(stored, version, &context)
    }
}

/// The result of a batch that was stored.
#[derive(Debug)]
pub(crate) struct WriteResult {
    /// Records that were written otherwise than the batch says, over what was found in the store.
    pub(crate) rebuilt: Vec<RecordWrite>,
    /// The control record, if the batch was committed.
    pub(crate) committed: Option<Control>,
}

/// A batch that a task of its own stores. Dropping it aborts the task.
#[derive(Debug)]
pub(crate) struct InFlightWrite {
    next_control: Option<Control>,
    task: AbortOnDropHandle<Result<WriteResult, WriteError>>,
    result: Option<Result<WriteResult, WriteError>>,
}

impl InFlightWrite {
    /// Starts to store a batch, and then to commit it if `swap` is given.
    pub(crate) fn start<S: ControlStore + RecordStore + 'static>(
        storage: S,
        batch: Batch,
        swap: Option<ControlSwap>,
        retention: RetentionContext,
    ) -> Self {
        let next_control = swap.as_ref().map(|swap| swap.next.clone());
        let span = tracing::debug_span!(
            "store_batch",
            segments = batch.segments.len(),
            records = batch.records.len(),
            commits_up_to = next_control.as_ref().map(|next| next.committed.op.get()),
        );

        let store = async move { store_and_commit(&storage, batch, swap, &retention).await };
        let task = AbortOnDropHandle::new(tokio::spawn(store.instrument(span)));
        Self { next_control, task, result: None }
    }

    /// Returns the control record as it will be, if the batch is to be committed.
    pub(crate) fn next_control(&self) -> Option<&Control> {
        self.next_control.as_ref()
    }

    /// Waits for the task. It may be cancelled and called again.
    pub(crate) async fn wait(&mut self) {
        if self.result.is_none() {
            self.result = Some((&mut self.task).await.unwrap_or_else(resume_panic));
        }
    }

    /// Returns the result of the task.
    ///
    /// # Panics
    /// When the task was not waited for.
    pub(crate) fn into_result(self) -> Result<WriteResult, WriteError> {
        self.result.expect("the caller has waited for the task")
    }
}

/// Stores a batch, and then commits it if `swap` is given.
async fn store_and_commit<S: ControlStore + RecordStore>(
    storage: &S,
    batch: Batch,
    swap: Option<ControlSwap>,
    retention: &RetentionContext,
) -> Result<WriteResult, WriteError> {
    // 1. Store everything, in any order. Nothing of it is committed yet: a crash from here to step 3
    //    leaves uncommitted versions, which readers skip and later writers drop.
    let batch = Arc::new(batch);
    let conflicts = store(storage, &batch).await?;

    // 2. Rebuild the records that were not as this run knew them. This also ends a run that was
    //    overtaken, if the other one has written the same record.
    let rebuilt = resolve_conflicts(storage, &batch.records, conflicts, retention).await?;

    // 3. Commit, by one conditional write. Everything that it makes visible is stored by now.
    let committed = match swap {
        Some(swap) => Some(swap_control(storage, swap).await?),
        None => None,
    };
    Ok(WriteResult { rebuilt, committed })
}

async fn store<S: RecordStore>(
    storage: &S,
    batch: &Arc<Batch>,
) -> Result<Vec<RecordConflict>, StorageError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let conflicts = retry(|| storage.write(Arc::clone(batch))).await?;

    let operations = batch.segments.iter().map(|segment| segment.count).sum();
    let bytes = batch.segments.iter().map(|segment| segment.payload.len()).sum();
    metrics::record_batch(operations, bytes);
    tracing::debug!(operations, bytes, conflicts = conflicts.len(), "stored a batch");
    Ok(conflicts)
}

/// Writes the records again that the store refused, built over what it has, until it takes them all.
/// Returns the last write of each.
async fn resolve_conflicts<S: RecordStore>(
    storage: &S,
    writes: &[RecordWrite],
    mut conflicts: Vec<RecordConflict>,
    retention: &RetentionContext,
) -> Result<Vec<RecordWrite>, WriteError> {
    let mut rebuilt: Vec<RecordWrite> = Vec::new();
    for _ in 1..RECORD_ATTEMPTS_MAX {
        if conflicts.is_empty() {
            return Ok(rebuilt);
        }
        metrics::count_record_conflicts(conflicts.len());
        tracing::debug!(records = conflicts.len(), "records have changed, writing them again");

        let mut batch = Batch::default();
        for conflict in conflicts {
            let write = writes.iter().find(|write| write.key == conflict.key);
            let version = write.and_then(|write| write.record.versions.first());
            let version = version.ok_or(WriteError::Contended)?.clone();
            batch.records.push(rebuild(conflict, version, retention)?);
        }
        let batch = Arc::new(batch);
        conflicts = retry(|| storage.write(Arc::clone(&batch))).await?;
        for write in &batch.records {
            rebuilt.retain(|former| former.key != write.key);
            rebuilt.push(write.clone());
        }
    }
    if conflicts.is_empty() { Ok(rebuilt) } else { Err(WriteError::Contended) }
}

/// Builds the write of a version over the record that the store has.
fn rebuild(
    conflict: RecordConflict,
    version: Version,
    retention: &RetentionContext,
) -> Result<RecordWrite, WriteError> {
    let RecordConflict { key, stored } = conflict;
    let newest = stored.as_ref().map(VersionedRecord::newest_op);
    if let Some(record) = &stored {
        // The condition of the write alone does not protect from a successor: a run that was paused
        // may *read* a record that its successor wrote, and then write over it.
        if record.has_newer_epoch(&retention.committed_ops) {
            return Err(WriteError::Fenced);
        }

        // This run knows all that it has written itself. Its own version, unless it is this very one
        // whose reply was lost, can only come from somebody who uses its epoch.
        let is_ours = retention.committed_ops.is_from_current_epoch(record.newest_op());
        if is_ours && record.newest_op() != version.op {
            return Err(WriteError::Contended);
        }
    }

    let record = Arc::new(retention.with_version(&key, stored.as_ref(), version));
    Ok(RecordWrite { key, expected_newest: newest, record })
}

/// Replaces the control record, which commits everything up to its op id.
async fn swap_control<S: ControlStore>(
    storage: &S,
    swap: ControlSwap,
) -> Result<Control, WriteError> {
    let ControlSwap { expected_revision, next } = swap;

    // A repeated call is safe: finding exactly `next` stored counts as done.
    match retry(|| storage.swap_control(Some(expected_revision), &next)).await? {
        SwapOutcome::Swapped => {
            let committed = next.committed;
            tracing::debug!(op = committed.op.get(), lsn = committed.lsn.0, "committed");
            Ok(next)
        }
        SwapOutcome::Conflict(_) => {
            tracing::debug!(op = next.committed.op.get(), "the control record has another owner");
            Err(WriteError::Fenced)
        }
    }
}

fn resume_panic<T>(error: JoinError) -> Result<T, WriteError> {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The runtime is shutting down.
        Err(cancelled) => Err(StorageError::Unavailable(cancelled.into()).into()),
    }
}

#[cfg(test)]
mod tests;
