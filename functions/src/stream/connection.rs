//! One connection of `/sync/stream`, as a source of chunks.
//!
//! Chunks are pulled: nothing is read or made before the client has room for it, and no task runs
//! besides. This is the backpressure of a stream. The connection does the I/O, and
//! [`CheckpointState`] decides which lines the client gets.
//!
//! All lines between two checkpoint lines serve the checkpoint that was announced last. A line ends
//! where a segment or a frame of a base ends, so a connection that is cut anywhere loses nothing: the
//! client resumes after its last whole line.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::{LineFormat, OpId, SyncLine};
use tidewater_storage::{BrokenChain, ChangeName, ClientKey, StorageError, WriteRequests};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::checkpoint_state::{BucketDiff, CheckpointState, Movement};
use super::chunk_buffer::ChunkBuffer;
use super::current_state::CurrentState;
use super::data_line::DamagedSegment;
use super::deadlines::{Deadlines, Due};
use super::sending::{LineOutput, SendError, send_line};
use crate::app_state::{AppState, SyncStore};
use crate::checkpoint::{Access, CheckpointError, CheckpointView, Client, access};
use crate::following::{Change, Changed, Registration};
use crate::metrics::OpenStream;
use crate::snapshot_url::SnapshotAddresses;
use crate::stream_log::{StreamEnd, StreamLimit, StreamTally};

/// Size in bytes from which lines are sent as one chunk: a few network packets. Larger chunks save few
/// system calls, smaller ones cost one for each line.
const CHUNK_BYTES: usize = 32 << 10;

/// Number of reads that may fail on the way to one completion. A read fails when the snapshot builder
/// deletes what was about to be read, or when an eventually consistent read misses a new segment.
/// Both pass within a second.
const FAILED_READS_MAX: u32 = 3;

/// Number of reads that the store may refuse instead.
const REFUSED_READS_MAX: u32 = 1;

/// Pause before a failed read is repeated, times the number of failures.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Minimum time that a stream stays open while its client waits for a write checkpoint. The worker
/// usually covers a request within a second. Without this time, a client that polls would wait for
/// its next poll.
const OUTSTANDING_REQUEST_KEEP_OPEN: Duration = Duration::from_secs(10);

