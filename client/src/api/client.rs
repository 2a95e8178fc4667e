//! The client: reading, writing, connecting.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::{Connection as SqliteConnection, Transaction};
use tidewater_protocol::OpId;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, watch};
use tracing::warn;

use super::options::Options;
use crate::connector::{Connector, Credentials, LocalTransaction};
use crate::core::{Core, Event, Settings};
use crate::db::database::Database;
use crate::db::file_lock::FileLock;
use crate::db::migrate;
use crate::db::queue;
use crate::db::queue::rejected::{self, RejectedUpload};
use crate::db::snapshot_files::SnapshotFiles;
use crate::error::ClientError;
use crate::lock::lock;
use crate::net::http::{self, Endpoint};
use crate::publish::CheckpointPublisher;
use crate::schema::Schema;
use crate::status::{Connection, Status};
use crate::sync::io_task::IoTask;
use crate::sync::shared::{Change, ChangeOrigin, Shared};
use crate::sync::stats::SyncStats;
use crate::sync::thread::SyncThread;

/// The number of lines that may wait while the database is busy. A line is a few MB at most, so
/// this bounds the memory.
const LINES_WAITING: usize = 4;
/// The number of changes that a slow subscriber may lag behind. With more, its receiver reports
/// that it has missed some.
const CHANGES_KEPT: usize = 256;

/// A SQLite database that is kept in sync.
///
/// Clones are cheap and share one client. Reading and writing work with and without a connection,
/// and block the calling thread, as SQLite does.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    options: Options,
    session: Mutex<Option<SyncSession>>,
}

/// A connected client's thread and task. They end when `events` is dropped.
struct SyncSession {
    events: mpsc::UnboundedSender<Event<'static>>,
    /// Closes when the thread has ended.
    ended: watch::Receiver<()>,
    thread: JoinHandle<SyncStats>,
}

impl Client {
    /// Opens or creates the database file, and migrates it to the schema.
    ///
    /// New tables, columns and indexes are added. Any other difference is an error that names it,
    /// and leaves the file as it was. Rows of types that the schema lacks are kept. They appear
    /// when the schema gains the table.
    ///
    /// # Errors
    /// Fails with [`ClientError::SchemaChange`], [`ClientError::NewerFormat`] or
    /// [`ClientError::Sqlite`].
    pub fn open(
        path: impl AsRef<Path>,
        schema: &Schema,
        options: Options,
    ) -> Result<Self, ClientError> {
        let database = Database::open(path.as_ref(), schema)?;
        let publisher = CheckpointPublisher::new(&database, schema)?;
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let shared = Arc::new(Shared::new(database, publisher, changes));
        shared.refresh_status();

        Ok(Self { inner: Arc::new(Inner { shared, options, session: Mutex::new(None) }) })
    }

