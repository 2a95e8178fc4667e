//! The queue of compaction tasks.

use aws_sdk_dynamodb::types::ReturnValue;
use tidewater_storage::{CompactionQueue, CompactionTask, ObjectStore, StorageError};

use crate::AwsStore;
use crate::attributes::compaction_task::{NOT_BEFORE, TRIGGERED_BY};
use crate::batch::BatchWrite;
use crate::dynamo::{Consistency, ItemWrite, Query, WriteAction, WriteOutcome};
use crate::items::{self, Values, number};
use crate::keys::{self, ItemKey, LIST_SHARDS};
use crate::tables::Table;

impl<O: ObjectStore + 'static> CompactionQueue for AwsStore<O> {
    async fn due_tasks(&self, now: u64, limit: usize) -> Result<Vec<CompactionTask>, StorageError> {
        let mut tasks = Vec::new();

        // Each call starts at a random shard: tasks that keep failing must not starve the others.
        let first = rand::random::<u8>() % LIST_SHARDS;
        for shard in (first..LIST_SHARDS).chain(0..first) {
            let partition = keys::work_list_partition(shard);
            let filter = Some((format!("{NOT_BEFORE} <= :now"), vec![(":now", number(now))]));
            // A task that is missed is found by the next pass, and one that is done already is found to be
            // so. An idle builder reads all shards each minute.
            let read = Consistency::Eventual;
            let query = Query { filter, read, ..Query::all(Table::CompactionQueue, partition) };

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
        self.update_task(task, WriteAction::Delete, vec![]).await
    }

    async fn defer(&self, task: &CompactionTask, not_before: u64) -> Result<bool, StorageError> {
        let update = format!("SET {NOT_BEFORE} = :not_before");
        let action = WriteAction::Update(update, ReturnValue::None);
        self.update_task(task, action, vec![(":not_before", number(not_before))]).await
    }
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    /// Changes a queued task unless a later write has replaced it. Returns whether it was changed.
    async fn update_task(
        &self,
        task: &CompactionTask,
        action: WriteAction,
        mut values: Values,
    ) -> Result<bool, StorageError> {
        values.push((":triggered_by", number(task.triggered_by.get())));
        let write = ItemWrite {
            key: ItemKey::due(&task.bucket),
            action,
            condition: Some(format!("{TRIGGERED_BY} = :triggered_by")),
            values,
        };
        Ok(matches!(self.dynamo().write(write).await?, WriteOutcome::Written(_)))
    }
}

/// Returns the write that queues a task.
pub(crate) fn entry(task: &CompactionTask) -> BatchWrite {
    BatchWrite::Put(Table::CompactionQueue, items::compaction_task(task))
}