/// The reason why an open connection is cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// A storage call failed.
    #[error("a storage call failed")]
    Storage(#[from] StorageError),
    /// A new checkpoint, or what the client may read there, cannot be determined.
    #[error("a new checkpoint cannot be served")]
    Checkpoint(#[source] CheckpointError),
    /// Operations are missing, and repeated reads did not find them.
    #[error("stored operations are incomplete")]
    Broken(#[source] BrokenChain),
    /// Stored operations do not match their checksums.
    #[error("stored operations are damaged")]
    Damaged(#[source] DamagedSegment),
}

impl StreamError {
    /// Returns the reason as the log names it.
    fn end(&self) -> StreamEnd {
        match self {
            Self::Checkpoint(CheckpointError::OverQuota(_)) => {
                StreamEnd::Limit(StreamLimit::Request)
            }
            Self::Checkpoint(_) | Self::Storage(_) | Self::Broken(_) | Self::Damaged(_) => {
                StreamEnd::Error
            }
        }
    }
}

/// The content of an authorised stream request.
pub(crate) struct StreamParams {
    pub(crate) client: Client,
    pub(crate) client_key: ClientKey,
    /// The client's positions, by the name of the bucket.
    pub(crate) positions: HashMap<String, OpId>,
    pub(crate) format: LineFormat,
    /// Set if the client takes snapshots as files.
    pub(crate) snapshots: bool,
    /// Time for which the token remains valid; zero if it has expired within the clock skew.
    pub(crate) valid: Duration,
    /// The time when the stream must have ended.
    pub(crate) deadline: Option<Instant>,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) tally: Arc<StreamTally>,
}

/// One connection.
pub(crate) struct Connection<S: SyncStore> {
    app: Arc<AppState<S>>,
    client: Client,
    client_key: ClientKey,
    format: LineFormat,
    snapshots: bool,
    deadlines: Deadlines,
    state: CheckpointState,
    /// The lookups that decided which buckets the client may read, in ascending order.
    lookups: Box<[ChangeName]>,
    registration: Registration<S>,
    up_to_date_since: Option<Instant>,
    buffer: ChunkBuffer,
    phase: Phase,
    tally: Arc<StreamTally>,
    _open: OpenStream,
    _permit: OwnedSemaphorePermit,
}

/// The phase of a connection.
enum Phase {
    /// Checkpoints are served.
    Open,
    /// The buffer is sent, and then the stream ends.
    Closing,
    /// The buffer is sent, and then the connection is cut.
    Failing(StreamError),
}

/// The result of a step: the stream continues, or closes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Continue,
    Close,
}

impl<S: SyncStore> Connection<S> {
    /// Opens a stream: determines its first checkpoint, and announces it.
    pub(crate) async fn open(
        app: Arc<AppState<S>>,
        mut params: StreamParams,
    ) -> Result<Self, CheckpointError> {
        let StreamParams { client, client_key, positions, .. } = &mut params;
        let current = CurrentState::read(&app, client, client_key, positions).await?;
        // A later view with another sync config ends the stream, so the request is not read again.
        params.client.drop_request();
        let CurrentState { view, access, requests } = current;
        // Registered from here on, the stream misses no change after the view.
        let lookups = sorted(&access.lookups);
        let registration = app.follower.register(names(&access), &view);
        let state = CheckpointState::new(
            view.id(),
            &view.committed_ops,
            access.buckets,
            params.positions,
            &requests,
        );

        let now = Instant::now();
        let mut deadlines = Deadlines::new(now, params.valid, app.next_seed());
        if let Some(deadline) = params.deadline {
            deadlines.end_by(now, deadline);
        }

        let mut connection = Self {
            client: params.client,
            client_key: params.client_key,
            format: params.format,
            snapshots: params.snapshots,
            deadlines,
            state,
            lookups,
            registration,
            up_to_date_since: None,
            buffer: ChunkBuffer::new(params.format),
            phase: Phase::Open,
            app,
            tally: params.tally,
            _open: OpenStream::new(now),
            _permit: params.permit,
        };

        connection.tally.set_buckets(connection.state.bucket_count());
        // The clock skew lets a token pass that has just expired. The stream has one line only, which
        // tells the client to fetch another token.
        if params.valid.is_zero() {
            let _ = connection.expire();
            connection.phase = Phase::Closing;
            return Ok(connection);
        }

        let line = connection.state.announce_first(access.streams, &view.committed_ops);
        connection.buffer.push(&line);
        Ok(connection)
    }

    /// Returns the number of buckets that the client reads.
    pub(crate) fn bucket_count(&self) -> usize {
        self.state.bucket_count()
    }

    /// Returns about how many bytes the stream keeps of its request.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.client.kept_bytes()
    }

    /// Returns the next chunk; `None` at the end of the stream.
    pub(crate) async fn next_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        loop {
            // Lines are collected up to the size of a chunk, but only while more follow: nothing is
            // kept back when the stream waits, ends or fails.
            let is_open = matches!(self.phase, Phase::Open);
            let is_sending = is_open && self.state.is_sending();
            let is_chunk_full = self.buffer.len() >= CHUNK_BYTES;
            if is_chunk_full || (!is_sending && !self.buffer.is_empty()) {
                return Ok(Some(self.buffer.take(&self.tally)));
            }
            if !is_open {
                return match std::mem::replace(&mut self.phase, Phase::Closing) {
                    Phase::Failing(error) => Err(error),
                    Phase::Open | Phase::Closing => Ok(None),
                };
            }

            // Sending and following are boxed: what they need on the stack is freed while a
            // connection waits, and most connections wait most of the time.
            let step = if is_sending {
                Box::pin(self.send_next()).await
            } else {
                self.wait_and_follow().await
            };
            match step {
                Ok(Step::Continue) => {}
                Ok(Step::Close) => self.phase = Phase::Closing,
                Err(error) => {
                    self.tally.end(error.end());
                    self.phase = Phase::Failing(error);
                }
            }
        }
    }

    /// Waits until something has changed for the client or a deadline has passed, and acts on it.
    async fn wait_and_follow(&mut self) -> Result<Step, StreamError> {
        let wake_at = self.deadlines.next();
        let change = tokio::select! {
            biased;
            () = self.app.settings.shutdown.cancelled() => return Ok(self.close(StreamEnd::Shutdown)),
            // What changed before the wait is pending, so nothing between two waits is missed.
            change = self.registration.changed() => Some(change),
            () = tokio::time::sleep_until(wake_at) => None,
        };

        let due = self.deadlines.due(Instant::now());
        if self.act_on(due) == Step::Close {
            return Ok(Step::Close);
        }
        match change {
            Some(change) => Box::pin(self.follow(change)).await,
            // After a timeout nothing is read: a change would have woken the stream.
            None => {
                self.app.views.record_checkpoint_age();
                Ok(Step::Continue)
            }
        }
    }

    fn act_on(&mut self, due: Due) -> Step {
        match due {
            Due::Expired => self.expire(),
            Due::Close => self.close(StreamEnd::UpToDate),
            Due::End => self.close(StreamEnd::HandOver),
            Due::HandOver(seconds) => {
                // A client that leaves from here on does so at the server's request.
                self.tally.end(StreamEnd::HandOver);
                self.buffer.push(&SyncLine::TokenExpiresIn(seconds));
                Step::Continue
            }
            Due::LastHandOver(seconds) => {
                self.buffer.push(&SyncLine::TokenExpiresIn(seconds));
                self.close(StreamEnd::HandOver)
            }
            Due::TellSecondsLeft(seconds) => {
                self.buffer.push(&SyncLine::TokenExpiresIn(seconds));
                Step::Continue
            }
            Due::Nothing => Step::Continue,
        }
    }

    /// Tells the client that its token has expired. The caller closes the stream.
    fn expire(&mut self) -> Step {
        self.buffer.push(&SyncLine::TokenExpiresIn(0));
        self.close(StreamEnd::TokenExpired)
    }

    /// Notes why the stream ends. The caller closes it.
    fn close(&self, reason: StreamEnd) -> Step {
        self.tally.end(reason);
        Step::Close
    }

    /// Announces the newest checkpoint, if it differs from the announced one.
    ///
    /// All reads come before the first change of the state. So a stream whose wait is cancelled anywhere
    /// finds the change again.
    async fn follow(&mut self, change: Change) -> Result<Step, StreamError> {
        let Change { view, changed } = change;
        let view = match &changed {
            Changed::Names(_) | Changed::Everything => view,
            Changed::Uncertain => self.app.views.latest().await.map_err(StreamError::Checkpoint)?,
        };

        match self.state.movement_to(view.id()) {
            // The client connects again, and its positions are compared with the new history.
            Movement::Replaced => return Ok(self.close(StreamEnd::ConfigChanged)),
            Movement::None => self.registration.note_seen(view.id()),
            Movement::Ticket => {
                let requests = self.requests_at(&view).await?;
                self.announce(&view, BucketDiff::default(), requests.as_ref());
                self.registration.note_seen(view.id());
            }
            Movement::Operations => {
                let is_read = match &changed {
                    Changed::Names(names) => self.follow_buckets(&view, names).await?,
                    Changed::Everything | Changed::Uncertain => false,
                };
                if !is_read {
                    return self.follow_all(view).await;
                }
            }
        }
        Ok(Step::Continue)
    }

    /// Announces a view at which only these names have changed for the client. Returns false if more must
    /// be read than buckets.
    ///
    /// The other buckets are the same as at the announced checkpoint: each commit in between has named
    /// what it changed.
    async fn follow_buckets(
        &mut self,
        view: &CheckpointView,
        names: &[ChangeName],
    ) -> Result<bool, StreamError> {
        let is_lookup = |name: &ChangeName| self.lookups.binary_search(name).is_ok();
        if names.iter().any(is_lookup) {
            return Ok(false);
        }
        let Some(buckets) = self.state.buckets_named(names) else { return Ok(false) };

        let read = async { view.buckets(&self.app.storage, &buckets.keys).await };
        let states = match read.await {
            Ok(states) => states,
            Err(CheckpointError::TooOld) => return Ok(false),
            Err(error) => return Err(StreamError::Checkpoint(error)),
        };
        let requests = self.requests_at(view).await?;

        let diff = self.state.update_buckets(&buckets.indices, states);
        self.announce(view, diff, requests.as_ref());
        self.registration.note_seen(view.id());
        Ok(true)
    }

    /// Announces a view, or a newer one if that is too old, after it has read which buckets the client
    /// may read there.
    ///
    /// Access is determined at the same checkpoint as the buckets' heads. A client that loses a
    /// bucket in a commit therefore never receives what the same commit wrote into it.
    async fn follow_all(&mut self, view: Arc<CheckpointView>) -> Result<Step, StreamError> {
        let Some(AccessAt { view, access, requests }) = self.access_at(view).await? else {
            return Ok(self.close(StreamEnd::ConfigChanged));
        };
        // The newest view may belong to another generation than the one that was too old.
        if self.state.movement_to(view.id()) == Movement::Replaced {
            return Ok(self.close(StreamEnd::ConfigChanged));
        }
        let diff = self.replace_access(&view, access);
        self.announce(&view, diff, requests.as_ref());
        Ok(Step::Continue)
    }

    /// Reads what the client may read at a view, or at a newer one if that is too old. Returns `None` if
    /// the client must connect again.
    async fn access_at(
        &mut self,
        view: Arc<CheckpointView>,
    ) -> Result<Option<AccessAt>, StreamError> {
        let limits = self.app.settings.quotas.request_limits();
        match access(&self.app.storage, &view, &mut self.client, limits).await {
            Ok(access) => {
                let requests = self.requests_at(&view).await?;
                Ok(Some(AccessAt { view, access, requests }))
            }
            Err(CheckpointError::TooOld) => {
                let Self { app, client, client_key, .. } = self;
                match CurrentState::read(app, client, client_key, &HashMap::new()).await {
                    Ok(CurrentState { view, access, requests }) => {
                        Ok(Some(AccessAt { view, access, requests: Some(requests) }))
                    }
                    Err(CheckpointError::Replaced) => Ok(None),
                    Err(error) => Err(StreamError::Checkpoint(error)),
                }
            }
            Err(CheckpointError::Replaced) => Ok(None),
            Err(error) => Err(StreamError::Checkpoint(error)),
        }
    }

    /// Takes over what the client may read at a view. Returns the difference.
    fn replace_access(&mut self, view: &CheckpointView, access: Access) -> BucketDiff {
        self.lookups = sorted(&access.lookups);
        self.registration.replace(names(&access), view.id());
        let diff = self.state.replace_buckets(access.buckets);
        self.tally.set_buckets(self.state.bucket_count());
        diff
    }

    /// Returns the client's write-checkpoint requests if the view covers other tickets than the announced
    /// checkpoint.
    ///
    /// The requests are read after the checkpoint. A request that the checkpoint covers was stored
    /// before the checkpoint became visible, or its ticket was renewed: see `renew_covered_ticket`.
    async fn requests_at(
        &self,
        view: &CheckpointView,
    ) -> Result<Option<WriteRequests>, StreamError> {
        if view.id().ticket == self.state.announced().ticket {
            return Ok(None);
        }
        Ok(Some(self.app.storage.write_requests(&self.client_key).await?))
    }

    /// Announces a view's checkpoint, whose buckets differ from the announced ones by `diff`.
    fn announce(
        &mut self,
        view: &CheckpointView,
        diff: BucketDiff,
        requests: Option<&WriteRequests>,
    ) {
        let line = self.state.announce(view.id(), diff, requests, &view.committed_ops);
        if let Some(line) = line {
            self.buffer.push(&line);
        }
    }

    /// Sends one line on the way to the announced checkpoint.
    async fn send_next(&mut self) -> Result<Step, StreamError> {
        // A token can expire, and a deadline pass, in the middle of a large download. Between two
        // lines the stream may end: the client resumes after the last one.
        let due = self.deadlines.due_while_sending(Instant::now());
        if self.act_on(due) == Step::Close {
            return Ok(Step::Close);
        }
        if self.is_near_limit() {
            let due = self.deadlines.hand_over();
            let _ = self.act_on(due);
        }
        if self.app.settings.shutdown.is_cancelled() {
            return Ok(self.close(StreamEnd::Shutdown));
        }

        let checkpoint = self.state.announced().op;
        let Some((plan, bucket)) = self.state.next_to_send() else {
            self.complete();
            return Ok(Step::Continue);
        };
        let token_left = self.deadlines.token_left(Instant::now());
        let addresses = SnapshotAddresses::new(&self.app.snapshot_urls, token_left);
        let output = LineOutput {
            checkpoint,
            format: self.format,
            snapshots: self.snapshots.then_some(addresses),
            buffer: &mut self.buffer,
        };

        match send_line(&self.app.storage, plan, bucket, output).await {
            Ok(false) => {}
            Ok(true) => {
                if let Some(line) = self.state.finish_bucket() {
                    self.buffer.push(&line);
                }
            }
            Err(SendError::Broken(broken)) => {
                return self.recover(StreamError::Broken(broken), FAILED_READS_MAX).await;
            }
            // To a role without s3:ListBucket, S3 says the same of an object that the builder has deleted. If
            // the newest catalog names it still, it exists: the right to read it is missing.
            Err(SendError::Storage(error @ StorageError::Refused(_))) => {
                return self.recover(error.into(), REFUSED_READS_MAX).await;
            }
            Err(SendError::Storage(error)) => return Err(error.into()),
            Err(SendError::Damaged(damaged)) => return Err(StreamError::Damaged(damaged)),
        }
        Ok(Step::Continue)
    }

    /// Returns whether most of what an answer may have is sent.
    fn is_near_limit(&self) -> bool {
        let limit = self.app.settings.answer_bytes_max;
        limit.is_some_and(|limit| self.tally.bytes() >= limit / 4 * 3)
    }

    /// Completes the announced checkpoint.
    fn complete(&mut self) {
        let line = self.state.complete();
        self.buffer.push(&line);

        // The time counts from the first completion: checkpoints that follow do not extend it.
        let since = *self.up_to_date_since.get_or_insert_with(Instant::now);
        if let Some(keep_open) = self.app.settings.keep_open {
            let at_least = if self.state.has_outstanding_request() {
                OUTSTANDING_REQUEST_KEEP_OPEN
            } else {
                Duration::ZERO
            };
            self.deadlines.close_at(since + keep_open.max(at_least));
        }
    }

    /// Reads again after a read that missed something, at a newer checkpoint if there is one. Fails with
    /// the error after too many failures on the way to one completion.
    ///
    /// Every line that was sent is right and stays: it was proved up to its end, and it is a prefix
    /// of the bucket at any later checkpoint. So moving to a newer checkpoint between two lines is
    /// safe. The diff line tells the client the newer sums before more lines follow.
    async fn recover(
        &mut self,
        error: StreamError,
        failures_max: u32,
    ) -> Result<Step, StreamError> {
        let failures = self.state.count_failed_read();
        if failures > failures_max {
            return Err(error);
        }
        tokio::time::sleep(RETRY_PAUSE * failures).await;

        // The view is read again even if its checkpoint is the same: the snapshot builder may have
        // published another catalog.
        let view = self.app.views.reread().await.map_err(StreamError::Checkpoint)?;
        if self.state.movement_to(view.id()) == Movement::Replaced {
            return Ok(self.close(StreamEnd::ConfigChanged));
        }

        let failed_bucket = self.state.current_bucket();
        let Some(AccessAt { view, access, requests }) = self.access_at(view).await? else {
            return Ok(self.close(StreamEnd::ConfigChanged));
        };
        if self.state.movement_to(view.id()) == Movement::Replaced {
            return Ok(self.close(StreamEnd::ConfigChanged));
        }

        let is_newer = view.id().op > self.state.announced().op;
        let diff = if is_newer {
            self.replace_access(&view, access)
        } else {
            // The checkpoint is the same, and so is what the client may read. Tickets that the view
            // covers are announced when the stream follows.
            self.state.replace_buckets(access.buckets)
        };
        if let Some(name) = failed_bucket {
            self.state.restart_bucket_if_lost(&name);
        }

        if is_newer {
            self.announce(&view, diff, requests.as_ref());
        } else {
            self.state.plan_send(&view.committed_ops);
        }
        Ok(Step::Continue)
    }
}

/// The access of a client at a view.
struct AccessAt {
    view: Arc<CheckpointView>,
    access: Access,
    /// The client's write-checkpoint requests, if the view covers other tickets than those announced.
    requests: Option<WriteRequests>,
}

/// Returns the names of everything that decides what a client is sent.
fn names(access: &Access) -> Vec<ChangeName> {
    let buckets = access.buckets.iter().map(|bucket| ChangeName::of_bucket(&bucket.key));
    access.lookups.iter().copied().chain(buckets).collect()
}

fn sorted(names: &[ChangeName]) -> Box<[ChangeName]> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.into()
}

#[cfg(test)]
mod tests;
