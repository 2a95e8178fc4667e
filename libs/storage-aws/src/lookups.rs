//! The answers to parameter lookups.

use futures::stream::{self, StreamExt, TryStreamExt};
use tidewater_storage::{LookupKey, LookupRow, LookupStore, ObjectStore, StorageError};

use crate::AwsStore;
use crate::dynamo::{Query, SortKeys};
use crate::items;
use crate::keys::{self, Item};
use crate::tables::Table;

/// Maximum number of queries in flight for one call. Each lookup needs a query of its own.
const QUERIES_AT_ONCE: usize = 32;

impl<O: ObjectStore + 'static> LookupStore for AwsStore<O> {
    async fn lookup_rows(&self, keys: &[LookupKey]) -> Result<Vec<Vec<LookupRow>>, StorageError> {
        stream::iter(keys.to_vec())
            .map(|key| self.rows_of(key))
            .buffered(QUERIES_AT_ONCE)
            .try_collect()
            .await
    }
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    async fn rows_of(&self, key: LookupKey) -> Result<Vec<LookupRow>, StorageError> {
        let (partition, prefix) = keys::lookup_range(&key);
        let query = Query {
            sort: SortKeys::StartingWith(prefix.clone()),
            ..Query::all(Table::Lookups, partition)
        };

        let mut rows = Vec::new();
        for item in self.dynamo().query_all(&query).await? {
            let row = self.lookup_row(&prefix, item).await?;
            rows.extend(row);
        }
        Ok(rows)
    }

    async fn lookup_row(
        &self,
        prefix: &str,
        item: Item,
    ) -> Result<Option<LookupRow>, StorageError> {
        let key = items::read_key(Table::Lookups, &item)?;
        let answer_name = items::full_text_if_truncated(&item)
            .or_else(|| Some(items::sort_text(&key)?.strip_prefix(prefix)?.to_owned()));
        let answer_name = answer_name.ok_or_else(|| items::damaged("lookup", &item))?;
        let record = self.versioned_record(&key, item).await?;
        Ok(record.map(|record| LookupRow { answer_name: answer_name.into(), record }))
    }
}
