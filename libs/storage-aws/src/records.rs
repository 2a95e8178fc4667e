//! Versioned records, and the batch of one flush.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use futures::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tidewater_storage::{
    Batch, GenerationId, ObjectStore, RecordConflict, RecordKey, RecordStore, RecordWrite,
    SourceRowPage, StorageError, VersionedRecord,
};

use crate::AwsStore;
use crate::attributes::OBJECT;
use crate::attributes::listed::FULL_TEXT;
use crate::attributes::versioned_record::{NEWEST_OP, RECORD};
use crate::dynamo::{Consistency, ItemWrite, WriteAction, WriteOutcome};
use crate::items::{self, PayloadLocation, binary, number};
use crate::keys::{self, Item, ItemKey};

/// Length in bytes above which a record is stored as an object. An item may have 400 KiB, and an
/// encoded record shares it with its key of up to 3 KB and, in a bucket, with the catalog.
const INLINE_BYTES_MAX: usize = 300_000;

/// Maximum number of conditional writes in flight for one batch. Each is a call of its own, because
/// a batch write of DynamoDB knows no conditions.
const WRITES_AT_ONCE: usize = 64;

/// Maximum number of objects that one call reads at the same time.
const OBJECTS_AT_ONCE: usize = 16;

/// Maximum number of reads of an item whose object was deleted because the item was replaced. Each
/// repetition needs another replacement in between, so even two are rare.
const REREADS_MAX: usize = 5;

impl<O: ObjectStore + 'static> RecordStore for AwsStore<O> {
    async fn records(
        &self,
        keys: &[RecordKey],
    ) -> Result<Vec<Option<VersionedRecord>>, StorageError> {
        let keys: Vec<_> = keys.iter().map(ItemKey::record).collect();
        let mut items = self.dynamo().get_batch(keys.clone()).await?;

        let records: HashMap<ItemKey, Option<VersionedRecord>> = stream::iter(items.drain())
            .map(|(key, item)| async {
                let record = self.versioned_record(&key, item).await?;
                Ok::<_, StorageError>((key, record))
            })
            .buffer_unordered(OBJECTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(keys.iter().map(|key| records.get(key).cloned().flatten()).collect())
    }

    async fn source_rows(
        &self,
        generation: GenerationId,
        table: u16,
        after: Option<&str>,
        limit: usize,
    ) -> Result<SourceRowPage, StorageError> {
        self.source_rows_from(generation, table, after, limit).await
    }

    async fn write(&self, batch: Arc<Batch>) -> Result<Vec<RecordConflict>, StorageError> {
        let unconditional = async {
            let mut writes = self.segment_writes(&batch.segments).await?;
            writes.extend(batch.registry.iter().map(crate::registry::registration));
            writes.extend(batch.compaction_tasks.iter().map(crate::compaction_queue::entry));
            self.dynamo().write_batch(writes).await
        };
        let conditional = stream::iter(0..batch.records.len())
            .map(|index| self.write_record(&batch.records[index]))
            .buffered(WRITES_AT_ONCE)
            .try_filter_map(async |conflict| Ok(conflict))
            .try_collect();

        // The order does not matter: nothing is read before the control record commits it.
        let ((), conflicts) = futures::try_join!(unconditional, conditional)?;
        Ok(conflicts)
    }
}

/// The record that an item is to hold.
struct NewRecord {
    newest_op: i64,
    /// The attribute with the record's bytes, or with the name of its object.
    location: Location,
}

enum Location {
    Inline(Vec<u8>),
    Object(String),
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    /// Writes a record on its condition. Returns the stored record if the condition failed.
    async fn write_record(
        &self,
        write: &RecordWrite,
    ) -> Result<Option<RecordConflict>, StorageError> {
        let key = ItemKey::record(&write.key);
        let record = self.store_if_long(&key, &write.record).await?;
        let object = record.object().map(str::to_owned);

        match self.dynamo().write(item_write(&key, write, record)).await? {
            WriteOutcome::Written(former) => {
                // A reader of the former item finds its object deleted, and reads the item again.
                let former = items::text(&former, OBJECT);
                if let Some(former) = former.filter(|former| Some(former) != object.as_ref()) {
                    self.objects().delete_object(&former).await?;
                }
                Ok(None)
            }
            WriteOutcome::ConditionFailed(stored) => {
                let stored = self.versioned_record(&key, stored.unwrap_or_default()).await?;
                Ok(Some(RecordConflict { key: write.key.clone(), stored }))
            }
        }
    }

