//! The queue of compaction tasks.

use aws_sdk_dynamodb::types::ReturnValue;
use tidewater_storage::{CompactionQueue, CompactionTask, ObjectStore, StorageError};

use crate::AwsStore;
use crate::batch::BatchWrite;
use crate::dynamo::{ItemWrite, Query, Values, WriteAction, WriteOutcome};
use crate::items::{self, AT, NOT_BEFORE, number};
use crate::keys::{self, ItemKey, LIST_SHARDS};
use crate::tables::Table;

impl<O: ObjectStore + 'static> CompactionQueue for AwsStore<O> {
    async fn due_tasks(&self, now: u64, limit: usize) -> Result<Vec<CompactionTask>, StorageError> {
        let mut tasks = Vec::new();

        // Each call starts at a random shard: tasks that keep failing must not starve the others.
        let first = rand::random::<u8>() % LIST_SHARDS;
        for shard in (first..LIST_SHARDS).chain(0..first) {
            let partition = keys::work_list_partition(shard);
            let filter = Some(("n <= :n", vec![(":n", number(now))]));
            let query = Query { filter, ..Query::all(Table::CompactionQueue, partition) };

            let mut from = None;
            loop {
                let page = self.dynamo().query(&query, from).await?;
                for item in &page.items {
                    if tasks.len() == limit {
                        return Ok(tasks);
                    }
                    tasks.push(items::read_compaction_task(item)?);
                }
                match page.next {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
        }
        Ok(tasks)
    }

    async fn complete(&self, task: &CompactionTask) -> Result<bool, StorageError> {
        let values = vec![(":a", number(task.triggered_by.get()))];
        self.update_task(task, WriteAction::Delete, values).await
    }

    async fn defer(&self, task: &CompactionTask, not_before: u64) -> Result<bool, StorageError> {
        let values = vec![(":a", number(task.triggered_by.get())), (":n", number(not_before))];
        let action = WriteAction::Update("SET n = :n", ReturnValue::None);
        self.update_task(task, action, values).await
    }
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    /// Changes a queued task if no later write has replaced it; returns whether it did.
    async fn update_task(
        &self,
        task: &CompactionTask,
        action: WriteAction,
        values: Values,
    ) -> Result<bool, StorageError> {
        let key = ItemKey::due(&task.bucket);
        let write = ItemWrite { key, action, condition: Some("a = :a"), values };
        Ok(matches!(self.dynamo().write(write).await?, WriteOutcome::Written(_)))
    }
}

/// Returns the write that queues a task.
pub(crate) fn entry(task: &CompactionTask) -> BatchWrite {
    let full_key = keys::full_key_if_truncated(task.bucket.as_str());
    let rest = [(AT, number(task.triggered_by.get())), (NOT_BEFORE, number(task.not_before))];
    BatchWrite::Put(
        Table::CompactionQueue,
        items::listed(&ItemKey::due(&task.bucket), full_key, rest),
    )
}
