//! The database file: its connections, and who may write when.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::Action as RowAction;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tidewater_protocol::Checkpoint;

use crate::db::migrate;
use crate::db::queue;
use crate::db::snapshot_files::SnapshotFiles;
use crate::db::staging::Staging;
use crate::db::table_plan::{TablePlan, quote};
use crate::db::wal_checkpointer::WriteBack;
use crate::error::ClientError;
use crate::publish::apply::{self, Applied, ApplyError, Plans, Tables};
use crate::publish::merge::Merging;
use crate::schema::{INTERNAL_PREFIX, Schema};

/// How long a write waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections kept open for reading.
const IDLE_READERS_MAX: usize = 4;
const STATEMENTS_MAX: usize = 128;
/// Fewer free pages than this (8 MiB) are kept for the next checkpoint.
const FREE_PAGES_MIN: i64 = 2_048;
/// A big checkpoint makes a big WAL; what it leaves behind is cut to this.
const WAL_BYTES_KEPT: i64 = 8 << 20;

pub(crate) struct Database {
    // Dropped first: it has to end before the last connection does.
    write_back: WriteBack,
    pub(crate) path: PathBuf,
    pub(crate) client_id: String,
    // Dropped before the writers: only a writer that is closed last can tidy the WAL away.
    readers: Mutex<Vec<Connection>>,
    writers: Mutex<Writers>,
}

/// SQLite has one writer at a time; in one process this lock queues them.
pub(crate) struct Writers {
    /// The app's: foreign keys are enforced, and what it writes is captured.
    app: Connection,
    /// Ours. Foreign keys are not enforced: what a user may see need not include what it refers
    /// to, and the server's state is shown as it is. Constraints of the source hold already.
    pub(crate) sync: Connection,
    pub(crate) plans: Plans,
    pub(crate) staging: Staging,
    pub(crate) generation: i64,
    pub(crate) merging: Merging,
    changed: Arc<Mutex<BTreeSet<String>>>,
}

impl Database {
    pub(crate) fn open(path: &Path, schema: &Schema) -> Result<Self, ClientError> {
        let mut sync = open_writer(path)?;
        sync.pragma_update(None, "foreign_keys", false)?;
        let generation = migrate::migrate(&mut sync, schema)?;
        // Downloads can be had again: they need not wait for the disk at each line.
        sync.pragma_update(None, "synchronous", "NORMAL")?;
        let mut app = open_writer(path)?;
        app.pragma_update(None, "foreign_keys", true)?;
        // Else REPLACE deletes rows without telling the triggers.
        app.pragma_update(None, "recursive_triggers", true)?;
        app.pragma_update(None, "synchronous", "FULL")?;
        let changed = Arc::new(Mutex::new(BTreeSet::new()));
        watch_tables(&mut app, Arc::clone(&changed))?;
        let plans = schema
            .tables
            .iter()
            .map(|table| Ok((migrate::type_id(&sync, &table.name)?, TablePlan::new(table))))
            .collect::<rusqlite::Result<_>>()?;
        let client_id = queue::client_id(&sync)?;
        let staging = Staging::default();
        let merging = Merging::new(SnapshotFiles::beside(path));
        let writers = Writers { app, sync, plans, staging, generation, merging, changed };
        Ok(Self {
            write_back: WriteBack::default(),
            path: path.to_owned(),
            client_id,
            writers: Mutex::new(writers),
            readers: Mutex::default(),
        })
    }

    /// Waits for the right to write.
    pub(crate) fn writers(&self) -> MutexGuard<'_, Writers> {
        lock(&self.writers)
    }

    /// Has what a large checkpoint left in the WAL written into the file, in the background.
    pub(crate) fn write_back(&self) {
        self.write_back.begin(self.path.clone());
    }

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
        let mut readers = lock(&self.readers);
        // A transaction left open would show its old state to the next reader.
        if reader.is_autocommit() && readers.len() < IDLE_READERS_MAX {
            readers.push(reader);
        }
        Ok(result?)
    }
}

impl Writers {
    /// Runs a local transaction. Returns its result and the tables it changed.
    pub(crate) fn write<T>(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<(T, BTreeSet<String>)> {
        lock(&self.changed).clear();
        let tx = self.app.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Writes of other connections that were captured before stay a transaction of their own.
        queue::seal(&tx)?;
        let result = write(&tx)?;
        let mut tables = std::mem::take(&mut *lock(&self.changed));
        // The hook that fills `changed` does not fire for tables without rowid.
        let captured = "SELECT DISTINCT name FROM _tw_queue AS queue \
                        JOIN _tw_types AS types ON types.id = queue.type \
                        WHERE tx_id = (SELECT tx_id FROM _tw_state)";
        let mut select = tx.prepare_cached(captured)?;
        for name in select.query_map([], |row| row.get(0))? {
            tables.insert(name?);
        }
        drop(select);
        queue::seal(&tx)?;
        tx.commit()?;
        tables.retain(|name| !name.starts_with(INTERNAL_PREFIX));
        Ok((result, tables))
    }

    /// Publishes what is staged; see [`apply::apply`].
    pub(crate) fn apply(&mut self, checkpoint: &Checkpoint) -> Result<Applied, ApplyError> {
        let tables = Tables { plans: &self.plans, generation: self.generation };
        apply::apply(&mut self.sync, tables, &mut self.merging, checkpoint)
    }

    /// Gives the space that staged operations took back to the system, if it is much.
    pub(crate) fn shrink(&self) -> rusqlite::Result<()> {
        let (free, all): (i64, i64) = self.sync.query_row(
            "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if free >= FREE_PAGES_MIN && free >= all / 4 {
            // One page a step.
            let mut vacuum = self.sync.prepare("PRAGMA incremental_vacuum")?;
            let mut steps = vacuum.query([])?;
            while steps.next()?.is_some() {}
        }
        Ok(())
    }

    /// Deletes all that was synced and all that waits to be; the client's identity stays.
    pub(crate) fn clear(&mut self) -> rusqlite::Result<BTreeSet<String>> {
        let tx = self.sync.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute("UPDATE _tw_state SET applying = 1", [])?;
        for plan in self.plans.values() {
            tx.execute_batch(&format!("DELETE FROM {}", quote(&plan.name)))?;
        }
        tx.execute_batch(
            "DELETE FROM _tw_buckets; DELETE FROM _tw_rows; DELETE FROM _tw_packs;
             DELETE FROM _tw_staged; DELETE FROM _tw_snapshots; DELETE FROM _tw_touched;
             DELETE FROM _tw_queue; DELETE FROM _tw_rejected;
             UPDATE _tw_state SET applying = 0, gate = 0, checkpoint = NULL, synced_at_ms = NULL;",
        )?;
        tx.commit()?;
        Ok(self.plans.values().map(|plan| plan.name.clone()).collect())
    }
}

fn open_writer(path: &Path) -> Result<Connection, ClientError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Has to come first: it counts only for a file without content.
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

fn watch_tables(
    connection: &mut Connection,
    changed: Arc<Mutex<BTreeSet<String>>>,
) -> rusqlite::Result<()> {
    connection.update_hook(Some(move |_: RowAction, _: &str, table: &str, _: i64| {
        let mut changed = lock(&changed);
        if !changed.contains(table) {
            changed.insert(table.to_owned());
        }
    }))
}

/// What the locks guard is valid between any two statements, so a panic elsewhere spoils nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
