//! Heads and catalogs of buckets. Both are attributes of one item, and each is written without
//! touching the other.

use aws_sdk_dynamodb::types::ReturnValue;
use bytes::Bytes;
use tidewater_storage::{BucketItem, BucketKey, BucketStore, ObjectStore, StorageError};

use crate::AwsStore;
use crate::attributes::bucket::{CATALOG, CATALOG_REVISION};
use crate::attributes::versioned_record::NEWEST_OP;
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
        let mut values = vec![(":catalog", binary(&catalog[..])), (":next", number(expected + 1))];
        let is_expected = if expected == 0 {
            format!("attribute_not_exists({CATALOG_REVISION})")
        } else {
            values.push((":expected", number(expected)));
            format!("{CATALOG_REVISION} = :expected")
        };
        // A catalog is part of an existing bucket. Without this, an update would create an item that
        // has no head.
        let condition = format!("attribute_exists({NEWEST_OP}) AND {is_expected}");
        let update = format!("SET {CATALOG} = :catalog, {CATALOG_REVISION} = :next");

        let write = ItemWrite {
            key: ItemKey::bucket(key),
            action: WriteAction::Update(update, ReturnValue::None),
            condition: Some(condition),
            values,
        };
        match self.dynamo().write(write).await? {
            WriteOutcome::Written(_) => Ok(true),
            WriteOutcome::ConditionFailed(None) => Ok(false),
            // If exactly this catalog is stored, an earlier attempt succeeded without a reply.
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
