//! What the client does next, as a function of what happened: no I/O, no clock.
//!
//! Two machines that meet at one gate. The download machine (`download.rs`) opens the stream and
//! turns its lines into stored operations and checkpoints; the upload machine (`upload.rs`) sends
//! local transactions one by one and then asks for a write checkpoint. The gate itself is checked
//! by the store, inside the transaction that publishes a checkpoint, since only there no local
//! write can slip in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tidewater_protocol::{
    Checkpoint, Checksum, DataLine, LineError, OpId, SnapshotLine, StreamRequest, SyncLine,
};

use crate::connector::UploadOutcome;
use crate::net::fetch::FetchFailed;
use crate::status::{Connection, Problem, ProblemKind, Progress};
use backoff::Backoff;
use download::Download;
use upload::Upload;

mod backoff;
mod download;
mod snapshot;
mod upload;

/// What the store holds of a bucket, downloads not yet published included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalBucket {
    pub(crate) position: OpId,
    pub(crate) sum: Checksum,
    /// Operations that the bucket had at the last checkpoint; for progress.
    pub(crate) count_at_checkpoint: u64,
    /// Operations received since; for progress.
    pub(crate) count_since: u64,
}

/// Something happened. `connection` tells an event of a stream already given up from one of now.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// The app wants to be connected.
    Start,
    Token(Result<String, String>),
    /// Answer to [`Action::LoadBuckets`].
    Loaded(BTreeMap<String, LocalBucket>),
    /// The server answered 200.
    Opened {
        connection: u64,
    },
    Line {
        connection: u64,
        line: Result<SyncLine<'a>, LineError>,
    },
    Closed {
        connection: u64,
        reason: Closed,
    },
    /// A frame of the snapshot is there, newly or from before; its compressed size.
    FrameFetched {
        connection: u64,
        bytes: u64,
        is_new: bool,
    },
    /// Answer to [`Action::FetchSnapshot`].
    SnapshotFetched {
        connection: u64,
        outcome: Result<(), FetchFailed>,
    },
    /// Answer to [`Action::Apply`].
    Applied(Apply),
    /// The store failed; what it was to store is not stored.
    StoreFailed(String),
    /// The same of an action on the queue or the gate.
    QueueFailed(String),
    /// A local transaction was committed.
    LocalWrite,
    /// Answer to [`Action::UploadNext`] when there is nothing to upload. The mark tells later
    /// whether other local writes came.
    QueueEmpty {
        gate: Gate,
        mark: i64,
    },
    Uploaded {
        transaction_id: i64,
        outcome: UploadOutcome,
    },
    WriteCheckpoint {
        mark: i64,
        answer: Result<OpId, RequestFailed>,
    },
    /// Answer to [`Action::SetGate`]: false if a local write came in between.
    GateSet(bool),
    Timer(Timer),
    /// The network may be back: do not wait out a back-off.
    NetworkUp,
}

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Cleanly, by the server.
    Ended,
    /// The network broke, or stayed silent for too long.
    Broken(String),
    /// Refused before the first line.
    Refused(RequestFailed),
}

/// A request got no good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestFailed {
    /// `None`: no answer at all.
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) message: String,
}

/// What became of a complete checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Apply {
    /// Visible now.
    Published(OpId),
    /// Stored, but local writes are not in it yet: to be tried again when the gate moves.
    Held,
    /// The app's tables refuse a row of it.
    Refused(String),
    /// A bucket's snapshot cannot be used.
    Damaged { bucket: String, message: String },
}

/// Whether a complete checkpoint may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Nothing was written locally since the last published checkpoint.
    Open,
    /// Local writes whose write checkpoint is not known yet.
    Unknown,
    /// Only at a checkpoint that contains this write checkpoint.
    At(OpId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Open the stream again.
    Reconnect,
    /// Go on with the queue.
    Upload,
    /// The write checkpoint should have been seen by now.
    Gate,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Action<'a> {
    FetchToken,
    LoadBuckets,
    Open {
        connection: u64,
        token: String,
        request: Box<StreamRequest>,
    },
    Close,
    /// Store these operations and the bucket's new state, in one transaction.
    Stage {
        line: DataLine<'a>,
        bucket: LocalBucket,
    },
    /// Fetch a snapshot's files. No line of the stream is wanted until it has ended.
    FetchSnapshot {
        connection: u64,
        line: Arc<SnapshotLine>,
    },
    /// Make a snapshot the bucket's content, in one transaction.
    StageSnapshot {
        line: Arc<SnapshotLine>,
        bucket: LocalBucket,
    },
    /// Forget what was downloaded of these buckets; their rows stay visible until the next
    /// published checkpoint.
    Reset {
        buckets: Vec<String>,
    },
    /// Publish what is stored as this checkpoint, unless the gate forbids it.
    Apply(Box<Checkpoint>),
    UploadNext,
    FinishUpload {
        transaction_id: i64,
        rejected: Option<Rejection>,
    },
    RequestWriteCheckpoint {
        token: String,
        mark: i64,
    },
    SetGate {
        mark: i64,
        write_checkpoint: OpId,
    },
    SetTimer {
        timer: Timer,
        after: Duration,
    },
}

/// The backend's verdict against a local transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) reason: String,
    pub(crate) body: Option<String>,
}