    /// Encodes a record, and stores it as an object if it does not fit into an item.
    async fn store_if_long(
        &self,
        key: &ItemKey,
        record: &VersionedRecord,
    ) -> Result<NewRecord, StorageError> {
        let newest_op = record.newest_op().get();
        let encoded = record.encode();
        if encoded.len() <= INLINE_BYTES_MAX {
            return Ok(NewRecord { newest_op, location: Location::Inline(encoded) });
        }

        // A record may be built again for the same operation with other former versions. The hash
        // gives each content a name of its own.
        let hash = hex::encode(&Sha256::digest(&encoded)[..8]);
        let name = format!("{}/{newest_op}-{hash}", key.object_folder());
        self.objects().put_object(&name, encoded.into()).await?;
        Ok(NewRecord { newest_op, location: Location::Object(name) })
    }

    /// Returns the versioned record of an item, wherever its bytes are.
    pub(crate) async fn versioned_record(
        &self,
        key: &ItemKey,
        item: Item,
    ) -> Result<Option<VersionedRecord>, StorageError> {
        let mut item = item;
        let mut refused: Option<(String, StorageError)> = None;
        for _ in 0..REREADS_MAX {
            let name = match items::take_versioned_record(key.table, &mut item)? {
                None => return Ok(None),
                Some(PayloadLocation::Inline(record)) => {
                    return VersionedRecord::decode(&record).map(Some);
                }
                Some(PayloadLocation::Object(name, _)) => name,
            };
            // The item names the object still, so the object exists: the right to read it is missing.
            if let Some((_, error)) = refused.take_if(|(former, _)| *former == name) {
                return Err(error);
            }
            match self.whole_object(&name).await {
                Ok(Some(record)) => return VersionedRecord::decode(&record).map(Some),
                Ok(None) => {}
                // To a role without s3:ListBucket, S3 says the same of an object that does not exist.
                Err(error @ StorageError::Refused(_)) => refused = Some((name, error)),
                Err(error) => return Err(error),
            }

            // The object was deleted, so the item was replaced after it was read.
            let reread = self.dynamo().get(key, Consistency::Strong, None).await?;
            let Some(reread) = reread else { return Ok(None) };
            item = reread;
        }
        Err(StorageError::Damaged(key.table.holds(), "its object does not exist".into()))
    }
}

impl NewRecord {
    fn object(&self) -> Option<&str> {
        match &self.location {
            Location::Inline(_) => None,
            Location::Object(name) => Some(name),
        }
    }
}

/// Returns the conditional update of a record's item.
fn item_write(key: &ItemKey, write: &RecordWrite, record: NewRecord) -> ItemWrite {
    let mut values = vec![(":newest", number(record.newest_op))];
    let mut set = format!("{NEWEST_OP} = :newest");

    // Bytes and object replace each other.
    let removed = match record.location {
        Location::Inline(encoded) => {
            set += &format!(", {RECORD} = :record");
            values.push((":record", binary(encoded)));
            OBJECT
        }
        Location::Object(name) => {
            set += &format!(", {OBJECT} = :object");
            values.push((":object", AttributeValue::S(name)));
            RECORD
        }
    };

    // Answers to lookups and source rows are listed by their names, which the sort key may truncate.
    let full_text = match &write.key {
        RecordKey::Lookup(_, source) => keys::source_if_truncated(source),
        RecordKey::SourceRow(_, _, row) => keys::row_if_truncated(row),
        RecordKey::Bucket(_) | RecordKey::Copy(_) => None,
    };
    if let Some(full_text) = full_text {
        set += &format!(", {FULL_TEXT} = :text");
        values.push((":text", AttributeValue::S(full_text.to_owned())));
    }

    // The stored record may already be this one: an earlier attempt succeeded without a reply.
    let is_expected = match write.expected_newest {
        None => format!("attribute_not_exists({NEWEST_OP})"),
        Some(expected) => {
            values.push((":expected", number(expected.get())));
            format!("{NEWEST_OP} = :expected")
        }
    };
    let condition = format!("{is_expected} OR {NEWEST_OP} = :newest");

    let update = format!("SET {set} REMOVE {removed}");
    ItemWrite {
        key: key.clone(),
        action: WriteAction::Update(update, ReturnValue::UpdatedOld),
        condition: Some(condition),
        values,
    }
}
