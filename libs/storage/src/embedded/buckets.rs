//! Heads and catalogs of buckets, parameter lookups, and the registry of buckets.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, Statement, Transaction};

use super::connection_pool::{Durability, in_one_snapshot};
use super::records::blob;
use super::{Embedded, failure};
use crate::bucket::BucketItem;
use crate::error::StorageError;
use crate::keys::{BucketKey, LookupKey, Tag};
use crate::ports::{BucketStore, LookupRow, LookupStore, Registry};
use crate::versioned_record::VersionedRecord;

impl BucketStore for Embedded {
    async fn buckets(&self, keys: &[BucketKey]) -> Result<Vec<Option<BucketItem>>, StorageError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }

        let keys = keys.to_vec();
        self.reading(move |connection| {
            in_one_snapshot(connection, |connection| {
                let mut select = connection
                    .prepare_cached(
                        "SELECT cell, catalog, catalog_revision FROM bucket WHERE bucket = ?1",
                    )
                    .map_err(failure::of_sqlite)?;
                keys.iter().map(|key| bucket_item(&mut select, key)).collect()
            })
        })
        .await
    }

    async fn swap_catalog(
        &self,
        key: &BucketKey,
        expected: u64,
        catalog: &Bytes,
    ) -> Result<bool, StorageError> {
        let key = key.clone();
        let catalog = catalog.clone();

        // The write is durable, because the caller then deletes objects that the former catalog names.
        self.writing(Durability::Machine, move |transaction| {
            swap_catalog(transaction, &key, expected, &catalog).map_err(failure::of_sqlite)
        })
        .await
    }
}

impl LookupStore for Embedded {
    async fn lookup_rows(&self, keys: &[LookupKey]) -> Result<Vec<Vec<LookupRow>>, StorageError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }

        let keys = keys.to_vec();
        self.reading(move |connection| {
            in_one_snapshot(connection, |connection| {
                keys.iter().map(|key| lookup_rows(connection, key)).collect()
            })
        })
        .await
    }
}

impl Registry for Embedded {
    async fn registered_buckets(
        &self,
        tag: &Tag,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> Result<Vec<BucketKey>, StorageError> {
        let keys = keys_of_tag(tag);
        let after = after.map_or(String::new(), |after| after.as_str().to_owned());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);

        self.reading(move |connection| {
            registered(connection, &keys, &after, limit).map_err(failure::of_sqlite)
        })
        .await
    }
}

/// Returns the range of keys that begin with a tag. A key is the tag, then a JSON array, and `\` is
/// the character after `[`.
pub(super) fn keys_of_tag(tag: &Tag) -> Range<String> {
    format!("{tag}[")..format!("{tag}\\")
}

fn bucket_item(
    select: &mut Statement<'_>,
    key: &BucketKey,
) -> Result<Option<BucketItem>, StorageError> {
    let stored = select
        .query_row([key.as_str()], |row| Ok((blob(row, 0)?, blob(row, 1)?, row.get::<_, i64>(2)?)))
        .optional()
        .map_err(failure::of_sqlite)?;
    let Some((record, catalog, revision)) = stored else { return Ok(None) };

    let head = VersionedRecord::decode(&record)?;
    Ok(Some(BucketItem { head, catalog, catalog_revision: revision.cast_unsigned() }))
}

/// Replaces a catalog if its revision is `expected`, or if exactly this catalog is stored already.
fn swap_catalog(
    transaction: &Transaction<'_>,
    key: &BucketKey,
    expected: u64,
    catalog: &[u8],
) -> rusqlite::Result<bool> {
    let next = expected + 1;
    let swapped = transaction
        .prepare_cached(
            "UPDATE bucket SET catalog = ?2, catalog_revision = ?4
             WHERE bucket = ?1 AND (catalog_revision = ?3
                 OR catalog_revision = ?4 AND catalog = ?2)",
        )?
        .execute((key.as_str(), catalog, expected.cast_signed(), next.cast_signed()))?;
    Ok(swapped == 1)
}

fn registered(
    connection: &Connection,
    keys: &Range<String>,
    after: &str,
    limit: i64,
) -> rusqlite::Result<Vec<BucketKey>> {
    connection
        .prepare_cached(
            "SELECT bucket FROM registry
             WHERE bucket >= ?1 AND bucket < ?2 AND bucket > ?3
             ORDER BY bucket LIMIT ?4",
        )?
        .query_map((&keys.start, &keys.end, after, limit), |row| {
            Ok(BucketKey::from_stored(row.get_ref(0)?.as_str()?))
        })?
        .collect()
}

fn lookup_rows(connection: &Connection, key: &LookupKey) -> Result<Vec<LookupRow>, StorageError> {
    let mut select = connection
        .prepare_cached("SELECT source, cell FROM lookup WHERE lookup = ?1 ORDER BY source")
        .map_err(failure::of_sqlite)?;
    let mut rows = select.query([key.as_str()]).map_err(failure::of_sqlite)?;

    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failure::of_sqlite)? {
        let (answer_name, record) = stored_answer(row).map_err(failure::of_sqlite)?;
        found.push(LookupRow { answer_name, record: VersionedRecord::decode(&record)? });
    }
    Ok(found)
}

fn stored_answer(row: &Row<'_>) -> rusqlite::Result<(Arc<str>, Bytes)> {
    Ok((row.get_ref(0)?.as_str()?.into(), blob(row, 1)?))
}
