//! The asynchronous half of a session: requests and timers. It decides nothing; each command's
//! result goes to the worker as an event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::{SnapshotLine, StreamRequest};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::connector::{Connector, Credentials, LocalTransaction};
use crate::core::{Closed, Event, Timer};
use crate::db::snapshot_files::SnapshotFiles;
use crate::net::fetch;
use crate::net::http::{self, Endpoint};

/// An app that waits for its user to sign in says so by an error, not by waiting.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Something to be done without blocking the worker.
#[derive(Debug)]
pub(crate) enum Command {
    FetchToken,
    Open {
        connection: u64,
        token: String,
        request: Box<StreamRequest>,
    },
    Close,
    /// Until the next `Open` or `Close`.
    FetchSnapshot {
        connection: u64,
        line: Arc<SnapshotLine>,
    },
    Upload(LocalTransaction),
    WriteCheckpoint {
        token: String,
        mark: i64,
    },
    Timer {
        timer: Timer,
        after: Duration,
    },
}

/// What a stream brings, in its order.
#[derive(Debug)]
pub(crate) enum Received {
    Opened { connection: u64 },
    Line { connection: u64, line: Bytes },
    Closed { connection: u64, reason: Closed },
}

pub(crate) struct Io {
    pub(crate) http: reqwest::Client,
    pub(crate) endpoint: Endpoint,
    pub(crate) snapshots: SnapshotFiles,
    pub(crate) client_id: String,
    pub(crate) credentials: Arc<dyn Credentials>,
    pub(crate) connector: Option<Arc<dyn Connector>>,
    /// Weak: the session ends when the app's end is dropped.
    pub(crate) events: mpsc::WeakUnboundedSender<Event<'static>>,
    /// Bounded: a worker that is busy storing slows the download down.
    pub(crate) received: mpsc::Sender<Received>,
}

impl Io {
    /// Serves the worker until it is gone; then everything under way is dropped.
    pub(crate) async fn run(self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let io = Arc::new(self);
        let mut tasks = JoinSet::new();
        let mut stream: Option<AbortHandle> = None;
        let mut snapshot: Option<AbortHandle> = None;
        let mut timers = BTreeMap::<Timer, AbortHandle>::new();
        while let Some(command) = commands.recv().await {
            while tasks.try_join_next().is_some() {}
            let io = Arc::clone(&io);
            if matches!(command, Command::Open { .. } | Command::Close)
                && let Some(snapshot) = snapshot.take()
            {
                snapshot.abort();
            }
            match command {
                Command::FetchToken => {
                    tasks.spawn(async move { io.fetch_token().await });
                }
                Command::Open { connection, token, request } => {
                    let task = async move { io.stream(connection, token, *request).await };
                    if let Some(former) = stream.replace(tasks.spawn(task)) {
                        former.abort();
                    }
                }
                Command::Close => {
                    if let Some(stream) = stream.take() {
                        stream.abort();
                    }
                }
                Command::FetchSnapshot { connection, line } => {
                    let task = async move { io.fetch_snapshot(connection, &line).await };
                    snapshot = Some(tasks.spawn(task));
                }
                Command::Upload(transaction) => {
                    tasks.spawn(async move { io.upload(transaction).await });
                }
                Command::WriteCheckpoint { token, mark } => {
                    tasks.spawn(async move { io.write_checkpoint(token, mark).await });
                }
                Command::Timer { timer, after } => {
                    let task = async move {
                        tokio::time::sleep(after).await;
                        io.tell(Event::Timer(timer));
                    };
                    if let Some(former) = timers.insert(timer, tasks.spawn(task)) {
                        former.abort();
                    }
                }
            }
        }
    }

    /// The worker may be gone: then nobody needs to know.
    fn tell(&self, event: Event<'static>) {
        if let Some(events) = self.events.upgrade() {
            let _ = events.send(event);
        }
    }

    async fn fetch_token(&self) {
        let token = tokio::time::timeout(TOKEN_TIMEOUT, self.credentials.token()).await;
        let token = token.unwrap_or_else(|_| Err("it takes too long".into()));
        self.tell(Event::Token(token.map_err(|error| format!("no token: {error}"))));
    }

    async fn upload(&self, transaction: LocalTransaction) {
        let Some(connector) = &self.connector else { return };
        let outcome = connector.upload(&transaction).await;
        self.tell(Event::Uploaded { transaction_id: transaction.transaction_id, outcome });
    }

    async fn write_checkpoint(&self, token: String, mark: i64) {
        let answer =
            http::write_checkpoint(&self.http, &self.endpoint, &token, &self.client_id).await;
        self.tell(Event::WriteCheckpoint { mark, answer });
    }

    async fn fetch_snapshot(&self, connection: u64, line: &Arc<SnapshotLine>) {
        let on_frame = |bytes, is_new| {
            self.tell(Event::FrameFetched { connection, bytes, is_new });
        };
        let base = self.endpoint.stream();
        let outcome = fetch::fetch(&self.http, base, &self.snapshots, line, on_frame).await;
        self.tell(Event::SnapshotFetched { connection, outcome });
    }

    async fn stream(&self, connection: u64, token: String, request: StreamRequest) {
        let reason = match http::open(&self.http, &self.endpoint, &token, &request).await {
            Ok(mut lines) => {
                let mut received = Received::Opened { connection };
                loop {
                    if self.received.send(received).await.is_err() {
                        return;
                    }
                    match lines.next().await {
                        Ok(line) => received = Received::Line { connection, line },
                        Err(reason) => break reason,
                    }
                }
            }
            Err(refusal) => Closed::Refused(refusal),
        };
        let _ = self.received.send(Received::Closed { connection, reason }).await;
    }
}
