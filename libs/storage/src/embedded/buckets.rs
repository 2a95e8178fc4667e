//! Heads and catalogs of buckets, parameter lookups, and which buckets there are.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

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
                let item = |key: &BucketKey| {
                    let stored = select
                        .query_row([key.as_str()], |row| {
                            Ok((blob(row, 0)?, blob(row, 1)?, row.get::<_, i64>(2)?))
                        })
                        .optional()
                        .map_err(failure::of_sqlite)?;
                    let Some((record, catalog, revision)) = stored else { return Ok(None) };
                    let catalog_revision = revision.cast_unsigned();
                    Ok(Some(BucketItem {
                        head: VersionedRecord::decode(&record)?,
                        catalog,
                        catalog_revision,
                    }))
                };
                keys.iter().map(item).collect()
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
        let (key, catalog) = (key.clone(), catalog.clone());
        let (old, new) = (expected.cast_signed(), (expected + 1).cast_signed());
        // Durable, since the caller deletes objects that the former catalog names.
        self.writing(Durability::Machine, move |transaction| {
            let swap = || {
                let swapped = transaction
                    .prepare_cached(
                        "UPDATE bucket SET catalog = ?2, catalog_revision = ?4
                         WHERE bucket = ?1 AND (catalog_revision = ?3
                             OR catalog_revision = ?4 AND catalog = ?2)",
                    )?
                    .execute((key.as_str(), &catalog[..], old, new))?;
                Ok(swapped == 1)
            };
            swap().map_err(failure::of_sqlite)
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
        // A key is the tag, then a JSON array; '\' is the character after '['.
        let (first, end) = (format!("{tag}["), format!("{tag}\\"));
        let after = after.map_or(String::new(), |after| after.as_str().to_owned());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.reading(move |connection| {
            let read = || {
                connection
                    .prepare_cached(
                        "SELECT bucket FROM registry
                         WHERE bucket >= ?1 AND bucket < ?2 AND bucket > ?3
                         ORDER BY bucket LIMIT ?4",
                    )?
                    .query_map((first, end, after, limit), |row| {
                        Ok(BucketKey::from_stored(row.get_ref(0)?.as_str()?))
                    })?
                    .collect::<rusqlite::Result<Vec<_>>>()
            };
            read().map_err(failure::of_sqlite)
        })
        .await
    }
}

fn lookup_rows(connection: &Connection, key: &LookupKey) -> Result<Vec<LookupRow>, StorageError> {
    let mut select = connection
        .prepare_cached("SELECT source, cell FROM lookup WHERE lookup = ?1 ORDER BY source")
        .map_err(failure::of_sqlite)?;
    let mut rows = select.query([key.as_str()]).map_err(failure::of_sqlite)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failure::of_sqlite)? {
        let read = || Ok((row.get_ref(0)?.as_str()?.into(), blob(row, 1)?));
        let (source, record) = read().map_err(failure::of_sqlite)?;
        found.push(LookupRow { source, record: VersionedRecord::decode(&record)? });
    }
    Ok(found)
}
