//! Moves what was committed from SQLite's log into its file, beside the writer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tracing::warn;

use super::schema;

/// So many pages of 4 KiB may wait in the log. If the writer is faster than this thread it stops
/// at [`schema::LOG_PAGES_MAX`] to do the work itself.
const LOG_PAGES_KEPT: i64 = 1_000;

/// A thread that is told of commits. The writer would otherwise stop for this work after some of
/// them, for as long as the disk takes.
#[derive(Debug)]
pub(super) struct LogKeeper {
    shared: Arc<Shared>,
    file: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    committed: bool,
    closed: bool,
}

impl LogKeeper {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { shared: Arc::default(), file, thread: Mutex::default() }
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
                Err(error) => warn!(%error, "cannot start the thread that keeps the log short"),
            }
        }
    }
}

impl Drop for LogKeeper {
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
            if let Err(error) = shorten(file, &mut connection) {
                warn!(%error, "cannot move committed pages from the log into the file");
                connection = None;
            }
        }
    }
}

fn shorten(file: &Path, connection: &mut Option<Connection>) -> rusqlite::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(schema::connect(file)?),
    };
    let waiting: i64 = connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row((), |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))?;
    if waiting >= LOG_PAGES_KEPT {
        connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row((), |_| Ok(()))?;
    }
    Ok(())
}
