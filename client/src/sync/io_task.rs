//! The asynchronous half of a session: requests, the stream, timers.
//!
//! It decides nothing. Each command's result goes to the sync thread as an event.

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
use crate::status::{Problem, ProblemKind};

/// The time within which the app must return a token. A user who has to sign in takes longer: the
/// app reports that by an error, not by waiting.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(60);

/// An order of the sync thread that is carried out without blocking it.
#[derive(Debug)]
pub(crate) enum Command {
    FetchToken,
    /// Replaces the stream.
    Open {
        connection: u64,
        token: String,
        request: Box<StreamRequest>,
    },
    Close,
    /// Lasts until the next `Open` or `Close` at most.
    FetchSnapshot {
        connection: u64,
        line: Arc<SnapshotLine>,
    },
    Upload(LocalTransaction),
    RequestWriteCheckpoint {
        token: String,
        queue_version: i64,
    },
    /// Replaces the same timer.
    SetTimer {
        timer: Timer,
        after: Duration,
    },
}

/// An item of a stream, in the stream's order.
#[derive(Debug)]
pub(crate) enum Received {
    Opened { connection: u64 },
    Line { connection: u64, line: Bytes },
    Closed { connection: u64, reason: Closed },
}

/// The clients, addresses and channels that commands need.
pub(crate) struct IoTask {
    pub(crate) http: reqwest::Client,
    pub(crate) endpoint: Endpoint,
    pub(crate) snapshots: SnapshotFiles,
    pub(crate) client_id: String,
    pub(crate) credentials: Arc<dyn Credentials>,
    pub(crate) connector: Option<Arc<dyn Connector>>,
    /// Weak: the session ends when the app drops its sender, and this one must not keep it open.
    pub(crate) events: mpsc::WeakUnboundedSender<Event<'static>>,
    /// Bounded: while the sync thread is busy storing, the download slows down.
    pub(crate) received: mpsc::Sender<Received>,
}

impl IoTask {
    /// Carries out commands until the sync thread is gone. Everything in flight is dropped then.
    pub(crate) async fn run(self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let io = Arc::new(self);
        let mut tasks = JoinSet::new();
        let mut stream: Option<AbortHandle> = None;
        let mut snapshot: Option<AbortHandle> = None;
        let mut timers = BTreeMap::<Timer, AbortHandle>::new();

        while let Some(command) = commands.recv().await {
            // Finished tasks are removed, so that the set does not grow with the session.
            while tasks.try_join_next().is_some() {}

            // A fetch serves the stream that announced it. The next stream starts another, which
            // continues with the frames on disk.
            if matches!(command, Command::Open { .. } | Command::Close)
                && let Some(snapshot) = snapshot.take()
            {
                snapshot.abort();
            }

            let io = Arc::clone(&io);
            match command {
                Command::FetchToken => {
                    tasks.spawn(async move { io.fetch_token().await });
                }
                Command::Open { connection, token, request } => {
                    let task = async move { io.stream(connection, token, *request).await };
                    if let Some(previous) = stream.replace(tasks.spawn(task)) {
                        previous.abort();
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
                Command::RequestWriteCheckpoint { token, queue_version } => {
                    tasks.spawn(
                        async move { io.request_write_checkpoint(token, queue_version).await },
                    );
                }
                Command::SetTimer { timer, after } => {
                    let task = async move {
                        tokio::time::sleep(after).await;
                        io.send_event(Event::Timer(timer));
                    };
                    if let Some(previous) = timers.insert(timer, tasks.spawn(task)) {
                        previous.abort();
                    }
                }
            }
        }
    }

    fn send_event(&self, event: Event<'static>) {
        // Without a sync thread nobody needs the event.
        if let Some(events) = self.events.upgrade() {
            let _ = events.send(event);
        }
    }

    async fn fetch_token(&self) {
        let token = tokio::time::timeout(TOKEN_TIMEOUT, self.credentials.token())
            .await
            .unwrap_or_else(|_| Err("the app did not return one in time".into()));
        self.send_event(Event::Token(token.map_err(|error| {
            Problem::new(ProblemKind::Credentials, format!("no token: {error}"))
        })));
    }

    async fn upload(&self, transaction: LocalTransaction) {
        let Some(connector) = &self.connector else { return };
        let outcome = connector.upload(&transaction).await;
        self.send_event(Event::Uploaded { transaction_id: transaction.transaction_id, outcome });
    }

    async fn request_write_checkpoint(&self, token: String, queue_version: i64) {
        let answer =
            http::write_checkpoint(&self.http, &self.endpoint, &token, &self.client_id).await;
        self.send_event(Event::WriteCheckpoint { queue_version, answer });
    }

    async fn fetch_snapshot(&self, connection: u64, line: &Arc<SnapshotLine>) {
        let base = self.endpoint.stream();
        let fetched = fetch::fetch(&self.http, base, &self.snapshots, line, |bytes, is_new| {
            self.send_event(Event::FrameFetched { connection, bytes, is_new });
        });
        let outcome = fetched.await;
        self.send_event(Event::SnapshotFetched { connection, outcome });
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
