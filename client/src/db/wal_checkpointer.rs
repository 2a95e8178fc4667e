//! WAL checkpoints on a thread of their own.
//!
//! SQLite runs a checkpoint within the commit that finds the WAL large enough. After a snapshot
//! that would write and sync all rows a second time before the app hears of them, although rows in
//! the WAL can be read already. So the commit that publishes a snapshot skips the checkpoint, and
//! this thread makes up for it while the app goes on.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tracing::warn;

use crate::lock::lock;

/// The size of the WAL, in pages, from which on a commit runs a checkpoint. This is SQLite's own
/// default: 4 MB with pages of 4 KiB.
pub(crate) const AUTOCHECKPOINT_PAGES: i64 = 1_000;

/// Runs WAL checkpoints in the background. Dropping it waits for the one that runs: otherwise a
/// program that ends would leave its rows in the WAL, and a copy of the database file alone would
/// lack them.
#[derive(Debug, Default)]
pub(crate) struct WalCheckpointer {
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl WalCheckpointer {
    /// Starts a checkpoint, unless one runs. Blocks neither readers nor writers.
    pub(crate) fn start(&self, database: PathBuf) {
        let mut running = lock(&self.thread);
        if running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }

        let spawned = thread::Builder::new().name("tidewater-wal".to_owned()).spawn(move || {
            // A failure loses nothing: the next commit or the next start checkpoints the rest.
            if let Err(error) = wal_checkpoint(&database) {
                warn!(%error, "WAL checkpoint failed");
            }
        });
        match spawned {
            Ok(thread) => *running = Some(thread),
            Err(error) => warn!(%error, "WAL checkpoint failed: cannot start a thread"),
        }
    }
}

impl Drop for WalCheckpointer {
    fn drop(&mut self) {
        let running = lock(&self.thread).take();
        if let Some(thread) = running
            && thread.join().is_err()
        {
            warn!("the WAL checkpoint panicked");
        }
    }
}

fn wal_checkpoint(database: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open(database)?;
    // PASSIVE waits for nobody: it leaves what a reader still needs to the next checkpoint.
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