/// What does not change while connected.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) request: StreamRequest,
    /// Whether each operation's own checksum is recomputed.
    pub(crate) verify_operations: bool,
    pub(crate) has_connector: bool,
    /// Pause after a clean end of the stream, when everything has been received.
    pub(crate) poll_interval: Duration,
    /// Of the back-off's jitter.
    pub(crate) seed: u64,
}

/// What the core knows about its own condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreStatus {
    pub(crate) connection: Connection,
    pub(crate) progress: Option<Progress>,
    pub(crate) uploading: bool,
    pub(crate) download_problem: Option<Problem>,
    pub(crate) upload_problem: Option<Problem>,
    pub(crate) checksum_mismatches: u64,
    pub(crate) failures_in_a_row: u32,
}

pub(crate) use snapshot::damaged;

pub(crate) struct Core {
    settings: Settings,
    random: SmallRng,
    token: TokenState,
    download: Download,
    upload: Upload,
}

/// The one token that both machines use.
#[derive(Debug, Default)]
struct TokenState {
    token: Option<String>,
    is_fetching: bool,
}

impl TokenState {
    /// The token, or the action that gets one.
    fn get<'a>(&mut self, actions: &mut Vec<Action<'a>>) -> Option<String> {
        if self.token.is_none() {
            self.fetch(actions);
        }
        self.token.clone()
    }

    fn fetch(&mut self, actions: &mut Vec<Action<'_>>) {
        if !std::mem::replace(&mut self.is_fetching, true) {
            actions.push(Action::FetchToken);
        }
    }
}

impl Core {
    pub(crate) fn new(settings: Settings) -> Self {
        let random = SmallRng::seed_from_u64(settings.seed);
        let upload = Upload::new(settings.has_connector);
        Self {
            settings,
            random,
            token: TokenState::default(),
            download: Download::default(),
            upload,
        }
    }

    /// The stream whose lines count; those of others are dropped unread.
    pub(crate) fn connection(&self) -> u64 {
        self.download.connection
    }

    /// Whether the lines that follow have to wait.
    pub(crate) fn is_fetching(&self) -> bool {
        self.download.is_fetching()
    }

    pub(crate) fn status(&self) -> CoreStatus {
        CoreStatus {
            connection: self.download.status(),
            progress: self.download.progress(),
            uploading: self.upload.is_busy(),
            download_problem: self.download.problem.clone(),
            upload_problem: self.upload.problem.clone(),
            checksum_mismatches: self.download.mismatches,
            failures_in_a_row: self.download.backoff.failures().max(self.upload.failures()),
        }
    }

    pub(crate) fn on_event<'a>(&mut self, event: Event<'a>) -> Vec<Action<'a>> {
        let mut actions = Vec::new();
        match event {
            Event::Start | Event::NetworkUp => {
                self.download_wake(&mut actions);
                self.upload_wake(&mut actions);
            }
            Event::Token(answer) => self.on_token(answer, &mut actions),
            Event::Loaded(buckets) => self.on_loaded(buckets, &mut actions),
            Event::Opened { connection } => self.on_opened(connection),
            Event::Line { connection, line } => self.on_line(connection, line, &mut actions),
            Event::Closed { connection, reason } => {
                self.on_closed(connection, reason, &mut actions);
            }
            Event::FrameFetched { connection, bytes, is_new } => {
                self.on_frame_fetched(connection, bytes, is_new);
            }
            Event::SnapshotFetched { connection, outcome } => {
                self.on_snapshot_fetched(connection, outcome, &mut actions);
            }
            Event::Applied(outcome) => self.on_applied(outcome, &mut actions),
            Event::StoreFailed(message) => self.on_store_failed(message, &mut actions),
            Event::QueueFailed(message) => self.on_queue_failed(message, &mut actions),
            Event::LocalWrite => self.on_local_write(&mut actions),
            Event::QueueEmpty { gate, mark } => self.on_queue_empty(gate, mark, &mut actions),
            Event::Uploaded { transaction_id, outcome } => {
                self.on_uploaded(transaction_id, outcome, &mut actions);
            }
            Event::WriteCheckpoint { mark, answer } => {
                self.on_write_checkpoint(mark, answer, &mut actions);
            }
            Event::GateSet(is_set) => self.on_gate_set(is_set, &mut actions),
            Event::Timer(Timer::Reconnect) => self.on_reconnect(&mut actions),
            Event::Timer(Timer::Upload) => self.on_upload_timer(&mut actions),
            Event::Timer(Timer::Gate) => self.on_gate_timer(&mut actions),
        }
        actions
    }

    fn on_token<'a>(&mut self, answer: Result<String, String>, actions: &mut Vec<Action<'a>>) {
        self.token.is_fetching = false;
        match answer {
            Ok(token) => {
                self.token.token = Some(token);
                self.download_on_token(actions);
                self.upload_on_token(actions);
            }
            Err(message) => {
                let problem = Problem::new(ProblemKind::Credentials, message);
                self.download_without_token(problem.clone(), actions);
                self.upload_without_token(problem, actions);
            }
        }
    }

    /// Back-off of either machine: the greater of ours and what the server asks for.
    fn delay(random: &mut SmallRng, backoff: &mut Backoff, asked: Option<Duration>) -> Duration {
        backoff.next(random).max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
