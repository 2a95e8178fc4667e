//! The client as an app sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection as SqliteConnection, OptionalExtension, Transaction};
use serde_json::{Map, Value};
use tidewater_protocol::{Extensions, OpId, StreamRequest, Streams};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, watch};
use tracing::warn;

use crate::connector::{Connector, Credentials};
use crate::core::{Core, Event, Settings};
use crate::db::database::{Database, lock};
use crate::db::file_lock::FileLock;
use crate::db::queue::{self, RejectedUpload};
use crate::db::snapshot_files::SnapshotFiles;
use crate::error::ClientError;
use crate::net::http::{self, Endpoint};
use crate::schema::Schema;
use crate::status::{Connection, Status};
use crate::sync::io_task::Io;
use crate::sync::sync_thread::{Meter, Worker};

/// Lines that may wait while the database is busy. A line is a few MB at most.
const LINES_WAITING: usize = 4;
/// Changes that a slow subscriber may lag behind before it has to look at everything again.
const CHANGES_KEPT: usize = 256;

/// Choices of the app. The default is right for a Tidewater server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Recompute each operation's own checksum. On by default; to be switched off against a
    /// PowerSync service, whose operations are hashed in another way.
    pub verify_operations: bool,
    /// Pause before a server that has ended the stream is asked again. 5 s by default.
    pub poll_interval: Duration,
    /// Take buckets as snapshots where the server offers them, which is many times faster than
    /// row by row. On by default; a server that knows no snapshots sends rows either way.
    pub snapshots: bool,
    /// Connection parameters, which the sync config can use. Not authenticated.
    pub parameters: Option<Map<String, Value>>,
    /// Which streams; by default those that subscribe by themselves.
    pub streams: Option<Streams>,
    /// For the server's logs.
    pub app_metadata: BTreeMap<String, String>,
    /// [`Client::sync_once`] gives up after this many failures in a row. 5 by default.
    pub failures_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verify_operations: true,
            poll_interval: Duration::from_secs(5),
            snapshots: true,
            parameters: None,
            streams: None,
            app_metadata: BTreeMap::new(),
            failures_max: 5,
        }
    }
}

/// Rows of some tables changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The tables.
    pub tables: BTreeSet<String>,
    /// What changed them.
    pub origin: ChangeOrigin,
}

/// What changed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOrigin {
    /// A local transaction.
    Local,
    /// A checkpoint became visible.
    Checkpoint(OpId),
}

/// A SQLite database that is kept in sync.
///
/// Cheap to clone; the clones are one client. Reading and writing work whether it is connected or
/// not, and block the calling thread as SQLite does.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    options: Options,
    session: Mutex<Option<Session>>,
}

/// What the app's calls and the worker have in common.
pub(crate) struct Shared {
    pub(crate) database: Database,
    pub(crate) status: watch::Sender<Status>,
    changes: broadcast::Sender<Change>,
}

struct Session {
    events: mpsc::UnboundedSender<Event<'static>>,
    meter: watch::Receiver<()>,
    worker: JoinHandle<Meter>,
}

impl Client {
    /// Opens or makes the database file and takes it to the schema.
    ///
    /// New tables, columns and indexes are added; anything else that differs is an error which
    /// names it, and leaves the file as it was. Rows of tables that the schema lacks are kept, and
    /// appear when it gains the table.
    ///
    /// # Errors
    /// [`ClientError::SchemaChange`], [`ClientError::NewerFormat`] or [`ClientError::Sqlite`].
    pub fn open(
        path: impl AsRef<Path>,
        schema: &Schema,
        options: Options,
    ) -> Result<Self, ClientError> {
        let database = Database::open(path.as_ref(), schema)?;
        let (status, _) = watch::channel(Status::default());
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let shared = Arc::new(Shared { database, status, changes });
        shared.refresh();
        Ok(Self { inner: Arc::new(Inner { shared, options, session: Mutex::new(None) }) })
    }

