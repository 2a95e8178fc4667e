//! One connection of `/sync/stream`, as a source of chunks.
//!
//! It is pulled: nothing is read or made before the client has room for it, and nothing runs
//! besides. Everything is served at the checkpoint last announced; a line ends where a segment
//! ends, so a cut anywhere costs nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::{
    Checkpoint, CheckpointComplete, CheckpointDiff, OpId, PartialCheckpointComplete, Priority,
    RowData, SyncLine, write_line,
};
use tidewater_storage::{
    BrokenChain, ClientKey, GenerationId, Storage, StorageError, Ticket, WriteRequests,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::bucket_cursor::BucketCursor;
use super::data_line::DamagedSegment;
use super::deadlines::{Deadlines, Due};
use super::sending::{LineOutput, SendError, SendPlan, send_line};
use crate::app_state::AppState;
use crate::checkpoint::{Access, CheckpointError, CheckpointView, Client, access};

/// Lines are sent together up to this size.
const CHUNK_BYTES: usize = 32 << 10;
/// A view that is too old, or a chain that is broken, is tried again this often.
const ATTEMPTS_MAX: u32 = 3;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a client whose write checkpoint is outstanding is held at least.
const OUTSTANDING_HOLD: Duration = Duration::from_secs(10);

/// Why a connection that has begun is cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("a storage call failed")]
    Storage(#[from] StorageError),
    #[error("a new checkpoint cannot be served")]
    Checkpoint(#[source] CheckpointError),
    #[error("stored operations are incomplete")]
    Broken(#[source] BrokenChain),
    #[error("stored operations are damaged")]
    Damaged(#[source] DamagedSegment),
}

/// What a request asks for, once it is authorised and read.
pub(crate) struct StreamParams {
    pub(crate) client: Client,
    pub(crate) client_key: ClientKey,
    /// Where the client says it is, by the name of the bucket.
    pub(crate) positions: HashMap<String, OpId>,
    pub(crate) row_data: RowData,
    /// Whether the client takes snapshots as files.
    pub(crate) snapshots: bool,
    /// How long the token is valid; nothing when it is not.
    pub(crate) valid: Duration,
    /// When the stream has to end at the latest.
    pub(crate) deadline: Option<Instant>,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// One connection.
pub(crate) struct Connection<S: Storage> {
    app: Arc<AppState<S>>,
    client: Client,
    client_key: ClientKey,
    row_data: RowData,
    snapshots: bool,
    deadlines: Deadlines,
    announced: AnnouncedCheckpoint,
    write_checkpoint: WriteCheckpoint,
    /// By name.
    buckets: Vec<BucketCursor>,
    /// What is still to be sent of the checkpoint announced.
    plan: Option<Box<SendPlan>>,
    up_to_date_since: Option<Instant>,
    out: Vec<u8>,
    ended: bool,
    /// Cuts the connection once what is ready has been sent.
    failed: Option<StreamError>,
    _permit: OwnedSemaphorePermit,
}

/// The checkpoint that the client was last told of.
struct AnnouncedCheckpoint {
    revision: u64,
    op: OpId,
    ticket: Ticket,
    generation: GenerationId,
}

#[derive(Default)]
struct WriteCheckpoint {
    acknowledged: Option<i64>,
    outstanding: bool,
}

impl<S: Storage> Connection<S> {
    /// Begins a stream: computes its first checkpoint.
    pub(crate) async fn open(
        app: Arc<AppState<S>>,
        opening: StreamParams,
    ) -> Result<Self, CheckpointError> {
        let StreamParams { client, client_key, mut positions, row_data, snapshots, .. } = opening;
        let StreamParams { valid, deadline, permit, .. } = opening;
        let CurrentState { view, access, requests } =
            current_state(&app, &client, &client_key).await?;
        let Access { buckets, streams } = access;
        let checkpoint = view.visible.at;
        let mut buckets: Vec<_> = buckets
            .into_iter()
            .map(|bucket| {
                let after = positions.remove(&bucket.name).unwrap_or(OpId::ZERO);
                BucketCursor::new(bucket, after, checkpoint.op, &view.committed_ops)
            })
            .collect();
        buckets.sort_by(|a, b| a.name.cmp(&b.name));
        let now = Instant::now();
        let mut deadlines = Deadlines::new(now, valid, app.next_seed());
        if let Some(at) = deadline {
            deadlines.end_by(now, at);
        }
        let mut connection = Self {
            client,
            client_key,
            row_data,
            snapshots,
            deadlines,
            announced: announced(&view),
            write_checkpoint: WriteCheckpoint::default(),
            buckets,
            plan: None,
            up_to_date_since: None,
            out: Vec::new(),
            ended: false,
            failed: None,
            app,
            _permit: permit,
        };
        connection.note_requests(&requests);
        if valid.is_zero() {
            connection.expire();
            return Ok(connection);
        }
        let line = SyncLine::Checkpoint(Checkpoint {
            last_op_id: checkpoint.op,
            write_checkpoint: connection.acknowledged(),
            buckets: connection.buckets.iter().map(BucketCursor::describe).collect(),
            streams,
        });
        write_line(&mut connection.out, &line);
        connection.plan_send(&view);
        Ok(connection)
    }

    pub(crate) fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// The next chunk; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        loop {
            let over = self.ended || self.failed.is_some();
            let idle = over || self.plan.is_none();
            if self.out.len() >= CHUNK_BYTES || (idle && !self.out.is_empty()) {
                return Ok(Some(std::mem::take(&mut self.out).into()));
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if over {
                return Ok(None);
            }
            let done = if idle { self.idle().await } else { Box::pin(self.send()).await };
            self.failed = done.err();
        }
    }

    async fn idle(&mut self) -> Result<(), StreamError> {
        if self.wait().await? {
            // Boxed: what a connection needs to go on is not kept while it waits.
            Box::pin(self.follow()).await?;
        }
        Ok(())
    }

    /// Waits until the checkpoint may have moved (then true), or something is due.
    async fn wait(&mut self) -> Result<bool, StreamError> {
        let until = self.deadlines.next();
        let timeout = until.saturating_duration_since(Instant::now());
        if !timeout.is_zero() {
            let changed =
                self.app.storage.wait_for_control_change(self.announced.revision, timeout);
            tokio::select! {
                changed = changed => changed?,
                () = self.app.settings.shutdown.cancelled() => {
                    self.ended = true;
                    return Ok(false);
                }
            }
        }
        let now = Instant::now();
        match self.deadlines.due(now) {
            Due::Expired => self.expire(),
            Due::Close => self.ended = true,
            Due::Say(left) => write_line(&mut self.out, &SyncLine::TokenExpiresIn(left)),
            Due::Nothing => {}
        }
        Ok(!self.ended && now < until)
    }

    /// Moves to a newer checkpoint, if there is one.
    async fn follow(&mut self) -> Result<(), StreamError> {
        let view = self.app.views.after(self.announced.revision).await;
        let view = view.map_err(StreamError::Checkpoint)?;
        let (at, seen) = (view.visible.at, &self.announced);
        if view.visible.generation != seen.generation || at.op < seen.op {
            self.ended = true; // Other buckets from now on: the client comes again.
            return Ok(());
        }
        if (at.op, at.ticket) == (seen.op, seen.ticket) {
            self.announced.revision = view.revision;
            return Ok(());
        }
        self.announce_diff(&view).await
    }

    /// Tells the client what is different at the view's checkpoint, if anything is.
    async fn announce_diff(&mut self, view: &Arc<CheckpointView>) -> Result<(), StreamError> {
        if view.visible.at.op == self.announced.op {
            return self.announce(view, Diff::default()).await;
        }
        match self.refresh_access(Arc::clone(view)).await? {
            Some((view, diff)) => self.announce(&view, diff).await,
            None => Ok(()),
        }
    }

    /// Takes over the buckets as they are at a view, or at a newer one if that is too old. `None`
    /// when the client has to come again.
    async fn refresh_access(
        &mut self,
        view: Arc<CheckpointView>,
    ) -> Result<Option<(Arc<CheckpointView>, Diff)>, StreamError> {
        let found = access(&self.app.storage, &view, &self.client, &self.app.settings.quotas);
        let (view, found) = match found.await {
            Err(CheckpointError::TooOld) => {
                let again = current_state(&self.app, &self.client, &self.client_key).await;
                let again = again.map_err(StreamError::Checkpoint)?;
                (again.view, again.access)
            }
            found => (view, found.map_err(StreamError::Checkpoint)?),
        };
        if view.visible.generation != self.announced.generation {
            self.ended = true;
            return Ok(None);
        }
        let diff = self.apply(found, &view);
        Ok(Some((view, diff)))
    }

    async fn announce(
        &mut self,
        newer: &Arc<CheckpointView>,
        diff: Diff,
    ) -> Result<(), StreamError> {
        let acknowledged = self.write_checkpoint.acknowledged;
        let ticket = self.announced.ticket;
        self.announced = announced(newer);
        if self.announced.ticket != ticket {
            self.read_write_checkpoint().await?;
        }
        let news = !diff.updated.is_empty()
            || !diff.removed.is_empty()
            || acknowledged != self.write_checkpoint.acknowledged;
        if !news && self.plan.is_none() {
            return Ok(());
        }
        let updated = diff.updated.iter();
        let line = SyncLine::CheckpointDiff(CheckpointDiff {
            last_op_id: self.announced.op,
            write_checkpoint: self.acknowledged(),
            updated_buckets: updated.map(|&index| self.buckets[index].describe()).collect(),
            removed_buckets: diff.removed,
        });
        write_line(&mut self.out, &line);
        self.plan_send(newer);
        Ok(())
    }

    /// Replaces the buckets by those of a newer checkpoint; positions are kept.
    fn apply(&mut self, access: Access, view: &CheckpointView) -> Diff {
        let mut diff = Diff::default();
        let mut former: HashMap<String, BucketCursor> =
            self.buckets.drain(..).map(|bucket| (bucket.name.clone(), bucket)).collect();
        let mut news = HashSet::new();
        for bucket in access.buckets {
            let changed = match former.remove(&bucket.name) {
                Some(mut served) => {
                    let changed = served.update(bucket);
                    self.buckets.push(served);
                    changed
                }
                None => {
                    let committed_ops = &view.committed_ops;
                    self.buckets.push(BucketCursor::new(
                        bucket,
                        OpId::ZERO,
                        OpId::ZERO,
                        committed_ops,
                    ));
                    true
                }
            };
            if changed && let Some(bucket) = self.buckets.last() {
                news.insert(bucket.name.clone());
            }
        }
        self.buckets.sort_by(|a, b| a.name.cmp(&b.name));
        let is_news =
            |(index, bucket): (usize, &BucketCursor)| news.contains(&bucket.name).then_some(index);
        diff.updated = self.buckets.iter().enumerate().filter_map(is_news).collect();
        diff.removed = former.into_keys().collect();
        diff.removed.sort_unstable();
        diff
    }

    fn plan_send(&mut self, view: &CheckpointView) {
        let mut behind: Vec<usize> =
            (0..self.buckets.len()).filter(|&index| self.buckets[index].is_behind()).collect();
        behind.sort_by_key(|&index| self.buckets[index].priority); // Stable: then by name.
        self.plan = Some(Box::new(SendPlan {
            committed_ops: Arc::clone(&view.committed_ops),
            read_upto: behind
                .first()
                .map_or(OpId::ZERO, |&index| self.buckets[index].log_position()),
            queue: behind.into(),
            page: VecDeque::new(),
            attempts: self.plan.as_ref().map_or(0, |plan| plan.attempts),
        }));
    }

    /// Sends one line's worth on the way to the announced checkpoint.
    async fn send(&mut self) -> Result<(), StreamError> {
        match self.deadlines.due_while_sending(Instant::now()) {
            Due::Expired => self.expire(),
            Due::Close => self.ended = true,
            Due::Say(left) => write_line(&mut self.out, &SyncLine::TokenExpiresIn(left)),
            Due::Nothing => {}
        }
        if self.ended {
            return Ok(());
        }
        if self.app.settings.shutdown.is_cancelled() {
            self.ended = true;
            return Ok(());
        }
        let Some(plan) = &mut self.plan else { return Ok(()) };
        let Some(&index) = plan.queue.front() else {
            self.complete();
            return Ok(());
        };
        let sent = send_line(
            &self.app.storage,
            plan,
            &mut self.buckets[index],
            LineOutput {
                checkpoint: self.announced.op,
                row_data: self.row_data,
                snapshots: self.snapshots.then_some(&self.app.snapshot_urls),
                out: &mut self.out,
            },
        );
        match sent.await {
            Ok(true) => self.next_bucket(index),
            Ok(false) => {}
            Err(SendError::Broken(broken)) => self.recover(broken).await?,
            Err(SendError::Storage(error)) => return Err(error.into()),
            Err(SendError::Damaged(damaged)) => return Err(StreamError::Damaged(damaged)),
        }
        Ok(())
    }

    /// A bucket is done: goes to the next, and says so when it is less urgent.
    fn next_bucket(&mut self, done: usize) {
        let Some(plan) = &mut self.plan else { return };
        plan.queue.pop_front();
        plan.page.clear();
        let Some(&next) = plan.queue.front() else { return };
        plan.read_upto = self.buckets[next].log_position();
        let priority: Priority = self.buckets[done].priority;
        if self.buckets[next].priority != priority {
            let last_op_id = self.announced.op;
            let line = PartialCheckpointComplete { last_op_id, priority };
            write_line(&mut self.out, &SyncLine::PartialCheckpointComplete(line));
        }
    }

    /// A read missed something, or the builder has replaced it: reads again, at a newer checkpoint
    /// if there is one. What was sent is right and stays.
    async fn recover(&mut self, broken: BrokenChain) -> Result<(), StreamError> {
        let Some(plan) = &mut self.plan else { return Ok(()) };
        plan.attempts += 1;
        if plan.attempts > ATTEMPTS_MAX {
            return Err(StreamError::Broken(broken));
        }
        tokio::time::sleep(ATTEMPT_PAUSE * plan.attempts).await;
        let behind = plan.queue.front().copied();
        let view = self.app.views.renewed().await.map_err(StreamError::Checkpoint)?;
        if view.visible.generation != self.announced.generation
            || view.visible.at.op < self.announced.op
        {
            self.ended = true;
            return Ok(());
        }
        let name = behind.map(|index| self.buckets[index].name.clone());
        let Some((view, diff)) = self.refresh_access(view).await? else { return Ok(()) };
        if let Some(bucket) =
            name.and_then(|name| self.buckets.iter_mut().find(|bucket| bucket.name == name))
        {
            bucket.restart_if_lost();
        }
        if view.visible.at.op > self.announced.op {
            return self.announce(&view, diff).await;
        }
        self.plan_send(&view);
        Ok(())
    }

    fn complete(&mut self) {
        let last_op_id = self.announced.op;
        let line = SyncLine::CheckpointComplete(CheckpointComplete { last_op_id });
        write_line(&mut self.out, &line);
        self.plan = None;
        let since = *self.up_to_date_since.get_or_insert_with(Instant::now);
        if let Some(hold) = self.app.settings.keep_open {
            let outstanding = self.write_checkpoint.outstanding;
            let hold = if outstanding { hold.max(OUTSTANDING_HOLD) } else { hold };
            self.deadlines.hold_until(since + hold);
        }
    }

    fn expire(&mut self) {
        write_line(&mut self.out, &SyncLine::TokenExpiresIn(0));
        self.ended = true;
    }

    /// Reads which of the client's requests the announced checkpoint covers. The checkpoint was
    /// read before, so a request that it covers is found.
    async fn read_write_checkpoint(&mut self) -> Result<(), StorageError> {
        let requests = self.app.storage.write_requests(&self.client_key).await?;
        self.note_requests(&requests);
        Ok(())
    }

    fn note_requests(&mut self, requests: &WriteRequests) {
        let covered = requests.acknowledged(self.announced.ticket);
        let state = &mut self.write_checkpoint;
        // The record forgets old requests; what was acknowledged stays so.
        state.acknowledged = state.acknowledged.max(covered);
        state.outstanding = requests.last_number() > state.acknowledged.unwrap_or(0);
    }

    fn acknowledged(&self) -> Option<OpId> {
        self.write_checkpoint.acknowledged.and_then(OpId::from_i64)
    }
}

/// What changed from one checkpoint to the next.
#[derive(Default)]
struct Diff {
    /// Indices.
    updated: Vec<usize>,
    removed: Vec<String>,
}

/// What is true of a client at the newest checkpoint.
struct CurrentState {
    view: Arc<CheckpointView>,
    access: Access,
    requests: WriteRequests,
}

async fn current_state<S: Storage>(
    app: &AppState<S>,
    client: &Client,
    client_key: &ClientKey,
) -> Result<CurrentState, CheckpointError> {
    let mut attempt = 0;
    loop {
        let view = app.views.latest().await?;
        let requests = async { Ok(app.storage.write_requests(client_key).await?) };
        let access = access(&app.storage, &view, client, &app.settings.quotas);
        match tokio::try_join!(access, requests) {
            Err(CheckpointError::TooOld) if attempt < ATTEMPTS_MAX => attempt += 1,
            found => {
                let (access, requests) = found?;
                return Ok(CurrentState { view, access, requests });
            }
        }
    }
}

fn announced(view: &CheckpointView) -> AnnouncedCheckpoint {
    let at = view.visible.at;
    let generation = view.visible.generation;
    AnnouncedCheckpoint { revision: view.revision, op: at.op, ticket: at.ticket, generation }
}

#[cfg(test)]
mod tests;
