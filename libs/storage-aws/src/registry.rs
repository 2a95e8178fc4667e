//! The registry of existing buckets.

use tidewater_storage::{BucketKey, ObjectStore, Registry, StorageError, Tag};

use crate::AwsStore;
use crate::batch::BatchWrite;
use crate::dynamo::{Query, SortKeys};
use crate::items;
use crate::keys::{self, Item, ItemKey, KeyPart, LIST_SHARDS};
use crate::tables::Table;

/// Number of buckets that are read of a shard beyond its share, because shards are not equally full.
const SPARE: usize = 8;

impl<O: ObjectStore + 'static> Registry for AwsStore<O> {
    async fn registered_buckets(
        &self,
        tag: &Tag,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> Result<Vec<BucketKey>, StorageError> {
        let share = i32::try_from(limit / usize::from(LIST_SHARDS) + SPARE).ok();
        let mut shards: Vec<Shard> =
            (0..LIST_SHARDS).map(|shard| Shard::new(tag, shard, after, share)).collect();

        // A bucket is returned once every shard is read beyond it. So the shards that are read least
        // far are read on, until enough buckets are certain.
        loop {
            let mut found = certain(&shards, after);
            if found.len() >= limit || shards.iter().all(|shard| shard.is_read) {
                found.truncate(limit);
                return Ok(found);
            }

            let unread = shards.iter().filter(|shard| !shard.is_read);
            let least = unread.map(|shard| shard.read_upto.clone()).min().unwrap_or_default();
            let next = shards.iter_mut().filter(|shard| !shard.is_read && shard.read_upto == least);
            futures::future::try_join_all(next.map(|shard| self.read_on(shard))).await?;
        }
    }
}

/// The buckets of one partition, as far as they have been read.
struct Shard {
    query: Query,
    next: Option<Item>,
    /// True if all buckets were read.
    is_read: bool,
    /// The group of the last sort key that was read. More keys of this group may follow.
    read_upto: String,
    /// The buckets that were read, with the groups of their sort keys.
    found: Vec<(String, BucketKey)>,
}

impl Shard {
    fn new(tag: &Tag, shard: u8, after: Option<&BucketKey>, limit: Option<i32>) -> Self {
        let partition = keys::registry_partition(keys::tag_text(tag), shard);
        let sort = after.map_or(SortKeys::All, |after| {
            SortKeys::From(KeyPart::Text(keys::first_after(after.as_str())))
        });
        let query = Query { sort, limit, ..Query::all(Table::Registry, partition) };
        let read_upto = String::new();
        Self { query, next: None, is_read: false, read_upto, found: Vec::new() }
    }
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    async fn read_on(&self, shard: &mut Shard) -> Result<(), StorageError> {
        let page = self.dynamo().query(&shard.query, shard.next.take()).await?;
        for item in &page.items {
            let key = items::read_key(Table::Registry, item)?;
            let group = items::sort_text(&key).map(keys::group).unwrap_or_default();
            let bucket = BucketKey::from_stored(&items::read_listed("registry entry", item)?);
            group.clone_into(&mut shard.read_upto);
            shard.found.push((group.to_owned(), bucket));
        }
        shard.is_read = page.next.is_none();
        shard.next = page.next;
        Ok(())
    }
}

/// Returns the buckets before all buckets that have not been read yet, in ascending order.
fn certain(shards: &[Shard], after: Option<&BucketKey>) -> Vec<BucketKey> {
    let unread = shards.iter().filter(|shard| !shard.is_read);
    let bound = unread.map(|shard| shard.read_upto.as_str()).min();
    let mut certain: Vec<BucketKey> = shards
        .iter()
        .flat_map(|shard| &shard.found)
        .filter(|(group, _)| bound.is_none_or(|bound| group.as_str() < bound))
        .map(|(_, bucket)| bucket.clone())
        .filter(|bucket| after.is_none_or(|after| bucket > after))
        .collect();
    certain.sort_unstable();
    certain
}

/// Returns the write that registers a bucket.
pub(crate) fn registration(bucket: &BucketKey) -> BatchWrite {
    let full_text = keys::full_key_if_truncated(bucket.as_str());
    let item = items::listed(&ItemKey::registered(bucket), full_text, []);
    BatchWrite::Put(Table::Registry, item)
}
