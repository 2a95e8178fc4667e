//! The builder's work list.

use rusqlite::Transaction;
use tidewater_protocol::OpId;

use super::sessions::Durability;
use super::{Embedded, failure};
use crate::error::StorageError;
use crate::keys::BucketKey;
use crate::ports::{Due, WorkList};

impl WorkList for Embedded {
    async fn due(&self, now: u64, limit: usize) -> Result<Vec<Due>, StorageError> {
        let (now, limit) = (seconds(now), i64::try_from(limit).unwrap_or(i64::MAX));
        self.reading(move |connection| {
            let read = || {
                connection
                    .prepare_cached(
                        "SELECT bucket, at, not_before FROM due WHERE not_before <= ?1 LIMIT ?2",
                    )?
                    .query_map((now, limit), |row| {
                        Ok(Due {
                            bucket: BucketKey::from_stored(row.get_ref(0)?.as_str()?),
                            at: OpId::from_i64(row.get(1)?).unwrap_or_default(),
                            not_before: row.get::<_, i64>(2)?.cast_unsigned(),
                        })
                    })?
                    .collect::<rusqlite::Result<Vec<_>>>()
            };
            read().map_err(failure::of_sqlite)
        })
        .await
    }

    async fn settle(&self, due: &Due, not_before: Option<u64>) -> Result<bool, StorageError> {
        let (bucket, at) = (due.bucket.clone(), due.at.get());
        // A settlement that is lost is work done again.
        self.writing(Durability::Process, move |transaction| {
            let settle = || match not_before {
                None => transaction
                    .prepare_cached("DELETE FROM due WHERE bucket = ?1 AND at = ?2")?
                    .execute((bucket.as_str(), at)),
                Some(time) => transaction
                    .prepare_cached("UPDATE due SET not_before = ?3 WHERE bucket = ?1 AND at = ?2")?
                    .execute((bucket.as_str(), at, seconds(time))),
            };
            settle().map(|settled| settled == 1).map_err(failure::of_sqlite)
        })
        .await
    }
}

pub(super) fn put(
    transaction: &Transaction<'_>,
    due: &[(BucketKey, OpId)],
) -> rusqlite::Result<()> {
    if due.is_empty() {
        return Ok(());
    }
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO due VALUES (?1, ?2, 0)")?;
    for (bucket, at) in due {
        put.execute((bucket.as_str(), at.get()))?;
    }
    Ok(())
}

fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}
