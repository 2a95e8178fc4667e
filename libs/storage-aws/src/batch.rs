//! Batches: reads and writes of many items, in calls that may leave some of them unprocessed.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{
    DeleteRequest, KeysAndAttributes, PutRequest, WriteRequest as DynamoWrite,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use tidewater_storage::StorageError;

use crate::backoff::Backoff;
use crate::dynamo::{COUNTED, Dynamo, check_size};
use crate::failure;
use crate::items;
use crate::keys::{Item, ItemKey};
use crate::metrics;
use crate::service_calls::boxed;
use crate::tables::Table;

/// Maximum number of items that one call writes and reads: DynamoDB's limits.
const WRITTEN_AT_ONCE: usize = 25;
const READ_AT_ONCE: usize = 100;

/// Maximum number of calls in flight for one batch.
const CALLS_AT_ONCE: usize = 16;

/// A write of one item of a batch.
#[derive(Clone, Debug)]
pub(crate) enum BatchWrite {
    Put(Table, Item),
    Delete(ItemKey),
}

impl Dynamo {
    /// Writes items without conditions, in no particular order and not atomically. Of several writes
    /// of one item only the last is made.
    pub(crate) async fn write_batch(&self, writes: Vec<BatchWrite>) -> Result<(), StorageError> {
        let mut requests: HashMap<ItemKey, DynamoWrite> = HashMap::new();
        for write in writes {
            let (key, request) = write.into_request()?;
            requests.insert(key, request);
        }

        let mut calls: Vec<HashMap<String, Vec<DynamoWrite>>> = Vec::new();
        for (at, (key, request)) in requests.into_iter().enumerate() {
            if at % WRITTEN_AT_ONCE == 0 {
                calls.push(HashMap::new());
            }
            let table = self.name(key.table).to_owned();
            if let Some(call) = calls.last_mut() {
                call.entry(table).or_default().push(request);
            }
        }

        stream::iter(calls.into_iter().map(|call| self.write_until_done(call)))
            .buffer_unordered(CALLS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Returns the stored items by their keys. The read is strongly consistent.
    pub(crate) async fn get_batch(
        &self,
        keys: Vec<ItemKey>,
    ) -> Result<HashMap<ItemKey, Item>, StorageError> {
        let mut keys = keys;
        // DynamoDB rejects a call that names a key twice.
        keys.sort_unstable();
        keys.dedup();

        let mut calls = Vec::new();
        for keys in keys.chunks(READ_AT_ONCE) {
            let mut call: HashMap<String, KeysAndAttributes> = HashMap::new();
            for of_table in keys.chunk_by(|one, other| one.table == other.table) {
                let keys = of_table.iter().map(ItemKey::attributes).collect();
                let keys = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true);
                let keys = keys.build().expect("it has keys");
                call.insert(self.name(of_table[0].table).to_owned(), keys);
            }
            calls.push(call);
        }

        stream::iter(calls.into_iter().map(|call| self.get_until_done(call)))
            .buffer_unordered(CALLS_AT_ONCE)
            .try_fold(HashMap::new(), async |mut all, some| {
                all.extend(some);
                Ok(all)
            })
            .await
    }

    /// Sends a call, and again what it leaves unprocessed, until everything is written.
    async fn write_until_done(
        &self,
        mut left: HashMap<String, Vec<DynamoWrite>>,
    ) -> Result<(), StorageError> {
        let place = left.keys().cloned().collect::<Vec<_>>().join(", ");
        let mut backoff = Backoff::default();
        loop {
            let before = count(&left);
            let call = self.client.batch_write_item().set_request_items(Some(left));
            let reply = boxed(call.return_consumed_capacity(COUNTED).send()).await;
            let reply =
                reply.map_err(|error| failure::of_write("BatchWriteItem", &place, error))?;

            for consumed in reply.consumed_capacity() {
                if let Some(table) = consumed.table_name().and_then(|name| self.table(name)) {
                    self.meter.wrote(table, Some(consumed));
                }
            }

            left = reply.unprocessed_items.unwrap_or_default();
            let after = count(&left);
            if after == 0 {
                return Ok(());
            }

            metrics::count_unprocessed("BatchWriteItem", after);
            if after < before {
                backoff.progressed();
            }
            if !backoff.pause().await {
                let cause = format!("{after} writes were left unprocessed after all retries");
                return Err(StorageError::Unknown(cause.into()));
            }
        }
    }

    /// Sends a call, and again what it leaves unprocessed, until everything is read.
    async fn get_until_done(
        &self,
        mut left: HashMap<String, KeysAndAttributes>,
    ) -> Result<HashMap<ItemKey, Item>, StorageError> {
        let place = left.keys().cloned().collect::<Vec<_>>().join(", ");
        let mut found = HashMap::new();
        let mut backoff = Backoff::default();
        loop {
            let before = count_keys(&left);
            let call = self.client.batch_get_item().set_request_items(Some(left));
            let reply = boxed(call.return_consumed_capacity(COUNTED).send()).await;
            let reply = reply.map_err(|error| failure::of_read("BatchGetItem", &place, error))?;

            for consumed in reply.consumed_capacity() {
                if let Some(table) = consumed.table_name().and_then(|name| self.table(name)) {
                    self.meter.read(table, Some(consumed));
                }
            }

            for (name, items) in reply.responses.unwrap_or_default() {
                let Some(table) = self.table(&name) else { continue };
                for item in items {
                    found.insert(items::read_key(table, &item)?, item);
                }
            }

            left = reply.unprocessed_keys.unwrap_or_default();
            let after = count_keys(&left);
            if after == 0 {
                return Ok(found);
            }

            metrics::count_unprocessed("BatchGetItem", after);
            if after < before {
                backoff.progressed();
            }
            if !backoff.pause().await {
                let cause = format!("{after} keys were left unprocessed after all retries");
                return Err(StorageError::Unavailable(cause.into()));
            }
        }
    }
}

impl BatchWrite {
    fn into_request(self) -> Result<(ItemKey, DynamoWrite), StorageError> {
        let request = DynamoWrite::builder();
        Ok(match self {
            Self::Put(table, item) => {
                let key = items::read_key(table, &item)?;
                check_size(&key, items::size(&item))?;
                let put = PutRequest::builder().set_item(Some(item)).build();
                (key, request.put_request(put.expect("it has an item")).build())
            }
            Self::Delete(key) => {
                let delete = DeleteRequest::builder().set_key(Some(key.attributes())).build();
                (key, request.delete_request(delete.expect("it has a key")).build())
            }
        })
    }
}

fn count(left: &HashMap<String, Vec<DynamoWrite>>) -> usize {
    left.values().map(Vec::len).sum()
}

fn count_keys(left: &HashMap<String, KeysAndAttributes>) -> usize {
    left.values().map(|keys| keys.keys().len()).sum()
}
