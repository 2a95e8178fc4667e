//! The database file: its connections, and who may write when.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::Action as RowAction;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::staging::StagingCache;
use super::table_plan::quote;
use super::wal_checkpointer::WalCheckpointer;
use super::{migrate, queue};
use crate::error::ClientError;
use crate::lock::lock;
use crate::schema::{INTERNAL_PREFIX, Schema};

/// The wait for another process that writes. Publishing a large checkpoint takes seconds, so this
/// leaves room for a slow device.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of idle reading connections that are kept open. Each has a page cache of 2 MB at
/// most.
const IDLE_READERS_MAX: usize = 4;
/// The number of prepared statements that a writer keeps. One table needs a handful.
const CACHED_STATEMENTS_MAX: usize = 128;
/// The number of free pages (8 MiB) that are kept for the next checkpoint instead of being
/// released.
const FREE_PAGES_MIN: i64 = 2_048;
/// The size, in bytes, that a large WAL is truncated to when SQLite resets it.
const WAL_BYTES_KEPT: i64 = 8 << 20;

/// The open database file.
pub(crate) struct Database {
    // Fields are dropped in this order. The checkpoint thread has to end before the last connection
    // does.
    wal_checkpointer: WalCheckpointer,
    pub(crate) path: PathBuf,
    pub(crate) client_id: String,
    /// The generation of the schema that this process opened the file with.
    pub(crate) schema_generation: i64,
    // Readers are dropped before the writers: only a writer that closes last can remove the WAL.
    readers: Mutex<Vec<Connection>>,
    writers: Mutex<Writers>,
}

/// The connections that write. SQLite has one writer at a time; in one process the lock around this
/// struct queues them.
pub(crate) struct Writers {
    /// The app's connection: foreign keys are enforced, and its writes are captured.
    app: Connection,
    /// Our connection. Foreign keys are not enforced: a user may see a row without the rows that it
    /// refers to, and the server's state is shown as it is. The source has checked its constraints
    /// already.
    pub(crate) sync: Connection,
    pub(crate) staging: StagingCache,
    /// The tables that the current app transaction changed, filled by SQLite's update hook.
    changed: Arc<Mutex<BTreeSet<String>>>,
}

impl Database {
    pub(crate) fn open(path: &Path, schema: &Schema) -> Result<Self, ClientError> {
        let mut sync = open_writer(path)?;
        sync.pragma_update(None, "foreign_keys", false)?;
        let schema_generation = migrate::migrate(&mut sync, schema)?;
        // Downloads can be fetched again: they need not wait for the disk at each line.
        sync.pragma_update(None, "synchronous", "NORMAL")?;

        let mut app = open_writer(path)?;
        app.pragma_update(None, "foreign_keys", true)?;
        // Without this, REPLACE deletes rows without firing the triggers.
        app.pragma_update(None, "recursive_triggers", true)?;
        app.pragma_update(None, "synchronous", "FULL")?;
        let changed = Arc::new(Mutex::new(BTreeSet::new()));
        watch_tables(&mut app, Arc::clone(&changed))?;

        let client_id = queue::client_id(&sync)?;
        let writers = Writers { app, sync, staging: StagingCache::default(), changed };
        Ok(Self {
            wal_checkpointer: WalCheckpointer::default(),
            path: path.to_owned(),
            client_id,
            schema_generation,
            writers: Mutex::new(writers),
            readers: Mutex::default(),
        })
    }

    /// Locks the writers.
    pub(crate) fn writers(&self) -> MutexGuard<'_, Writers> {
        lock(&self.writers)
    }

    /// Starts a WAL checkpoint in the background.
    pub(crate) fn start_wal_checkpoint(&self) {
        self.wal_checkpointer.start(self.path.clone());
    }

    /// Reads with an idle connection, or with a new one.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ClientError> {
        let idle = lock(&self.readers).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => open_reader(&self.path)?,
        };
        let result = read(&reader);

        // A transaction that was left open would show its old state to the next reader.
        let mut readers = lock(&self.readers);
        if reader.is_autocommit() && readers.len() < IDLE_READERS_MAX {
            readers.push(reader);
        }

        Ok(result?)
    }
}

impl Writers {
    /// Runs a local transaction. Returns its result and the tables it changed.
    pub(crate) fn write<T, E: From<rusqlite::Error>>(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<(T, BTreeSet<String>), E> {
        lock(&self.changed).clear();
        let tx = self.app.transaction_with_behavior(TransactionBehavior::Immediate)?;

        queue::begin_unit(&tx)?;
        let result = write(&tx)?;
        let mut tables = std::mem::take(&mut *lock(&self.changed));

        // The update hook does not fire for tables without rowid. The queue knows those.
        let captured = "SELECT DISTINCT name FROM _tw_queue AS queue \
                        JOIN _tw_types AS types ON types.id = queue.type \
                        WHERE tx_id = (SELECT tx_id FROM _tw_state)";
        let mut select = tx.prepare_cached(captured)?;
        for name in select.query_map([], |row| row.get(0))? {
            tables.insert(name?);
        }
        drop(select);

        queue::end_unit(&tx)?;
        tx.commit()?;
        tables.retain(|name| !name.starts_with(INTERNAL_PREFIX));
        Ok((result, tables))
    }

    /// Releases the space that staged operations took to the file system, if it is much.
    pub(crate) fn release_free_pages(&self) -> rusqlite::Result<()> {
        let (free, all): (i64, i64) = self.sync.query_row(
            "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;

        if free >= FREE_PAGES_MIN && free >= all / 4 {
            // Each step of the statement releases one page.
            let mut vacuum = self.sync.prepare("PRAGMA incremental_vacuum")?;
            let mut steps = vacuum.query([])?;
            while steps.next()?.is_some() {}
        }
        Ok(())
    }

    /// Deletes all synced rows and everything that waits to be sent. The client's identity stays.
    pub(crate) fn clear(&mut self, tables: &BTreeSet<String>) -> rusqlite::Result<()> {
        let tx = self.sync.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Keeps the triggers from capturing the deletions.
        tx.execute("UPDATE _tw_state SET applying = 1", [])?;

        for table in tables {
            tx.execute_batch(&format!("DELETE FROM {}", quote(table)))?;
        }
        tx.execute_batch(
            "DELETE FROM _tw_buckets; DELETE FROM _tw_rows; DELETE FROM _tw_packs;
             DELETE FROM _tw_staged; DELETE FROM _tw_snapshots; DELETE FROM _tw_touched;
             DELETE FROM _tw_queue; DELETE FROM _tw_rejected; DELETE FROM _tw_replaced;
             UPDATE _tw_state SET applying = 0, gate = 0, checkpoint = NULL, synced_at_ms = NULL,
                 user_id = NULL;",
        )?;

        tx.commit()
    }
}

fn open_writer(path: &Path) -> Result<Connection, ClientError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS_MAX);
    // This comes first, because SQLite applies it to an empty file only.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    Ok(connection)
}

fn open_reader(path: &Path) -> Result<Connection, ClientError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(connection)
}

/// Notes each table that the connection changes.
fn watch_tables(
    connection: &mut Connection,
    changed: Arc<Mutex<BTreeSet<String>>>,
) -> rusqlite::Result<()> {
    connection.update_hook(Some(move |_: RowAction, _: &str, table: &str, _: i64| {
        let mut changed = lock(&changed);
        // Called for each row: allocates only for the first of a table.
        if !changed.contains(table) {
            changed.insert(table.to_owned());
        }
    }))
}
