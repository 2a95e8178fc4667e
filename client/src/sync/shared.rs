//! The state that the app's calls and the sync thread share.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use rusqlite::OptionalExtension;
use tidewater_protocol::OpId;
use tokio::sync::{broadcast, watch};

use crate::db::database::Database;
use crate::db::queue::{self, QueueLengths};
use crate::lock::lock;
use crate::publish::CheckpointPublisher;
use crate::status::Status;

/// A notification that rows of some tables changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The tables.
    pub tables: BTreeSet<String>,
    /// The cause of the change.
    pub origin: ChangeOrigin,
}

/// The cause of a change of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOrigin {
    /// A local transaction.
    Local,
    /// A checkpoint became visible.
    Checkpoint(OpId),
}

/// The state that lives as long as the client, connected or not.
pub(crate) struct Shared {
    pub(crate) database: Database,
    /// Always locked after [`Database::writers`], never before.
    publisher: Mutex<CheckpointPublisher>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) changes: broadcast::Sender<Change>,
}

impl Shared {
    pub(crate) fn new(
        database: Database,
        publisher: CheckpointPublisher,
        changes: broadcast::Sender<Change>,
    ) -> Self {
        let (status, _) = watch::channel(Status::default());
        Self { database, publisher: Mutex::new(publisher), status, changes }
    }

    /// Locks the publisher. The caller holds the lock of [`Database::writers`].
    pub(crate) fn publisher(&self) -> MutexGuard<'_, CheckpointPublisher> {
        lock(&self.publisher)
    }

    /// Copies the stored queue lengths and the visible checkpoint into the status.
    pub(crate) fn refresh_status(&self) {
        self.refresh_after(0);
    }

    /// Refreshes the status after a checkpoint became visible.
    pub(crate) fn refresh_after_publication(&self) {
        self.refresh_after(1);
    }

    fn refresh_after(&self, publications: u64) {
        let stored = self.database.read(|connection| {
            let lengths = queue::lengths(connection)?;
            let sql = "SELECT checkpoint, synced_at_ms FROM _tw_state";
            let synced: Option<(Option<i64>, Option<i64>)> =
                connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            Ok((lengths, synced.unwrap_or_default()))
        });
        // The status is informative only: whoever needs the database meets its error.
        let Ok((QueueLengths { queued, rejected }, (checkpoint, synced_at_ms))) = stored else {
            return;
        };

        self.status.send_if_modified(|status| {
            let before = status.clone();
            status.published += publications;
            status.queue_length = queued;
            status.rejected = rejected;
            status.checkpoint = checkpoint.and_then(OpId::from_i64);
            status.synced_at_ms = synced_at_ms;
            *status != before
        });
    }

    /// Tells subscribers which tables changed.
    pub(crate) fn notify(&self, change: Change) {
        if !change.tables.is_empty() {
            // An error means that nobody is subscribed.
            let _ = self.changes.send(change);
        }
    }
}
