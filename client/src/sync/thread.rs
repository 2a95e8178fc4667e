//! The sync thread: feeds events into the core and carries out its actions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::{Checkpoint, DataLine, ErrorChain, SnapshotLine, SyncLine};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::io_task::{Command, Received};
use super::shared::{Change, ChangeOrigin, Shared};
use super::stats::{SyncStats, TransferMethod};
use crate::core::{Action, Core, Event, LocalBucket, PublishOutcome, Rejection, damaged_message};
use crate::db::database::Writers;
use crate::db::file_lock::FileLock;
use crate::db::queue::user::Admission;
use crate::db::queue::verdict::Finished;
use crate::db::{queue, staging};
use crate::publish::{CheckpointPublisher, Publication, PublishError};
use crate::status::{Problem, ProblemKind};
use crate::subject::subject;

/// The interval at which the queue is checked for writes of other processes, which cannot notify
/// this one. A check is one small read.
const QUEUE_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The thread that owns a session.
pub(crate) struct SyncThread {
    pub(crate) core: Core,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) stats: SyncStats,
    /// Held as long as this thread lives.
    pub(crate) _lock: FileLock,
}

impl SyncThread {
    /// Works until the app drops its sender of events. Returns the totals.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<Event<'static>>,
        mut received: mpsc::Receiver<Received>,
    ) -> SyncStats {
        let mut poll = tokio::time::interval(QUEUE_POLL_INTERVAL);

        loop {
            tokio::select! {
                // Events come first, so that the end of the session does not wait for a long
                // download.
                biased;
                event = events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return self.stats,
                },
                _ = poll.tick() => self.poll_queue(),
                // While a snapshot is fetched the stream waits. The channel is bounded, so the
                // server notices.
                Some(received) = received.recv(), if !self.core.is_fetching() => {
                    self.receive(received);
                }
            }
        }
    }

    fn poll_queue(&mut self) {
        self.shared.refresh_status();
        if self.shared.status.borrow().queue_length > 0 {
            self.handle(Event::LocalWrite);
        }
    }

    fn receive(&mut self, received: Received) {
        match received {
            Received::Opened { connection } => {
                let elapsed = self.stats.elapsed();
                self.stats.connect.get_or_insert(elapsed);
                self.handle(Event::Opened { connection });
            }

            Received::Line { connection, line } if connection == self.core.connection() => {
                self.stats.bytes += line.len() as u64 + 1;
                // An empty line keeps the connection alive.
                if !line.is_empty() {
                    self.handle(Event::Line { connection, line: SyncLine::parse(&line) });
                }
            }
            // A line of an earlier stream is dropped unparsed.
            Received::Line { .. } => {}

            Received::Closed { connection, reason } => {
                debug!(connection, ?reason, "stream closed");
                self.handle(Event::Closed { connection, reason });
            }
        }
    }

    /// Handles an event and every event that its actions cause at once.
    fn handle(&mut self, event: Event<'_>) {
        if let Event::FrameFetched { bytes, is_new: true, .. } = &event {
            self.stats.bytes += bytes;
        }

        // Answers are queued behind each other: the core never handles an event within another.
        let mut events = VecDeque::from([self.admit(event)]);
        while let Some(event) = events.pop_front() {
            for action in self.core.on_event(event) {
                events.extend(self.carry_out(action));
            }
        }
        self.update_status();
    }

    /// Carries out an action. Returns the event that answers it, unless that comes later.
    fn carry_out(&mut self, action: Action<'_>) -> Option<Event<'static>> {
        match action {
            // Work for the I/O task, which answers later.
            Action::FetchToken => self.command(Command::FetchToken),
            Action::Open { connection, token, request } => {
                self.command(Command::Open { connection, token, request })
            }
            Action::Close => self.command(Command::Close),
            Action::FetchSnapshot { connection, line } => {
                self.command(Command::FetchSnapshot { connection, line })
            }
            Action::RequestWriteCheckpoint { token, queue_version } => {
                self.command(Command::RequestWriteCheckpoint { token, queue_version })
            }
            Action::SetTimer { timer, after } => self.command(Command::SetTimer { timer, after }),

            // Work on the downloaded data.
            Action::LoadBuckets => Some(self.load_buckets().unwrap_or_else(store_failed)),
            Action::Stage { line, bucket } => self.stage(&line, bucket).err().map(store_failed),
            Action::StageSnapshot { line, bucket } => {
                self.stage_snapshot(&line, bucket).err().map(store_failed)
            }
            Action::ResetBuckets { buckets } => {
                self.reset_buckets(&buckets).err().map(store_failed)
            }
            Action::Publish(checkpoint) => Some(self.publish(&checkpoint)),

            // Work on the upload queue.
            Action::UploadNext => {
                self.upload_next().unwrap_or_else(|error| Some(queue_failed(error)))
            }
            Action::FinishUpload { transaction_id, rejected } => {
                self.finish_upload(transaction_id, rejected.as_ref()).err().map(queue_failed)
            }
            Action::StoreWriteCheckpoint { queue_version, write_checkpoint } => {
                let writers = self.shared.database.writers();
                let stored =
                    queue::store_write_checkpoint(&writers.sync, queue_version, write_checkpoint);
                Some(stored.map_or_else(queue_failed, Event::WriteCheckpointStored))
            }
        }
    }

    /// Replaces a token by an error if local writes of another user wait. No part of the session uses
    /// such a token.
    fn admit<'a>(&self, event: Event<'a>) -> Event<'a> {
        let Event::Token(Ok(token)) = &event else { return event };
        let Some(user_id) = subject(token) else { return event };

        let admission = queue::user::admit(&mut self.shared.database.writers().sync, &user_id);
        match admission {
            Ok(Admission::Admitted) => event,
            Ok(Admission::Refused { owner, waiting }) => {
                let message = format!(
                    "the token is of user '{user_id}', but local transactions of user '{owner}' wait \
                     to be sent ({waiting})"
                );
                Event::Token(Err(Problem::new(ProblemKind::OtherUser, message)))
            }
            Err(error) => Event::Token(Err(Problem::new(ProblemKind::Storage, error.to_string()))),
        }
    }

    fn command(&self, command: Command) -> Option<Event<'static>> {
        // The I/O task ends only when this thread drops the sender.
        let _ = self.commands.send(command);
        None
    }

    fn load_buckets(&mut self) -> rusqlite::Result<Event<'static>> {
        let writers = self.shared.database.writers();
        staging::load(&writers.sync).map(Event::BucketsLoaded)
    }

    fn stage(&mut self, line: &DataLine<'_>, bucket: LocalBucket) -> rusqlite::Result<()> {
        let mut writers = self.shared.database.writers();
        let writers = &mut *writers;
        let tx = writers.sync.transaction()?;
        staging::stage(&tx, &mut writers.staging, line, bucket)?;
        tx.commit()?;

        self.stats.operations += line.operations.len() as u64;
        Ok(())
    }

    fn stage_snapshot(&mut self, line: &SnapshotLine, bucket: LocalBucket) -> rusqlite::Result<()> {
        let text = serde_json::to_string(line).expect("a line that was parsed can be written");
        let mut writers = self.shared.database.writers();
        let tx = writers.sync.transaction()?;
        staging::stage_snapshot(&tx, &line.bucket, &text, bucket)?;
        tx.commit()?;

        // The fetch has compared all hashes. The line is noted only after the commit, because a line
        // that is not staged is never published.
        self.shared.publisher().note_verified(text);
        self.stats.operations += line.rows;
        Ok(())
    }

    fn reset_buckets(&mut self, buckets: &[String]) -> rusqlite::Result<()> {
        let mut writers = self.shared.database.writers();
        let tx = writers.sync.transaction()?;
        buckets.iter().try_for_each(|name| staging::reset_named(&tx, name))?;
        tx.commit()
    }

    /// Publishes a checkpoint and returns the outcome.
    fn publish(&mut self, checkpoint: &Checkpoint) -> Event<'static> {
        let shared = Arc::clone(&self.shared);
        let mut writers = shared.database.writers();
        let mut publisher = shared.publisher();

        let started = Instant::now();
        let published = publisher.publish(&mut writers.sync, checkpoint);
        self.stats.publish += started.elapsed();

        match published {
            Ok(Publication::Published { tables, rows, snapshot_buckets }) => {
                self.record_publication(checkpoint, rows, &snapshot_buckets);
                let change =
                    Change { tables, origin: ChangeOrigin::Checkpoint(checkpoint.last_op_id) };
                self.announce_publication(change, &writers, &mut publisher);
                if !snapshot_buckets.is_empty() {
                    shared.database.start_wal_checkpoint();
                }
                Event::PublishFinished(PublishOutcome::Published(checkpoint.last_op_id))
            }
            Ok(Publication::Deferred) => {
                let writers = &mut *writers;
                match staging::compact(&writers.sync, &mut writers.staging) {
                    Ok(()) => Event::PublishFinished(PublishOutcome::Deferred),
                    Err(error) => store_failed(error),
                }
            }
            Err(PublishError::Snapshot { bucket, reason }) => {
                let message = damaged_message(&bucket, &reason);
                Event::PublishFinished(PublishOutcome::SnapshotDamaged { bucket, message })
            }
            Err(error @ (PublishError::Sqlite(_) | PublishError::File(_))) => {
                Event::StoreFailed(ErrorChain(&error).to_string())
            }
            Err(error @ (PublishError::Refused { .. } | PublishError::SchemaChanged)) => {
                warn!(%error, "checkpoint refused");
                Event::PublishFinished(PublishOutcome::Refused(error.to_string()))
            }
        }
    }

    fn record_publication(
        &mut self,
        checkpoint: &Checkpoint,
        rows: u64,
        snapshot_buckets: &BTreeSet<String>,
    ) {
        let mut buckets = BTreeMap::new();
        for bucket in &checkpoint.buckets {
            let is_snapshot = snapshot_buckets.contains(&bucket.bucket);
            let method =
                if is_snapshot { TransferMethod::SnapshotMerged } else { TransferMethod::Lines };
            buckets.insert(bucket.bucket.clone(), method);
        }

        self.stats.rows += rows;
        self.stats.checkpoint = checkpoint.last_op_id;
        self.stats.buckets = buckets;
        info!(checkpoint = checkpoint.last_op_id.get(), rows, "checkpoint published");
    }

    /// Notifies the app of a publication, and removes the files that it has merged.
    fn announce_publication(
        &self,
        change: Change,
        writers: &Writers,
        publisher: &mut CheckpointPublisher,
    ) {
        // The files of a fetch that is in flight are needed for the next checkpoint.
        if !self.core.is_fetching()
            && let Err(error) = publisher.clear_snapshots()
        {
            warn!(%error, "cannot remove the files of snapshots");
        }

        self.shared.refresh_after_publication();
        if let Err(error) = writers.release_free_pages() {
            // The next publication releases them. Only space is lost until then.
            warn!(%error, "cannot release free pages");
        }

        self.shared.notify(change);
    }

    /// Sends the head of the queue. Returns an event if the queue is empty.
    fn upload_next(&mut self) -> rusqlite::Result<Option<Event<'static>>> {
        let mut writers = self.shared.database.writers();
        if let Some(transaction) = queue::head(&mut writers.sync)? {
            return Ok(self.command(Command::Upload(transaction)));
        }

        let (pending, queue_version) = queue::pending_uploads(&writers.sync)?;
        Ok(Some(Event::QueueEmpty { pending, queue_version }))
    }

    fn finish_upload(
        &mut self,
        transaction_id: i64,
        rejected: Option<&Rejection>,
    ) -> rusqlite::Result<()> {
        let mut writers = self.shared.database.writers();
        let finished = queue::verdict::finish(&mut writers.sync, transaction_id, rejected);
        drop(writers);

        if let (Some(Rejection { reason, .. }), Ok(finished)) = (rejected, &finished) {
            match finished {
                Finished::Removed => warn!(transaction_id, reason, "upload rejected"),
                Finished::Split => warn!(
                    transaction_id,
                    reason,
                    "upload rejected; its changes were made by other programs, and are sent one by one"
                ),
            }
        }
        self.shared.refresh_status();
        finished.map(|_| ())
    }

    /// Copies what the core knows into the status.
    fn update_status(&self) {
        self.shared.status.send_if_modified(|status| {
            let before = status.clone();
            let core = self.core.status();
            status.connection = core.connection;
            status.downloading = core.progress;
            status.uploading = core.uploading;
            status.checksum_mismatches = core.checksum_mismatches;
            status.failures_in_a_row = core.failures_in_a_row;
            status.download_problem = core.download_problem;
            status.upload_problem = core.upload_problem;
            *status != before
        });
    }
}

fn store_failed(error: rusqlite::Error) -> Event<'static> {
    Event::StoreFailed(error.to_string())
}

fn queue_failed(error: rusqlite::Error) -> Event<'static> {
    Event::QueueFailed(error.to_string())
}
