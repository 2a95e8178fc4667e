//! The check of tables, S3 bucket and rights before the ingest worker writes anything.

use aws_sdk_dynamodb::types::ReturnValue;
use bytes::Bytes;
use futures::future::try_join_all;
use tidewater_storage::{AccessProbe, ObjectStore, StorageError};

use crate::AwsStore;
use crate::attributes::PARTITION;
use crate::attributes::versioned_record::NEWEST_OP;
use crate::batch::BatchWrite;
use crate::dynamo::{Consistency, Dynamo, ItemWrite, Query, WriteAction};
use crate::items::{self, number};
use crate::keys::ItemKey;
use crate::tables::Table;

/// The object that each probe stores again, with the same content.
const OBJECT: &str = "probe";
const CONTENT: &[u8] = b"The ingest worker stores this to see whether it may.\n";

/// An object that is never stored. To delete it needs the same right as to delete another one.
const NEVER_STORED: &str = "never-stored";

impl<O: ObjectStore + 'static> AccessProbe for AwsStore<O> {
    /// Makes each kind of call that the worker makes, on each table for which it does. No item is stored:
    /// the calls name keys that do not exist. This takes 9 write units and 10.5 read units.
    async fn probe_access(&self) -> Result<(), StorageError> {
        let dynamo = self.dynamo();
        // Reads come first. They tell of a wrong prefix or region, which the cause names best.
        try_join_all(Table::ALL.map(|table| dynamo.probe_read(table))).await?;

        let batches = try_join_all(Table::ALL.map(|table| dynamo.probe_batch_read(table)));
        let queries = try_join_all(Table::ALL.map(|table| dynamo.probe_query(table)));
        let conditional = try_join_all(Table::ALL.map(|table| dynamo.probe_conditional(table)));
        let unconditional = try_join_all(Table::ALL.map(|table| dynamo.probe_batch(table)));
        let objects = async {
            self.objects().put_object(OBJECT, Bytes::from_static(CONTENT)).await?;
            self.objects().object_range(OBJECT, 0..u64::MAX).await?;
            self.objects().delete_object(NEVER_STORED).await
        };
        futures::try_join!(batches, queries, conditional, unconditional, objects)?;
        Ok(())
    }
}

impl Dynamo {
    async fn probe_read(&self, table: Table) -> Result<(), StorageError> {
        self.get(&ItemKey::never_stored(table), Consistency::Eventual, None).await.map(drop)
    }

    /// Reads in a batch, from the tables whose records the worker reads so.
    async fn probe_batch_read(&self, table: Table) -> Result<(), StorageError> {
        match table {
            Table::Buckets | Table::Lookups | Table::SourceRows | Table::Copies => {
                self.get_batch(vec![ItemKey::never_stored(table)]).await.map(drop)
            }
            Table::Control
            | Table::Segments
            | Table::Registry
            | Table::CompactionQueue
            | Table::WriteCheckpoints => Ok(()),
        }
    }

    /// Queries an empty partition, of the tables whose partitions the worker queries.
    async fn probe_query(&self, table: Table) -> Result<(), StorageError> {
        match table {
            Table::Control | Table::Segments | Table::Registry | Table::SourceRows => {
                let partition = ItemKey::never_stored(table).partition;
                let query = Query { read: Consistency::Eventual, ..Query::all(table, partition) };
                self.query(&query, None).await.map(drop)
            }
            Table::Buckets
            | Table::Lookups
            | Table::Copies
            | Table::CompactionQueue
            | Table::WriteCheckpoints => Ok(()),
        }
    }

    /// Makes a conditional write whose condition fails.
    async fn probe_conditional(&self, table: Table) -> Result<(), StorageError> {
        let key = ItemKey::never_stored(table);
        let (action, values) = match table {
            Table::Control => (WriteAction::Put(items::item(&key, [])), vec![]),
            Table::Buckets | Table::Lookups | Table::SourceRows | Table::Copies => {
                let update = format!("SET {NEWEST_OP} = :newest");
                (WriteAction::Update(update, ReturnValue::None), vec![(":newest", number(0))])
            }
            Table::Segments
            | Table::Registry
            | Table::CompactionQueue
            | Table::WriteCheckpoints => return Ok(()),
        };
        let condition = Some(format!("attribute_exists({PARTITION})"));
        self.write(ItemWrite { key, action, condition, values }).await.map(drop)
    }

    /// Deletes an item that does not exist. For a batch, deletions need the same right as other writes.
    async fn probe_batch(&self, table: Table) -> Result<(), StorageError> {
        match table {
            Table::Control | Table::Segments | Table::Registry | Table::CompactionQueue => {
                let delete = BatchWrite::Delete(ItemKey::never_stored(table));
                self.write_batch(vec![delete]).await
            }
            Table::Buckets
            | Table::Lookups
            | Table::SourceRows
            | Table::Copies
            | Table::WriteCheckpoints => Ok(()),
        }
    }
}