    /// Identity of the database file, under which its uploads are known.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.inner.shared.database.client_id
    }

    /// Reads. Each call sees whole checkpoints and whole local transactions; several queries see
    /// the same state only within a transaction, which `read` may begin.
    ///
    /// # Errors
    /// Those of `read`, and of opening the file.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&SqliteConnection) -> rusqlite::Result<T>,
    ) -> Result<T, ClientError> {
        self.inner.shared.database.read(read)
    }

    /// Writes, as one local transaction: what it changes in synced tables is sent to the backend
    /// as one unit. Waits for other writers, a checkpoint being made visible among them.
    ///
    /// # Errors
    /// Those of `write`; then nothing is changed.
    pub fn write<T>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, ClientError> {
        let shared = &self.inner.shared;
        let (result, tables) = shared.database.writers().write(write)?;
        shared.refresh();
        shared.notify(Change { tables, origin: ChangeOrigin::Local });
        if let Some(session) = &*lock(&self.inner.session) {
            let _ = session.events.send(Event::LocalWrite);
        }
        Ok(result)
    }

    /// Connects, and stays so until [`Client::disconnect`]. Returns at once; see
    /// [`Client::status`]. Without a connector local writes wait.
    ///
    /// # Errors
    /// [`ClientError::Connected`], [`ClientError::Locked`] if another process syncs the file, or
    /// [`ClientError::Endpoint`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
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
        *session = Some(self.start(endpoint, credentials, connector)?);
        Ok(())
    }

    fn start(
        &self,
        endpoint: &str,
        credentials: Arc<dyn Credentials>,
        connector: Option<Arc<dyn Connector>>,
    ) -> Result<Session, ClientError> {
        let shared = Arc::clone(&self.inner.shared);
        let endpoint = Endpoint::new(endpoint)?;
        let http = http::client()?;
        let lock = FileLock::take(&shared.database.path)?;
        let (events, event_receiver) = mpsc::unbounded_channel();
        let (received, received_receiver) = mpsc::channel(LINES_WAITING);
        let (commands, command_receiver) = mpsc::unbounded_channel();
        let (ended, meter) = watch::channel(());
        let client_id = shared.database.client_id.clone();
        let has_connector = connector.is_some();
        let io = Io {
            snapshots: SnapshotFiles::beside(&shared.database.path),
            http,
            endpoint,
            client_id,
            credentials,
            connector,
            events: events.downgrade(),
            received,
        };
        let worker = Worker {
            core: Core::new(self.settings(has_connector)),
            shared,
            commands,
            meter: Meter::start(),
            _lock: lock,
        };
        let runtime = Handle::current();
        runtime.spawn(io.run(command_receiver));
        let worker = std::thread::Builder::new()
            .name("tidewater-sync".to_owned())
            .spawn(move || {
                let _ended = ended;
                runtime.block_on(worker.run(event_receiver, received_receiver))
            })
            .map_err(|source| ClientError::File { path: "a thread".to_owned(), source })?;
        let _ = events.send(Event::Start);
        Ok(Session { events, meter, worker })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    fn settings(&self, has_connector: bool) -> Settings {
        let options = &self.inner.options;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).expect("the operating system gives random bytes");
        let app_metadata = &options.app_metadata;
        Settings {
            request: StreamRequest {
                buckets: Vec::new(),
                include_checksum: true,
                raw_data: true,
                parameters: options.parameters.clone(),
                client_id: Some(self.client_id().to_owned()),
                streams: Some(options.streams.clone().unwrap_or_default()),
                app_metadata: (!app_metadata.is_empty()).then(|| app_metadata.clone()),
                tidewater: options.snapshots.then_some(Extensions { snapshots: 1 }),
            },
            verify_operations: options.verify_operations,
            has_connector,
            poll_interval: options.poll_interval,
            seed: u64::from_le_bytes(seed),
        }
    }

    /// Stops syncing, once what is being stored is stored. Does nothing when not connected.
    pub async fn disconnect(&self) {
        self.end_session().await;
    }

    pub(crate) async fn end_session(&self) -> Option<Meter> {
        let Session { events, mut meter, worker } = lock(&self.inner.session).take()?;
        drop(events);
        // The thread drops its end when it ends.
        while meter.changed().await.is_ok() {}
        let meter = worker.join().ok();
        self.inner.shared.status.send_modify(|status| {
            status.connection = Connection::Disconnected;
            status.downloading = None;
            status.uploading = false;
        });
        meter
    }

    /// Stops syncing and deletes everything that was synced, what waits to be sent and what was
    /// rejected. For a change of user; when the same user comes back, [`Client::disconnect`] and
    /// a later [`Client::connect`] save the download. Tables outside of the schema stay.
    ///
    /// # Errors
    /// When the database refuses; then it is as before.
    pub async fn disconnect_and_clear(&self) -> Result<(), ClientError> {
        self.disconnect().await;
        let shared = &self.inner.shared;
        let mut writers = shared.database.writers();
        let tables = writers.clear()?;
        if let Err(error) = writers.merging.clear() {
            // They hold nothing that counts any more, and go after the next checkpoint.
            warn!(%error, "cannot remove the files of snapshots");
        }
        drop(writers);
        shared.refresh();
        shared.notify(Change { tables, origin: ChangeOrigin::Checkpoint(OpId::ZERO) });
        Ok(())
    }

    /// The network is back, or the app in the foreground: waits of back-offs are cut short.
    pub fn network_available(&self) {
        if let Some(session) = &*lock(&self.inner.session) {
            let _ = session.events.send(Event::NetworkUp);
        }
    }

    /// The client's condition, to be looked at or watched.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.shared.status.subscribe()
    }

    /// Tells after each local transaction and each visible checkpoint which tables changed. A
    /// receiver that lags far behind is told so and has to look at everything again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.shared.changes.subscribe()
    }

    /// Local transactions that the backend refused, oldest first. They stay until discarded.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn rejected(&self) -> Result<Vec<RejectedUpload>, ClientError> {
        self.read(queue::rejected)
    }

    /// Forgets a rejected transaction. False if there is none of this number.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn discard_rejected(&self, transaction_id: i64) -> Result<bool, ClientError> {
        let writers = self.inner.shared.database.writers();
        let is_found = queue::discard_rejected(&writers.sync, transaction_id)?;
        drop(writers);
        self.inner.shared.refresh();
        Ok(is_found)
    }
}

