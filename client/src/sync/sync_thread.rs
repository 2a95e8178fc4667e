//! The thread that owns a session: events go into the core, its actions into the database and to
//! the asynchronous half.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::{Checkpoint, DataLine, OpId, SnapshotLine, SyncLine};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::api::client::{Change, ChangeOrigin, Shared};
use crate::api::sync_once::Method;
use crate::core::{Action, Apply, Core, Event, LocalBucket, damaged};
use crate::db::file_lock::FileLock;
use crate::db::queue;
use crate::db::staging;
use crate::publish::apply::{Applied, ApplyError};
use crate::sync::io_task::{Command, Received};

/// How often the queue is looked at for writes of other processes, which cannot tell us.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

pub(crate) struct Worker {
    pub(crate) core: Core,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) meter: Meter,
    /// Held as long as this thread lives.
    pub(crate) _lock: FileLock,
}

/// What a session has cost so far.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    started: Instant,
    pub(crate) connect: Option<Duration>,
    pub(crate) apply: Duration,
    pub(crate) bytes: u64,
    pub(crate) operations: u64,
    pub(crate) rows: u64,
    pub(crate) buckets: BTreeMap<String, Method>,
    pub(crate) checkpoint: OpId,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            connect: None,
            apply: Duration::ZERO,
            bytes: 0,
            operations: 0,
            rows: 0,
            buckets: BTreeMap::new(),
            checkpoint: OpId::ZERO,
        }
    }

    pub(crate) fn total(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Worker {
    /// Works until nobody sends events any more.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<Event<'static>>,
        mut received: mpsc::Receiver<Received>,
    ) -> Meter {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return self.meter,
                },
                _ = look.tick() => self.look_at_queue(),
                // While a snapshot is fetched the stream waits: the channel is bounded, so the
                // server feels it.
                Some(received) = received.recv(), if !self.core.is_fetching() => {
                    self.receive(received);
                }
            }
        }
    }

    fn look_at_queue(&mut self) {
        self.shared.refresh();
        if self.shared.status.borrow().queue_length > 0 {
            self.handle(Event::LocalWrite);
        }
    }

    fn receive(&mut self, received: Received) {
        match received {
            Received::Opened { connection } => {
                self.meter.connect.get_or_insert_with(|| self.meter.started.elapsed());
                self.handle(Event::Opened { connection });
            }
            Received::Line { connection, line } if connection == self.core.connection() => {
                self.meter.bytes += line.len() as u64 + 1;
                if !line.is_empty() {
                    self.handle(Event::Line { connection, line: SyncLine::parse(&line) });
                }
            }
            Received::Line { .. } => {}
            Received::Closed { connection, reason } => {
                debug!(connection, ?reason, "stream closed");
                self.handle(Event::Closed { connection, reason });
            }
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        if let Event::FrameFetched { bytes, is_new: true, .. } = &event {
            self.meter.bytes += bytes;
        }
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.core.on_event(event) {
                events.extend(self.act(action));
            }
        }
        self.publish_status();
    }

    /// Carries an action out. What it answers at once is returned, the rest comes as an event.
    fn act(&mut self, action: Action<'_>) -> Option<Event<'static>> {
        let command = match action {
            Action::FetchToken => Command::FetchToken,
            Action::Open { connection, token, request } => {
                Command::Open { connection, token, request }
            }
            Action::Close => Command::Close,
            Action::RequestWriteCheckpoint { token, mark } => {
                Command::WriteCheckpoint { token, mark }
            }
            Action::SetTimer { timer, after } => Command::Timer { timer, after },
            Action::FetchSnapshot { connection, line } => {
                Command::FetchSnapshot { connection, line }
            }
            Action::StageSnapshot { line, bucket } => {
                return failed(self.stage_snapshot(&line, bucket));
            }
            Action::LoadBuckets => return Some(stored(self.load())),
            Action::Stage { line, bucket } => return failed(self.stage(&line, bucket)),
            Action::Reset { buckets } => return failed(self.reset(&buckets)),
            Action::Apply(checkpoint) => return Some(self.apply(&checkpoint)),
            Action::UploadNext => match self.upload_next() {
                Ok(command) => command,
                Err(event) => return Some(event),
            },
            Action::FinishUpload { transaction_id, rejected } => {
                if let Some(rejection) = &rejected {
                    warn!(transaction_id, reason = rejection.reason, "upload rejected");
                }
                let mut writers = self.shared.database.writers();
                let finished = queue::finish(&mut writers.sync, transaction_id, rejected.as_ref());
                drop(writers);
                self.shared.refresh();
                return finished.err().map(|error| Event::QueueFailed(error.to_string()));
            }
            Action::SetGate { mark, write_checkpoint } => {
                let writers = self.shared.database.writers();
                let is_set = queue::set_gate(&writers.sync, mark, write_checkpoint);
                let failed = |error: rusqlite::Error| Event::QueueFailed(error.to_string());
                return Some(is_set.map_or_else(failed, Event::GateSet));
            }
        };
        // The other half ends with this one.
        let _ = self.commands.send(command);
        None
    }

    fn load(&mut self) -> rusqlite::Result<Event<'static>> {
        let writers = self.shared.database.writers();
        staging::load(&writers.sync).map(Event::Loaded)
    }

    fn stage(&mut self, line: &DataLine<'_>, bucket: LocalBucket) -> rusqlite::Result<()> {
        let mut writers = self.shared.database.writers();
        let writers = &mut *writers;
        let tx = writers.sync.transaction()?;
        staging::stage(&tx, &mut writers.staging, line, bucket)?;
        tx.commit()?;
        self.meter.operations += line.operations.len() as u64;
        Ok(())
    }

    fn stage_snapshot(&mut self, line: &SnapshotLine, bucket: LocalBucket) -> rusqlite::Result<()> {
        let text = serde_json::to_string(line).expect("a line that was read can be written");
        let mut writers = self.shared.database.writers();
        let writers = &mut *writers;
        let tx = writers.sync.transaction()?;
        staging::stage_snapshot(&tx, &line.bucket, &text, bucket)?;
        tx.commit()?;
        writers.merging.note_proven(text);
        self.meter.operations += line.rows;
        Ok(())
    }

    fn reset(&mut self, buckets: &[String]) -> rusqlite::Result<()> {
        let mut writers = self.shared.database.writers();
        let tx = writers.sync.transaction()?;
        buckets.iter().try_for_each(|name| staging::reset_named(&tx, name))?;
        tx.commit()
    }

    fn apply(&mut self, checkpoint: &Checkpoint) -> Event<'static> {
        let started = Instant::now();
        let mut writers = self.shared.database.writers();
        let writers = &mut *writers;
        let applied = writers.apply(checkpoint);
        self.meter.apply += started.elapsed();
        match applied {
            Ok(Applied::Published { tables, rows, snapshots }) => {
                self.meter.rows += rows;
                self.meter.checkpoint = checkpoint.last_op_id;
                let buckets = checkpoint.buckets.iter().map(|bucket| &bucket.bucket);
                self.meter.buckets =
                    buckets.map(|name| (name.clone(), method(name, &snapshots))).collect();
                info!(checkpoint = checkpoint.last_op_id.get(), rows, "checkpoint published");
                if !self.core.is_fetching()
                    && let Err(error) = writers.merging.clear()
                {
                    warn!(%error, "cannot remove the files of snapshots");
                }
                self.shared.published();
                if let Err(error) = writers.shrink() {
                    // Only space is lost, until the next time.
                    warn!(%error, "cannot give free pages back");
                }
                let origin = ChangeOrigin::Checkpoint(checkpoint.last_op_id);
                self.shared.notify(Change { tables, origin });
                if !snapshots.is_empty() {
                    self.shared.database.write_back();
                }
                Event::Applied(Apply::Published(checkpoint.last_op_id))
            }
            Ok(Applied::Held) => {
                let compacted = staging::compact(&writers.sync, &mut writers.staging);
                stored(compacted.map(|()| Event::Applied(Apply::Held)))
            }
            Err(ApplyError::Snapshot { bucket, reason }) => {
                let message = damaged(&bucket, &reason);
                Event::Applied(Apply::Damaged { bucket, message })
            }
            Err(error @ (ApplyError::Sqlite(_) | ApplyError::File(_))) => {
                Event::StoreFailed(error.to_string())
            }
            Err(error) => {
                warn!(%error, "checkpoint refused");
                Event::Applied(Apply::Refused(error.to_string()))
            }
        }
    }

    fn upload_next(&mut self) -> Result<Command, Event<'static>> {
        let mut writers = self.shared.database.writers();
        let failed = |error: rusqlite::Error| Event::QueueFailed(error.to_string());
        match queue::head(&mut writers.sync).map_err(failed)? {
            Some(transaction) => Ok(Command::Upload(transaction)),
            None => {
                let (gate, mark) = queue::gate(&writers.sync).map_err(failed)?;
                Err(Event::QueueEmpty { gate, mark })
            }
        }
    }

    fn publish_status(&self) {
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

fn method(bucket: &str, snapshots: &BTreeSet<String>) -> Method {
    if snapshots.contains(bucket) { Method::SnapshotMerged } else { Method::Lines }
}

fn stored(result: rusqlite::Result<Event<'static>>) -> Event<'static> {
    result.unwrap_or_else(|error| Event::StoreFailed(error.to_string()))
}

fn failed(result: rusqlite::Result<()>) -> Option<Event<'static>> {
    result.err().map(|error| Event::StoreFailed(error.to_string()))
}
