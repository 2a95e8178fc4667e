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

    /// Moves the pages of a log that has grown too long, on the writer's connection and between its
    /// transactions.
    pub(super) fn checkpoint_if_large(&self, writer: &Connection) {
        let checkpoint_if_large = || {
            if Log::of(writer)?.pages >= PAGES_MAX {
                let _turn = self.shared.turn();
                wal_checkpoint(writer)?;
            }
            Ok::<_, rusqlite::Error>(())
        };
        if let Err(error) = checkpoint_if_large() {
            // What was committed is safe in the log; the next commit tries again.
            warn!(%error, "WAL checkpoint failed");
        }
    }

    /// Something was committed.
    pub(super) fn committed(&self) {
        self.shared.state().committed = true;
        self.shared.wake.notify_one();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (shared, file) = (Arc::clone(&self.shared), self.file.clone());
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
            // Waited for so that its connection is closed before the files go.
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

    fn checkpoint_if_large(
        &self,
        file: &Path,
        connection: &mut Option<Connection>,
    ) -> rusqlite::Result<()> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(schema::connect(file)?),
        };
        if Log::of(connection)?.waiting >= PAGES_KEPT {
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

/// SQLite's log.
struct Log {
    pages: i64,
    /// The number of pages that are not in the database file yet.
    waiting: i64,
}

impl Log {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row((), |row| {
            let pages = row.get(1)?;
            Ok(Self { pages, waiting: pages - row.get::<_, i64>(2)? })
        })
    }
}

/// Moves as many pages as readers allow.
fn wal_checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row((), |_| Ok(()))
}
