//! Runs WAL checkpoints on a background thread, so that commits do not wait for them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tracing::warn;

use super::schema;

/// The number of WAL pages (4 KiB each) at which the background thread starts a checkpoint: 4 MB, as
/// SQLite's own default.
const PAGES_KEPT: i64 = 1_000;
/// The number of WAL pages (64 MiB) at which the writer stops and runs the checkpoint itself. SQLite
/// restarts the WAL only when a write finds all of it checkpointed, and a background thread beside a
/// busy writer never gets that far.
const PAGES_MAX: i64 = 16_384;

/// A background thread that runs checkpoints after commits. Otherwise the writer would run them and
/// wait for the disk.
#[derive(Debug)]
pub(super) struct WalCheckpointer {
    shared: Arc<Shared>,
    file: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Serializes checkpoints: SQLite rejects a concurrent one.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    committed: bool,
    closed: bool,
}

impl WalCheckpointer {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { shared: Arc::default(), file, thread: Mutex::default() }
    }

    /// Runs a checkpoint on the writer's connection, between its transactions, if the WAL is too long.
    pub(super) fn checkpoint_if_large(&self, writer: &Connection) {
        if let Err(error) = self.shared.checkpoint_if_too_long(writer) {
            // Committed transactions are safe in the WAL. The next commit tries again.
            warn!(%error, "WAL checkpoint failed");
        }
    }

    /// Notifies the background thread of a commit.
    pub(super) fn committed(&self) {
        self.shared.state().committed = true;
        self.shared.wake.notify_one();

        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let file = self.file.clone();
            let spawned = std::thread::Builder::new()
                .name("tidewater-log".into())
                .spawn(move || shared.run(&file));
            match spawned {
                Ok(spawned) => *thread = Some(spawned),
                Err(error) => warn!(%error, "cannot start the WAL checkpoint thread"),
            }
        }
    }
}

impl Drop for WalCheckpointer {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.wake.notify_one();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its connection must be closed before a temporary directory is removed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checkpoint_if_too_long(&self, writer: &Connection) -> rusqlite::Result<()> {
        if WalPages::count(writer)?.total >= PAGES_MAX {
            let _turn = self.turn();
            wal_checkpoint(writer)?;
        }
        Ok(())
    }

    fn checkpoint_if_large(
        &self,
        file: &Path,
        connection: &mut Option<Connection>,
    ) -> rusqlite::Result<()> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(schema::connect(file)?),
        };
        if WalPages::count(connection)?.waiting >= PAGES_KEPT {
            let _turn = self.turn();
            wal_checkpoint(connection)?;
        }
        Ok(())
    }

    fn run(&self, file: &Path) {
        let mut connection = None;
        loop {
            let mut state = self.state();
            while !state.committed && !state.closed {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            state.committed = false;
            drop(state);

            if let Err(error) = self.checkpoint_if_large(file, &mut connection) {
                warn!(%error, "WAL checkpoint failed");
                connection = None;
            }
        }
    }
}

/// The numbers of pages in the WAL.
struct WalPages {
    total: i64,
    /// The number of pages that are not in the database file yet.
    waiting: i64,
}

impl WalPages {
    fn count(connection: &Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row((), |row| {
            let total = row.get(1)?;
            Ok(Self { total, waiting: total - row.get::<_, i64>(2)? })
        })
    }
}

/// Moves as many pages into the database file as the readers allow.
fn wal_checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row((), |_| Ok(()))
}
