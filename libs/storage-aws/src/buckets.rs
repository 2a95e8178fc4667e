//! Heads and catalogs of buckets: attributes of one item, written without touching each other.

use aws_sdk_dynamodb::types::ReturnValue;
use bytes::Bytes;
use tidewater_storage::{BucketItem, BucketKey, BucketStore, ObjectStore, StorageError};

use crate::AwsStore;
use crate::dynamo::{ItemWrite, WriteAction, WriteOutcome};
use crate::items::{self, binary, number};
use crate::keys::{Item, ItemKey};

impl<O: ObjectStore + 'static> BucketStore for AwsStore<O> {
    async fn buckets(&self, keys: &[BucketKey]) -> Result<Vec<Option<BucketItem>>, StorageError> {
        let keys: Vec<_> = keys.iter().map(ItemKey::bucket).collect();
        let found = self.dynamo().get_batch(keys.clone()).await?;
        let mut items = Vec::with_capacity(keys.len());
        for key in &keys {
            items.push(match found.get(key) {
                Some(item) => self.bucket_item(key, item.clone()).await?,
                None => None,
            });
        }
        Ok(items)
    }

    async fn swap_catalog(
        &self,
        key: &BucketKey,
        expected: u64,
        catalog: &Bytes,
    ) -> Result<bool, StorageError> {
        let mut values = vec![(":k", binary(&catalog[..])), (":n", number(expected + 1))];
        let condition = if expected == 0 {
            "attribute_exists(t) AND attribute_not_exists(g)"
        } else {
            values.push((":g", number(expected)));
            "attribute_exists(t) AND g = :g"
        };
        let action = WriteAction::Update("SET k = :k, g = :n", ReturnValue::None);
        let write =
            ItemWrite { key: ItemKey::bucket(key), action, condition: Some(condition), values };
        match self.dynamo().write(write).await? {
            WriteOutcome::Written(_) => Ok(true),
            WriteOutcome::ConditionFailed(None) => Ok(false),
            // Found as it was to be: a reply was lost.
            WriteOutcome::ConditionFailed(Some(mut stored)) => {
                Ok(items::take_catalog(&mut stored)? == (catalog.clone(), expected + 1))
            }
        }
    }
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    async fn bucket_item(
        &self,
        key: &ItemKey,
        item: Item,
    ) -> Result<Option<BucketItem>, StorageError> {
        let mut item = item;
        let (catalog, catalog_revision) = items::take_catalog(&mut item)?;
        let head = self.versioned_record(key, item).await?;
        Ok(head.map(|head| BucketItem { head, catalog, catalog_revision }))
    }
}
