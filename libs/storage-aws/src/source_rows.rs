//! The names of a table's source rows.

use std::sync::Arc;

use tidewater_storage::{GenerationId, ObjectStore, SourceRowPage, StorageError};

use crate::AwsStore;
use crate::attributes::listed::FULL_TEXT;
use crate::attributes::{PARTITION, SORT};
use crate::dynamo::{Query, SortKeys};
use crate::items;
use crate::keys::{self, Item, ItemKey, KeyPart, SHARDS};
use crate::tables::Table;

/// The place in a table's source rows at which a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The partition.
    shard: u8,
    /// The sort key of the last row before it in that partition.
    after: Option<String>,
}

impl Place {
    /// The text that callers keep.
    fn text(&self) -> String {
        format!("{}/{}", self.shard, self.after.as_deref().unwrap_or_default())
    }

    fn parse(text: &str) -> Result<Self, StorageError> {
        let place = text.split_once('/').and_then(|(shard, after)| {
            let after = (!after.is_empty()).then(|| after.to_owned());
            Some(Self { shard: shard.parse().ok()?, after })
        });
        place.ok_or_else(|| StorageError::Damaged("place in source rows", text.into()))
    }
}

impl<O: ObjectStore + 'static> AwsStore<O> {
    /// Returns the names of some of a table's source rows, and the next place.
    pub(crate) async fn source_rows_from(
        &self,
        generation: GenerationId,
        table: u16,
        place: Option<&str>,
        limit: usize,
    ) -> Result<SourceRowPage, StorageError> {
        let place = place.map_or(Ok(Place { shard: 0, after: None }), Place::parse)?;
        let partition = keys::source_rows_partition(generation, place.shard);
        let prefix = keys::source_rows_prefix(table);

        let from = place.after.map(|after| {
            let sort = KeyPart::Text(after);
            ItemKey { table: Table::SourceRows, partition: partition.clone(), sort: Some(sort) }
        });
        let query = Query {
            sort: SortKeys::StartingWith(prefix.clone()),
            attributes: Some(format!("{PARTITION}, {SORT}, {FULL_TEXT}")),
            limit: i32::try_from(limit.max(1)).ok(),
            ..Query::all(Table::SourceRows, partition)
        };
        let page = self.dynamo().query(&query, from.map(|key| key.attributes())).await?;

        let names =
            page.items.iter().map(|item| row_name(&prefix, item)).collect::<Result<_, _>>()?;
        let next = match page.next {
            Some(last) => {
                let key = items::read_key(Table::SourceRows, &last)?;
                let after = items::sort_text(&key).map(str::to_owned);
                Some(Place { shard: place.shard, after })
            }
            None => {
                let shard = place.shard + 1;
                (shard < SHARDS).then_some(Place { shard, after: None })
            }
        };
        Ok(SourceRowPage { names, next: next.map(|place| place.text()) })
    }
}

/// Returns the name of an item's source row.
fn row_name(prefix: &str, item: &Item) -> Result<Arc<str>, StorageError> {
    if let Some(full_text) = items::full_text_if_truncated(item) {
        return Ok(full_text.into());
    }
    let key = items::read_key(Table::SourceRows, item)?;
    let name = items::sort_text(&key).and_then(|sort| sort.strip_prefix(prefix));
    let name = name.filter(|name| !keys::is_row_truncated(name));
    name.map(Arc::from).ok_or_else(|| items::damaged("source row", item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_returned() {
        for after in [None, Some("7/a/b".to_owned())] {
            let place = Place { shard: 63, after };
            assert_eq!(Place::parse(&place.text()).unwrap(), place);
        }
        for damaged in ["", "7", "x/", "256/"] {
            assert!(Place::parse(damaged).is_err(), "{damaged:?}");
        }
    }
}
