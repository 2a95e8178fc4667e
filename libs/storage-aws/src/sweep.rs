//! Deletion of generations that are no longer used.

use futures::stream::{self, StreamExt, TryStreamExt};
use tidewater_protocol::{Epoch, OpId};
use tidewater_storage::{BucketKey, GenerationId, ObjectStore, OpLog, StorageError, Sweep, Tag};

use crate::AwsStore;
use crate::attributes::SORT;
use crate::batch::BatchWrite;
use crate::dynamo::Query;
use crate::items;
use crate::keys::{self, Item, ItemKey, KeyPart, SHARDS};
use crate::op_log::keys_and_objects;
use crate::tables::Table;

/// Maximum number of partitions that one call empties at the same time. More would compete with the
/// worker's writes for the capacity of the tables.
const PARTITIONS_AT_ONCE: usize = 4;

impl<O: ObjectStore + 'static> Sweep for AwsStore<O> {
    async fn generations(&self) -> Result<Vec<GenerationId>, StorageError> {
        let partition = keys::generations_partition();
        let query =
            Query { attributes: Some(SORT.to_owned()), ..Query::all(Table::Control, partition) };
        self.dynamo().query_all(&query).await?.iter().map(generation_id).collect()
    }

    async fn delete_bucket(&self, bucket: &BucketKey) -> Result<(), StorageError> {
        self.delete_segments(bucket, OpId::MAX).await?;
        let rest = vec![
            BatchWrite::Delete(ItemKey::bucket(bucket)),
            BatchWrite::Delete(ItemKey::due(bucket)),
        ];
        self.dynamo().write_batch(rest).await?;
        let registration = BatchWrite::Delete(ItemKey::registered(bucket));
        self.dynamo().write_batch(vec![registration]).await
    }

    async fn delete_lookup(&self, tag: &Tag) -> Result<(), StorageError> {
        let partitions =
            (0..SHARDS).map(|shard| keys::lookups_partition(keys::tag_text(tag), shard));
        self.delete_partitions(Table::Lookups, partitions).await
    }

    async fn delete_generation(&self, id: GenerationId) -> Result<(), StorageError> {
        let partitions = (0..SHARDS).map(|shard| keys::source_rows_partition(id, shard));
        self.delete_partitions(Table::SourceRows, partitions).await?;
        self.delete_copy(id).await?;
        let record = BatchWrite::Delete(ItemKey::generation(id));
        self.dynamo().write_batch(vec![record]).await
    }
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    async fn delete_partitions(
        &self,
        table: Table,
        partitions: impl Iterator<Item = KeyPart>,
    ) -> Result<(), StorageError> {
        let queries: Vec<Query> = partitions
            .map(|partition| Query {
                attributes: Some(keys_and_objects(table)),
                ..Query::all(table, partition)
            })
            .collect();

        stream::iter(queries)
            .map(|query| async move { self.delete_queried(&query).await })
            .buffer_unordered(PARTITIONS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn delete_copy(&self, id: GenerationId) -> Result<(), StorageError> {
        let key = ItemKey::copy(id);
        let query = Query {
            attributes: Some(keys_and_objects(key.table)),
            ..Query::all(key.table, key.partition)
        };
        self.delete_queried(&query).await
    }
}

fn generation_id(item: &Item) -> Result<GenerationId, StorageError> {
    let epoch = items::parse_unsigned(item, SORT).and_then(Epoch::new);
    epoch.map(GenerationId).ok_or_else(|| items::damaged("generation", item))
}
