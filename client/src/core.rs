//! The sync state machine: decides what the client does next from what happened. It is sans-I/O.
//!
//! [`Core::on_event`] takes one [`Event`] and returns the [`Action`]s to carry out, in order. The
//! core has no socket, file or clock, and its random numbers come from a seed. A test can therefore
//! drive it through any order of events. `sync/thread.rs` carries the actions out and feeds the
//! results back as events.
//!
//! Two machines share the token and meet at one point, the *pending upload check*:
//!
//! - The download machine (`download.rs`, `snapshot.rs`) opens the stream and turns its lines into
//!   stored operations and complete checkpoints.
//! - The upload machine (`upload.rs`) sends local transactions one by one. When the queue is empty
//!   it requests a write checkpoint and stores it.
//!
//! A complete checkpoint may become visible only if it contains every local write. The store makes
//! this check inside the transaction that publishes: only there can no local write slip in between.
//! See "Pending uploads" in `LAYOUT.md`.
//!
//! # Events
//!
//! `connection` numbers the streams. An event with the number of an earlier stream is ignored.
//!
//! | event | payload | sent when |
//! |---|---|---|
//! | `Start` | | the session begins |
//! | `Token` | the token, or why there is none | [`Action::FetchToken`] finished |
//! | `BucketsLoaded` | the stored state of each bucket | [`Action::LoadBuckets`] finished |
//! | `Opened` | `connection` | the server answered the stream request with 200 |
//! | `Line` | `connection`, the parsed line or a parse error | the stream brought a line |
//! | `Closed` | `connection`, the reason | the stream ended, broke or was refused |
//! | `FrameFetched` | `connection`, compressed bytes, whether they crossed the network | a snapshot's frame is on the device |
//! | `SnapshotFetched` | `connection`, success or the failure | [`Action::FetchSnapshot`] finished |
//! | `PublishFinished` | the [`PublishOutcome`] | [`Action::Publish`] finished |
//! | `StoreFailed` | the error | an action on downloaded data failed; nothing of it is stored |
//! | `QueueFailed` | the error | an action on the upload queue failed; nothing of it is stored |
//! | `LocalWrite` | | a local transaction was committed |
//! | `QueueEmpty` | the [`PendingUploads`], `queue_version` | [`Action::UploadNext`] found nothing to send |
//! | `Uploaded` | `transaction_id`, the backend's verdict | the backend answered, or failed to |
//! | `WriteCheckpoint` | `queue_version`, the write checkpoint or the failure | [`Action::RequestWriteCheckpoint`] finished |
//! | `WriteCheckpointStored` | false if a local write came in between | [`Action::StoreWriteCheckpoint`] finished |
//! | `Timer` | which [`Timer`] | the time of [`Action::SetTimer`] is up |
//! | `NetworkUp` | | the app says that the network may be back |
//!
//! # Actions
//!
//! | action | payload | answered by |
//! |---|---|---|
//! | `FetchToken` | | `Token` |
//! | `LoadBuckets` | | `BucketsLoaded`, `StoreFailed` |
//! | `Open` | `connection`, token, request | `Opened`, then `Line`s, then `Closed`; replaces the open stream |
//! | `Close` | | nothing: drops the stream and any fetch |
//! | `Stage` | the line, the bucket's state after it | `StoreFailed` if it fails |
//! | `FetchSnapshot` | `connection`, the line | `FrameFetched`s, then `SnapshotFetched` |
//! | `StageSnapshot` | the line, the bucket's state after it | `StoreFailed` if it fails |
//! | `ResetBuckets` | bucket names | `StoreFailed` if it fails |
//! | `Publish` | the complete checkpoint | `PublishFinished`, `StoreFailed` |
//! | `UploadNext` | | `Uploaded`, `QueueEmpty`, `QueueFailed` |
//! | `FinishUpload` | `transaction_id`, the rejection if there is one | `QueueFailed` if it fails |
//! | `RequestWriteCheckpoint` | token, `queue_version` | `WriteCheckpoint` |
//! | `StoreWriteCheckpoint` | `queue_version`, the write checkpoint | `WriteCheckpointStored`, `QueueFailed` |
//! | `SetTimer` | which timer, after how long; replaces the same timer | `Timer` |
//!
//! Nothing under `core/` imports an I/O crate or a module that does I/O; a test reads the `use`
//! lines.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tidewater_protocol::StreamRequest;

