//! A map on disk that only its process uses.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Error, ErrorCode, OptionalExtension};

use crate::error::StorageError;

/// The page cache in KiB.
const CACHE_KIB: i64 = 8 * 1024;

/// An error of the temporary file. It is not in the store's directory, so the message says where.
#[derive(Debug, thiserror::Error)]
#[error("the temporary file (in the folder that SQLITE_TMPDIR or TMPDIR names) cannot be used")]
struct ScratchFileError(#[source] Error);

/// A map from hashes to numbers, for more entries than fit into memory.
///
/// It is in a temporary file, which is deleted with the map or the process, so it is for what can be
/// computed again.
#[derive(Debug)]
pub struct ScratchMap(Mutex<Connection>);

impl ScratchMap {
    /// Creates an empty map.
    ///
    /// # Errors
    /// If the temporary file cannot be made.
    pub fn new() -> Result<Self, StorageError> {
        let open = || {
            // SQLite gives a database without a name a temporary file.
            let connection = Connection::open("")?;
            connection.pragma_update(None, "cache_size", -CACHE_KIB)?;

            // Nobody reads the file after a crash. One transaction, so that pages are written only
            // when the cache is full.
            connection.pragma_update(None, "synchronous", "OFF")?;
            connection.execute_batch(
                "PRAGMA journal_mode = OFF;
                 CREATE TABLE entry (hash BLOB PRIMARY KEY, number INTEGER NOT NULL)
                    STRICT, WITHOUT ROWID;
                 BEGIN;",
            )?;
            Ok(connection)
        };

        open().map(|connection| Self(Mutex::new(connection))).map_err(of_scratch)
    }

    /// Returns the number of a hash.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn get(&self, hash: u128) -> Result<Option<u64>, StorageError> {
        let find = |connection: &Connection| {
            connection
                .prepare_cached("SELECT number FROM entry WHERE hash = ?1")?
                .query_row([hash.to_be_bytes()], |row| row.get::<_, i64>(0))
                .optional()
        };
        find(&self.connection()).map(|number| number.map(i64::cast_unsigned)).map_err(of_scratch)
    }

    /// Gives a hash a number, in place of any former one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn insert(&self, hash: u128, number: u64) -> Result<(), StorageError> {
        let insert = |connection: &Connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO entry VALUES (?1, ?2)")?
                .execute((hash.to_be_bytes(), number.cast_signed()))
        };
        insert(&self.connection()).map(drop).map_err(of_scratch)
    }

    /// Removes a hash.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn remove(&self, hash: u128) -> Result<(), StorageError> {
        let remove = |connection: &Connection| {
            connection
                .prepare_cached("DELETE FROM entry WHERE hash = ?1")?
                .execute([hash.to_be_bytes()])
        };
        remove(&self.connection()).map(drop).map_err(of_scratch)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_scratch(error: Error) -> StorageError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StorageError::Full(ScratchFileError(error).into()),
        _ => StorageError::Unavailable(ScratchFileError(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0_u128..8, any::<Option<u64>>()), 0..60)) {
            let map = ScratchMap::new().unwrap();
            let mut model = HashMap::new();
            for (hash, number) in steps {
                let hash = hash << 125;
                match number {
                    Some(number) => {
                        map.insert(hash, number).unwrap();
                        model.insert(hash, number);
                    }
                    None => {
                        map.remove(hash).unwrap();
                        model.remove(&hash);
                    }
                }

                for hash in (0..8).map(|hash| hash << 125) {
                    prop_assert_eq!(map.get(hash).unwrap(), model.get(&hash).copied());
                }
            }
        }
    }

    #[test]
    fn it_may_be_larger_than_its_cache() {
        let map = ScratchMap::new().unwrap();
        let hash = |number: u64| {
            u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        };
        for number in 0..400_000 {
            map.insert(hash(number), number).unwrap();
        }
        for number in (0..400_000).step_by(997) {
            assert_eq!(map.get(hash(number)).unwrap(), Some(number));
        }
    }
}
