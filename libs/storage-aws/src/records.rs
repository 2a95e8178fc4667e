//! Cells, and what one flush stores.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tidewater_storage::{
    Batch, ObjectStore, RecordConflict, RecordKey, RecordStore, RecordWrite, StorageError,
    VersionedRecord,
};

use crate::AwsStore;
use crate::dynamo::{Consistency, ItemWrite, WriteAction, WriteOutcome};
use crate::items::{self, PayloadLocation, binary, number};
use crate::keys::{self, Item, ItemKey};

/// A longer cell is an object: an item holds 400 KB, and its key takes 3.
const INLINE_BYTES_MAX: usize = 300_000;

/// Conditional writes under way for one batch: each is a call of its own.
const WRITES_AT_ONCE: usize = 64;

/// Objects being read for one call.
const OBJECTS_AT_ONCE: usize = 16;

/// The maximum number of reads of an item whose object was deleted: the item was replaced meanwhile.
const REREADS_MAX: usize = 5;

/// The top is the one known, or this write's own: its reply was lost.
const KNOWN: &str = "t = :k OR t = :t";
const ABSENT: &str = "attribute_not_exists(t) OR t = :t";

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

    async fn write(&self, batch: Arc<Batch>) -> Result<Vec<RecordConflict>, StorageError> {
        let blind = async {
            let mut writes = self.segment_writes(&batch.segments).await?;
            writes.extend(batch.registry.iter().map(crate::registry::registration));
            writes.extend(batch.compaction_tasks.iter().map(crate::compaction_queue::entry));
            self.dynamo().write_batch(writes).await
        };
        let records = stream::iter(0..batch.records.len())
            .map(|at| self.write_record(&batch.records[at]))
            .buffered(WRITES_AT_ONCE)
            .try_filter_map(async |refused| Ok(refused))
            .try_collect();
        let ((), refused) = futures::try_join!(blind, records)?;
        Ok(refused)
    }
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    /// Writes a cell on its condition; returns what is stored if it does not hold.
    async fn write_record(
        &self,
        write: &RecordWrite,
    ) -> Result<Option<RecordConflict>, StorageError> {
        let key = ItemKey::record(&write.key);
        let top = write.record.newest_op().get();
        let encoded = write.record.encode();
        let mut values = vec![(":t", number(top))];
        let mut object = None;
        if encoded.len() <= INLINE_BYTES_MAX {
            values.push((":v", binary(encoded)));
        } else {
            // A cell may be built again for the same operation: the name tells them apart.
            let hash = keys::hex(&Sha256::digest(&encoded)[..8]);
            let name = format!("{}/{top}-{hash}", key.object_folder());
            self.objects().put_object(&name, encoded.into()).await?;
            values.push((":o", AttributeValue::S(name.clone())));
            object = Some(name);
        }
        let mut condition = ABSENT;
        if let Some(known) = write.expected_newest {
            values.push((":k", number(known.get())));
            condition = KNOWN;
        }
        // An answer to a lookup is listed with the source row's name.
        let source = match &write.key {
            RecordKey::Lookup(_, source) => keys::source_if_truncated(source),
            RecordKey::Bucket(_) | RecordKey::SourceRow(..) | RecordKey::Copy(_) => None,
        };
        if let Some(source) = source {
            values.push((":n", AttributeValue::S(source.to_owned())));
        }
        let expression = match (&object, source) {
            (None, None) => "SET t = :t, v = :v REMOVE o",
            (None, Some(_)) => "SET t = :t, v = :v, k = :n REMOVE o",
            (Some(_), None) => "SET t = :t, o = :o REMOVE v",
            (Some(_), Some(_)) => "SET t = :t, o = :o, k = :n REMOVE v",
        };
        let action = WriteAction::Update(expression, ReturnValue::UpdatedOld);
        let call = ItemWrite { key: key.clone(), action, condition: Some(condition), values };
        match self.dynamo().write(call).await? {
            WriteOutcome::Written(before) => {
                // Readers of the former item find its object gone, and read the item again.
                match items::text(&before, items::OBJECT) {
                    Some(former) if Some(&former) != object.as_ref() => {
                        self.objects().delete_object(&former).await?;
                    }
                    _ => {}
                }
                Ok(None)
            }
            WriteOutcome::ConditionFailed(stored) => {
                let stored = self.versioned_record(&key, stored.unwrap_or_default()).await?;
                Ok(Some(RecordConflict { key: write.key.clone(), stored }))
            }
        }
    }

    /// The cell in an item, wherever its bytes are.
    pub(crate) async fn versioned_record(
        &self,
        key: &ItemKey,
        item: Item,
    ) -> Result<Option<VersionedRecord>, StorageError> {
        let mut item = item;
        for _ in 0..REREADS_MAX {
            let name = match items::take_versioned_record(key.table, &mut item)? {
                None => return Ok(None),
                Some(PayloadLocation::Inline(record)) => {
                    return VersionedRecord::decode(&record).map(Some);
                }
                Some(PayloadLocation::Object(name, _)) => name,
            };
            let found: Option<Bytes> = self.whole_object(&name).await?;
            if let Some(record) = found {
                return VersionedRecord::decode(&record).map(Some);
            }
            let again = self.dynamo().get(key, Consistency::Strong, None).await?;
            let Some(again) = again else { return Ok(None) };
            item = again;
        }
        Err(StorageError::Damaged(key.table.holds(), "its object does not exist".into()))
    }
}
