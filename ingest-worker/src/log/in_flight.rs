//! A batch on its way into the store, and the commit that may follow it.

use std::sync::Arc;
use std::time::Duration;

use tidewater_storage::{Batch, Control, RecordConflict, Storage, StorageError, SwapOutcome};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

/// Storage calls are repeated this often before the run ends.
const STORAGE_ATTEMPTS: u32 = 6;

/// The write of the control record that makes a unit count.
#[derive(Debug)]
pub(crate) struct Commit {
    /// Revision of the record that it replaces.
    pub(crate) expected: u64,
    pub(crate) next: Control,
}

/// How a batch ended.
#[derive(Debug)]
pub(crate) struct WriteResult {
    pub(crate) batch: Arc<Batch>,
    pub(crate) commit: Option<Commit>,
    /// Record writes that did not happen. The commit was not tried then.
    pub(crate) refused: Vec<RecordConflict>,
    pub(crate) swap: Option<SwapOutcome>,
}

/// A batch that is being stored by a task of its own, which ends with this.
#[derive(Debug)]
pub(crate) struct InFlightWrite {
    commit: Option<Control>,
    task: AbortOnDropHandle<Result<WriteResult, StorageError>>,
    result: Option<Result<WriteResult, StorageError>>,
}

impl Commit {
    pub(crate) async fn swap<S: Storage>(&self, storage: &S) -> Result<SwapOutcome, StorageError> {
        storage.swap_control(Some(self.expected), &self.next).await
    }
}

impl InFlightWrite {
    /// Everything of the batch first, then the commit: nothing may count before it is stored.
    pub(crate) fn start<S: Storage>(storage: &S, batch: Batch, commit: Option<Commit>) -> Self {
        let next = commit.as_ref().map(|commit| commit.next.clone());
        let storage = storage.clone();
        let task = tokio::spawn(async move {
            let batch = Arc::new(batch);
            let mut result = WriteResult { batch, commit, refused: Vec::new(), swap: None };
            if !result.batch.is_empty() {
                result.refused = retried(|| storage.write(Arc::clone(&result.batch))).await?;
            }
            if let Some(commit) = &result.commit
                && result.refused.is_empty()
            {
                result.swap = Some(retried(|| commit.swap(&storage)).await?);
            }
            Ok(result)
        });
        Self { commit: next, task: AbortOnDropHandle::new(task), result: None }
    }

    /// The control record as it will be.
    pub(crate) fn commit(&self) -> Option<&Control> {
        self.commit.as_ref()
    }

    /// Waits for the task. May be broken off.
    pub(crate) async fn wait(&mut self) {
        if self.result.is_none() {
            self.result = Some((&mut self.task).await.unwrap_or_else(broken));
        }
    }

    /// How it ended.
    ///
    /// # Panics
    /// When it was not waited for.
    pub(crate) fn result(self) -> Result<WriteResult, StorageError> {
        self.result.expect("it has result")
    }
}

fn broken<T>(error: JoinError) -> Result<T, StorageError> {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The runtime is shutting down.
        Err(cancelled) => Err(StorageError::Unavailable(cancelled.into())),
    }
}

/// Repeats a storage call while storage is unavailable. Every call of the ports may be repeated.
pub(crate) async fn retried<T, F, Fut>(call: F) -> Result<T, StorageError>
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