    /// Opens an existing database file with the schema that it has; for tools.
    ///
    /// # Errors
    /// Fails with [`ClientError::NoDatabase`], [`ClientError::NewerFormat`] or
    /// [`ClientError::Sqlite`].
    pub fn open_existing(path: impl AsRef<Path>, options: Options) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let schema = migrate::schema_of_file(path)?;
        Self::open(path, &schema, options)
    }

    /// Returns the identity of the database file, under which the backend knows its uploads.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.inner.shared.database.client_id
    }

    /// Reads. Each statement sees whole checkpoints and whole local transactions. Several
    /// statements see the same state only within a transaction, which `read` may begin.
    ///
    /// # Errors
    /// Fails with [`ClientError::Sqlite`], which has the error of `read`, or of opening the file.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&SqliteConnection) -> rusqlite::Result<T>,
    ) -> Result<T, ClientError> {
        self.inner.shared.database.read(read)
    }

    /// Writes, as one local transaction: its changes to synced tables are sent to the backend as
    /// one unit. Waits for other writers, and for a checkpoint that is being published.
    ///
    /// # Errors
    /// Fails with [`ClientError::Sqlite`], which has the error of `write`. Nothing is changed then.
    pub fn write<T>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, ClientError> {
        self.write_or(write)
    }

    /// Writes, and returns the error of `write` as it is.
    fn write_or<T, E>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, ClientError>
    where
        E: From<rusqlite::Error>,
        ClientError: From<E>,
    {
        let shared = &self.inner.shared;
        let (result, tables) = shared.database.writers().write(write)?;

        shared.refresh_status();
        shared.notify(Change { tables, origin: ChangeOrigin::Local });
        if let Some(session) = &*lock(&self.inner.session) {
            let _ = session.events.send(Event::LocalWrite);
        }
        Ok(result)
    }

    /// Connects, and stays connected until [`Client::disconnect`]. Returns at once: follow
    /// [`Client::status`]. Without a connector, local writes wait.
    ///
    /// # Errors
    /// Fails with [`ClientError::Connected`], [`ClientError::Endpoint`], or [`ClientError::Locked`]
    /// if another client syncs the file.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub fn connect(
        &self,
        endpoint: &str,
        credentials: Arc<dyn Credentials>,
        connector: Option<Arc<dyn Connector>>,
    ) -> Result<(), ClientError> {
        let mut session = lock(&self.inner.session);
        if session.is_some() {
            return Err(ClientError::Connected);
        }

        *session = Some(self.start_session(endpoint, credentials, connector)?);
        Ok(())
    }

    fn start_session(
        &self,
        endpoint: &str,
        credentials: Arc<dyn Credentials>,
        connector: Option<Arc<dyn Connector>>,
    ) -> Result<SyncSession, ClientError> {
        let shared = Arc::clone(&self.inner.shared);
        let endpoint = Endpoint::new(endpoint)?;
        let http = http::client()?;
        let lock = FileLock::acquire(&shared.database.path)?;

        let (events, event_receiver) = mpsc::unbounded_channel();
        let (received, received_receiver) = mpsc::channel(LINES_WAITING);
        let (commands, command_receiver) = mpsc::unbounded_channel();
        let (running, ended) = watch::channel(());

        let core = Core::new(self.settings(connector.is_some()));
        let io_task = IoTask {
            snapshots: SnapshotFiles::beside(&shared.database.path),
            http,
            endpoint,
            client_id: shared.database.client_id.clone(),
            credentials,
            connector,
            events: events.downgrade(),
            received,
        };
        let sync_thread =
            SyncThread { core, shared, commands, stats: SyncStats::start(), _lock: lock };

        let runtime = Handle::current();
        runtime.spawn(io_task.run(command_receiver));
        let thread = std::thread::Builder::new()
            .name("tidewater-sync".to_owned())
            .spawn(move || {
                // Dropped at the end of the thread, also by a panic: this is how the end is
                // noticed.
                let _running = running;
                runtime.block_on(sync_thread.run(event_receiver, received_receiver))
            })
            .map_err(|source| ClientError::File { path: "a thread".to_owned(), source })?;

        let _ = events.send(Event::Start);
        Ok(SyncSession { events, ended, thread })
    }

    pub(super) fn options(&self) -> &Options {
        &self.inner.options
    }

    fn settings(&self, has_connector: bool) -> Settings {
        let options = &self.inner.options;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).expect("the operating system gives random bytes");

        Settings {
            request: options.stream_request(self.client_id()),
            verify_operations: options.verify_operations,
            has_connector,
            poll_interval: options.poll_interval,
            seed: u64::from_le_bytes(seed),
        }
    }

    /// Stops syncing after the operation that is being stored. Does nothing if the client is not
    /// connected.
    pub async fn disconnect(&self) {
        self.end_session().await;
    }

    /// Ends the session and returns its totals, if there was one.
    pub(super) async fn end_session(&self) -> Option<SyncStats> {
        let SyncSession { events, mut ended, thread } = lock(&self.inner.session).take()?;
        drop(events);

        // Waits for the thread without blocking the runtime.
        while ended.changed().await.is_ok() {}
        let stats = thread.join().ok();

        self.inner.shared.status.send_modify(|status| {
            status.connection = Connection::Disconnected;
            status.downloading = None;
            status.uploading = false;
        });
        stats
    }

    /// Stops syncing, and deletes all synced rows, the upload queue and the rejected transactions.
    ///
    /// This is for a change of user. If the same user comes back, [`Client::disconnect`] and a
    /// later [`Client::connect`] save the download. Tables outside of the schema stay.
    ///
    /// # Errors
    /// Fails with [`ClientError::Sqlite`]. The database is unchanged then.
    pub async fn disconnect_and_clear(&self) -> Result<(), ClientError> {
        self.disconnect().await;
        let shared = &self.inner.shared;

        let mut writers = shared.database.writers();
        let mut publisher = shared.publisher();
        let tables = publisher.table_names();
        writers.clear(&tables)?;
        if let Err(error) = publisher.clear_snapshots() {
            // No bucket refers to the files any more. The next checkpoint removes them.
            warn!(%error, "cannot remove the files of snapshots");
        }
        drop(publisher);
        drop(writers);

        shared.refresh_status();
        shared.notify(Change { tables, origin: ChangeOrigin::Checkpoint(OpId::ZERO) });
        Ok(())
    }

    /// Cuts back-offs short. Call it when the network is back or the app comes to the foreground.
    pub fn network_available(&self) {
        if let Some(session) = &*lock(&self.inner.session) {
            let _ = session.events.send(Event::NetworkUp);
        }
    }

    /// Returns the client's condition, to be read or watched.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.shared.status.subscribe()
    }

    /// Subscribes to changes: which tables changed, after each local transaction and each visible
    /// checkpoint. A receiver that lags far behind gets an error, and has to read everything again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.shared.changes.subscribe()
    }

    /// Returns the local transactions that the backend rejected, oldest first. They stay until
    /// discarded.
    ///
    /// # Errors
    /// Fails with [`ClientError::Sqlite`] if the database cannot be read.
    pub fn rejected(&self) -> Result<Vec<RejectedUpload>, ClientError> {
        self.read(rejected::all)
    }

    /// Returns the local transactions that wait to be sent, oldest first.
    ///
    /// # Errors
    /// Fails with [`ClientError::Sqlite`] if the database cannot be read.
    pub fn queued(&self) -> Result<Vec<LocalTransaction>, ClientError> {
        self.read(queue::queued)
    }

    /// Makes the changes of a rejected transaction again, as a new local transaction at the end of
    /// the queue, and removes the rejected one. Returns `false` if none has this number.
    ///
    /// # Errors
    /// Fails with [`ClientError::Retry`] if a row or column is gone or another user made the
    /// transaction, and with [`ClientError::Sqlite`] if the tables refuse a change. Nothing is
    /// changed then.
    pub fn retry_rejected(&self, transaction_id: i64) -> Result<bool, ClientError> {
        self.write_or(|tx| rejected::retry(tx, transaction_id))
    }

    /// Deletes a local transaction that waits to be sent. Returns `false` if none has this number.
    ///
    /// The next checkpoint reverts its rows to the server's state. If it is being sent at this moment,
    /// it may take effect nevertheless.
    ///
    /// # Errors
    /// Fails with [`ClientError::Sqlite`] if the database cannot be written.
    pub fn discard_queued(&self, transaction_id: i64) -> Result<bool, ClientError> {
        let writers = self.inner.shared.database.writers();
        let is_found = queue::discard(&writers.sync, transaction_id)?;
        drop(writers);

        self.inner.shared.refresh_status();
        Ok(is_found)
    }

    /// Deletes a rejected transaction. Returns `false` if none has this number.
    ///
    /// # Errors
    /// Fails with [`ClientError::Sqlite`] if the database cannot be written.
    pub fn discard_rejected(&self, transaction_id: i64) -> Result<bool, ClientError> {
        let writers = self.inner.shared.database.writers();
        let is_found = rejected::discard(&writers.sync, transaction_id)?;
        drop(writers);

        self.inner.shared.refresh_status();
        Ok(is_found)
    }
}