use crate::status::{Connection, Problem, Progress};
use backoff::Backoff;
use download_state::Download;
use token::TokenState;
use upload_state::Upload;

mod action;
mod backoff;
mod download;
mod download_state;
mod event;
mod snapshot;
mod token;
mod upload;
mod upload_state;

pub(crate) use action::{Action, Rejection};
pub(crate) use event::{
    Closed, Event, FetchFailed, LocalBucket, PendingUploads, PublishOutcome, RequestFailed, Timer,
    damaged_message,
};

/// The parameters of a session. They do not change while it lasts.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The stream request, still without the buckets' positions.
    pub(crate) request: StreamRequest,
    /// Recomputes each operation's own checksum.
    pub(crate) verify_operations: bool,
    /// Set if the app gave a connector. Without one, local writes stay in the queue.
    pub(crate) has_connector: bool,
    /// The pause after a clean end of the stream, when everything has been received.
    pub(crate) poll_interval: Duration,
    /// The seed of the jitter.
    pub(crate) seed: u64,
}

/// The part of the public status that the core knows.
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

/// The state machine of one session.
pub(crate) struct Core {
    settings: Settings,
    random: SmallRng,
    token: TokenState,
    download: Download,
    upload: Upload,
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

    /// Returns the number of the current stream. Lines of other streams can be dropped unparsed.
    pub(crate) fn connection(&self) -> u64 {
        self.download.connection
    }

    /// Returns whether a snapshot is being fetched. Until it is, the stream's lines have to wait.
    pub(crate) fn is_fetching(&self) -> bool {
        self.download.is_fetching()
    }

    pub(crate) fn status(&self) -> CoreStatus {
        CoreStatus {
            connection: self.download.connection_status(),
            progress: self.download.progress(),
            uploading: self.upload.is_busy(),
            download_problem: self.download.problem.clone(),
            upload_problem: self.upload.problem.clone(),
            checksum_mismatches: self.download.mismatches,
            failures_in_a_row: self.download.backoff.failures().max(self.upload.failures()),
        }
    }

    /// Takes one event and returns the actions to carry out, in order.
    pub(crate) fn on_event<'a>(&mut self, event: Event<'a>) -> Vec<Action<'a>> {
        let mut actions = Vec::new();

        match event {
            Event::Start | Event::NetworkUp => {
                self.connect_now(&mut actions);
                self.upload_now(&mut actions);
            }
            Event::Token(answer) => self.on_token(answer, &mut actions),

            // The download machine.
            Event::BucketsLoaded(buckets) => self.on_buckets_loaded(buckets, &mut actions),
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
            Event::PublishFinished(outcome) => self.on_publish_finished(outcome, &mut actions),
            Event::StoreFailed(message) => self.on_store_failed(message, &mut actions),
            Event::Timer(Timer::Reconnect) => self.on_reconnect_timer(&mut actions),

            // The upload machine.
            Event::LocalWrite => self.on_local_write(&mut actions),
            Event::QueueEmpty { pending, queue_version } => {
                self.on_queue_empty(pending, queue_version, &mut actions);
            }
            Event::Uploaded { transaction_id, outcome } => {
                self.on_uploaded(transaction_id, outcome, &mut actions);
            }
            Event::WriteCheckpoint { queue_version, answer } => {
                self.on_write_checkpoint(queue_version, answer, &mut actions);
            }
            Event::WriteCheckpointStored(is_stored) => {
                self.on_write_checkpoint_stored(is_stored, &mut actions);
            }
            Event::QueueFailed(message) => self.on_queue_failed(message, &mut actions),
            Event::Timer(Timer::Upload) => self.on_upload_timer(&mut actions),
            Event::Timer(Timer::WriteCheckpoint) => self.on_write_checkpoint_timer(&mut actions),
        }

        actions
    }

    fn on_token<'a>(&mut self, answer: Result<String, Problem>, actions: &mut Vec<Action<'a>>) {
        self.token.is_fetching = false;

        match answer {
            Ok(token) => {
                self.token.token = Some(token);
                self.download_with_token(actions);
                self.upload_with_token(actions);
            }
            Err(problem) => {
                self.download_without_token(problem.clone(), actions);
                self.upload_without_token(problem, actions);
            }
        }
    }

    /// Returns the next wait of a machine: its back-off, or the wait that the server requests if that is
    /// longer.
    fn delay(random: &mut SmallRng, backoff: &mut Backoff, asked: Option<Duration>) -> Duration {
        backoff.next(random).max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
