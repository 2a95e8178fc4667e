//! When the WAL is written back into the database file.
//!
//! SQLite does so within a commit, once the WAL has grown enough. After a snapshot that would write
//! and sync everything a second time before anybody is told of the new rows, which can be read long
//! since: what is in the WAL counts. So the commit that publishes a snapshot leaves the WAL alone,
//! and a thread of its own writes it back while the app goes on.

use std::path::PathBuf;
use std::sync::Mutex;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tracing::warn;

use crate::db::database::lock;

/// Pages in the WAL from which on a commit writes them back: SQLite's own choice.
pub(crate) const AUTOCHECKPOINT_PAGES: i64 = 1_000;

/// Writes the WAL back; dropped once it has. Else a program that ends would leave its rows in the
/// WAL, and a copy of the database file alone would lack them.
#[derive(Debug, Default)]
pub(crate) struct WriteBack {
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl WriteBack {
    /// Begins to. Nobody is kept from reading or writing meanwhile.
    pub(crate) fn begin(&self, database: PathBuf) {
        let mut running = lock(&self.thread);
        if running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let work = move || {
            // Later commits make up for what is missed.
            if let Err(error) = write_back(&database) {
                warn!(%error, "cannot write the WAL back");
            }
        };
        match thread::Builder::new().name("tidewater-wal".to_owned()).spawn(work) {
            Ok(thread) => *running = Some(thread),
            Err(error) => warn!(%error, "cannot write the WAL back"),
        }
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        let running = lock(&self.thread).take();
        if let Some(thread) = running
            && thread.join().is_err()
        {
            warn!("writing the WAL back has panicked");
        }
    }
}

fn write_back(database: &PathBuf) -> rusqlite::Result<()> {
    let connection = Connection::open(database)?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