impl Shared {
    /// Takes queue, checkpoint and rejections over into the status.
    pub(crate) fn refresh(&self) {
        self.refresh_after(0);
    }

    /// The same after a checkpoint became visible.
    pub(crate) fn published(&self) {
        self.refresh_after(1);
    }

    fn refresh_after(&self, published: u64) {
        let stored = self.database.read(|connection| {
            let lengths = queue::lengths(connection)?;
            let sql = "SELECT checkpoint, synced_at_ms FROM _tw_state";
            let synced: Option<(Option<i64>, Option<i64>)> =
                connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            Ok((lengths, synced.unwrap_or_default()))
        });
        // The status is a courtesy: whoever needs the database will meet its error.
        let Ok(((queue_length, rejected), (checkpoint, synced_at_ms))) = stored else { return };
        self.status.send_if_modified(|status| {
            let before = status.clone();
            status.published += published;
            status.queue_length = queue_length;
            status.rejected = rejected;
            status.checkpoint = checkpoint.and_then(OpId::from_i64);
            status.synced_at_ms = synced_at_ms;
            *status != before
        });
    }

    pub(crate) fn notify(&self, change: Change) {
        if !change.tables.is_empty() {
            // Nobody may be listening.
            let _ = self.changes.send(change);
        }
    }
}
