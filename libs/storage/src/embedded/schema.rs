//! The tables, and the migrations that create them.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::failure;
use crate::error::StorageError;

/// Name of the SQLite file in the store's directory.
pub(super) const FILE_NAME: &str = "tidewater.db";

/// The application id in the SQLite file ("tdwt"). It distinguishes a store from other databases.
const APPLICATION_ID: i64 = 0x7464_7774;

/// The time that a statement waits for another process's write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The page cache of the writing connection in KiB. A page that a large transaction changes twice
/// should not be spilled to the WAL in between.
const WRITER_CACHE_KIB: i64 = 4 * 1024;

/// The maximum number of prepared statements of a connection; there are about forty in use.
const STATEMENTS_KEPT: usize = 64;

/// Each layout version with the statements that lead to it from the previous one. Released ones never
/// change.
const MIGRATIONS: &[(i64, &str)] = &[(1, FIRST), (2, WORK_LIST), (3, COMPRESSED_PAYLOADS)];

const FIRST: &str = "
    CREATE TABLE control (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        revision INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE closed_epoch (
        epoch INTEGER PRIMARY KEY,
        last INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE generation (
        id INTEGER PRIMARY KEY,
        record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE segment (
        bucket TEXT NOT NULL,
        last INTEGER NOT NULL,
        prev INTEGER NOT NULL,
        sum_before INTEGER NOT NULL,
        sum INTEGER NOT NULL,
        count INTEGER NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (bucket, last)
    ) STRICT;
    CREATE TABLE bucket (
        bucket TEXT PRIMARY KEY,
        cell BLOB NOT NULL,
        catalog BLOB NOT NULL DEFAULT x'',
        catalog_revision INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE lookup (
        lookup TEXT NOT NULL,
        source TEXT NOT NULL,
        cell BLOB NOT NULL,
        PRIMARY KEY (lookup, source)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE source_row (
        generation INTEGER NOT NULL,
        source_table INTEGER NOT NULL,
        row_key TEXT NOT NULL,
        cell BLOB NOT NULL,
        PRIMARY KEY (generation, source_table, row_key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE copy (
        generation INTEGER PRIMARY KEY,
        cell BLOB NOT NULL
    ) STRICT;
    CREATE TABLE registry (
        bucket TEXT PRIMARY KEY
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE bell (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        ticket INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE write_request (
        user_id TEXT NOT NULL,
        client_id TEXT NOT NULL,
        revision INTEGER NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (user_id, client_id)
    ) STRICT, WITHOUT ROWID;
";

const WORK_LIST: &str = "
    CREATE TABLE due (
        bucket TEXT PRIMARY KEY,
        at INTEGER NOT NULL,
        not_before INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO due SELECT bucket, 0, 0 FROM registry;
";

/// Payloads may be compressed from this version on. Those that are stored stay as they are.
const COMPRESSED_PAYLOADS: &str = "";

/// Opens the file for writing. Creates it if necessary, and migrates it to the newest layout.
pub(super) fn open(file: &Path) -> Result<Connection, StorageError> {
    let mut connection = connect(file).map_err(failure::of_sqlite)?;

    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))
        .map_err(failure::of_sqlite)?;
    if mode != "wal" {
        let cause = format!("its journal mode is '{mode}' and cannot be changed to 'wal'");
        return Err(StorageError::Unavailable(cause.into()));
    }

    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB).map_err(failure::of_sqlite)?;
    migrate(&mut connection, MIGRATIONS)?;
    Ok(connection)
}

/// Opens another connection to a file that [`open`] has migrated.
pub(super) fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // `WalCheckpointer` runs the checkpoints.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

/// Opens another connection, which rejects writes.
pub(super) fn connect_for_reading(file: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(file)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, migrations: &[(i64, &str)]) -> Result<(), StorageError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failure::of_sqlite)?;

    let found = pragma(&transaction, "user_version")?;
    let application = pragma(&transaction, "application_id")?;
    if found > 0 && application != APPLICATION_ID {
        let cause = format!("application id {application:#x} is not Tidewater's");
        return Err(StorageError::Damaged("database", cause.into()));
    }
    let known = migrations.last().map_or(0, |&(version, _)| version);
    if found > known {
        return Err(StorageError::TooNew { found, known });
    }

    // Each step and its version are in one transaction, so an interrupted migration is repeated whole.
    for (version, sql) in migrations.iter().filter(|&&(version, _)| version > found) {
        transaction
            .execute_batch(sql)
            .and_then(|()| transaction.pragma_update(None, "user_version", version))
            .and_then(|()| transaction.pragma_update(None, "application_id", APPLICATION_ID))
            .map_err(failure::of_sqlite)?;
    }
    transaction.commit().map_err(failure::of_commit)
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, StorageError> {
    connection.pragma_query_value(None, name, |row| row.get(0)).map_err(failure::of_sqlite)
}
