//! The loop around the [`TransactionAssembler`]: receives from the stream, hands events in, and
//! performs the actions that come out. All decisions are the assembler's.

use std::collections::VecDeque;
use std::time::Duration;

use futures::FutureExt;
use pgwire_replication::{ReplicationClient, ReplicationEvent};
use tidewater_storage::{Lsn, Storage, Ticket};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::apply::applier::Applier;
use crate::apply::batch::ApplyStep;
use crate::apply::changes::ChangeBatch;
use crate::clock::{unix_millis_at, unix_seconds};
use crate::config::Progress;
use crate::freshness::Freshness;
use crate::log::writer::CommitOptions;
use crate::metrics;
use crate::replication::assembler::TransactionAssembler;
use crate::replication::commit_flag::CommitFlag;
use crate::replication::copy_report::CopyReport;
use crate::replication::error::SessionError;
use crate::replication::events::{Action, CommitRequest, Event, WriterState};
use crate::replication::lag::LagMeter;
use crate::replication::silence::SilenceDetector;
use crate::replication::stream_event::assembler_event;
use crate::replication::wal_budget::WalBudget;
use crate::replication::wal_message::WalMessage;
use crate::source::catalog_watcher::CatalogWatcher;
use crate::source::connection::SourceConnection;
use crate::source::copy_rows::CopyRows;
use crate::source::error::SourceError;
use crate::source::retained_wal::{retained_wal_warning, wait_until_confirmed};

/// Events that are taken from the stream in one go. Tickets, shutdown and the catalog have their
/// turn in between, however busy the stream is.
const READY_EVENTS_MAX: usize = 5_000;
/// Duration of one wait for a ticket. Time-driven decisions and the catalog check happen in
/// between.
const TICKET_WAIT: Duration = Duration::from_millis(500);
/// Interval at which the end of the server's WAL and the slot are read. The lag of an idle source grows
/// up to it.
const SERVER_END_INTERVAL: Duration = Duration::from_secs(2);
/// Timeout for closing the replication stream.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

mod source_reads;

/// One run on the slot.
pub(crate) struct ReplicationSession<S> {
    assembler: TransactionAssembler,
    applier: Applier<S>,
    source: SourceConnection,
    stream: ReplicationClient,
    watch: CatalogWatcher,
    started_at: Instant,
    lag: LagMeter,
    wal_budget: WalBudget,
    /// The number of rows that are not synced, as it was last reported.
    unsynced_rows: Option<usize>,
    /// The ticket that the last wait has found. It is lower than the last one for which a message was emitted
    /// if the counter was restored from a backup.
    found_ticket: Option<Ticket>,
    /// The time of the last look at the server.
    looked_at: Option<Instant>,
    freshness: Freshness,
    silence: SilenceDetector,
    /// The time at which the commit in flight began.
    commit_began_at: Option<Instant>,
    /// Set once a commit has landed.
    commits: CommitFlag,
    copy_report: CopyReport,
    /// The run ends once readers see everything that was committed when it started.
    until_caught_up: bool,
    /// Duration for which a config that readers no longer have is maintained.
    rollback_grace: Duration,
}

/// The settings of a worker that its session needs.
pub(crate) struct SessionSettings {
    pub(crate) freshness: Freshness,
    /// Duration without any message of the server after which the run ends.
    pub(crate) receiver_timeout: Duration,
    /// WAL that the slot may retain before the worker warns.
    pub(crate) wal_budget_bytes: u64,
    /// Duration for which a config that readers no longer have is maintained.
    pub(crate) rollback_grace: Duration,
}

/// The receiver of progress reports.
type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

impl<S: Storage> ReplicationSession<S> {
    pub(crate) fn new(
        assembler: TransactionAssembler,
        applier: Applier<S>,
        source: SourceConnection,
        stream: ReplicationClient,
        watch: CatalogWatcher,
        settings: SessionSettings,
    ) -> Self {
        let silence = SilenceDetector::new(settings.receiver_timeout, stream.metrics());
        let wal_budget = WalBudget::new(watch.slot.clone(), settings.wal_budget_bytes);
        Self {
            assembler,
            applier,
            source,
            stream,
            watch,
            started_at: Instant::now(),
            lag: LagMeter::default(),
            wal_budget,
            unsynced_rows: None,
            found_ticket: None,
            looked_at: None,
            freshness: settings.freshness,
            silence,
            commit_began_at: None,
            commits: CommitFlag::default(),
            copy_report: CopyReport::default(),
            until_caught_up: false,
            rollback_grace: settings.rollback_grace,
        }
    }

    /// Makes the run end once readers see everything that was committed when it started.
    pub(crate) fn until_caught_up(self, until_caught_up: bool) -> Self {
        Self { until_caught_up, ..self }
    }

    /// Sets this flag once a commit has landed.
    pub(crate) fn noting_commits(self, commits: CommitFlag) -> Self {
        Self { commits, ..self }
    }

    /// Runs until `shutdown`, or until something breaks or the server is silent.
    ///
    /// Silence ends the run wherever it is, like a kill: what is not committed is read again.
    pub(crate) async fn run(
        self,
        on_progress: OnProgress<'_>,
        shutdown: &CancellationToken,
    ) -> Result<(), SessionError> {
        let silence = self.silence.clone().silence();
        tokio::select! {
            biased;
            ended = self.replicate(on_progress, shutdown) => ended,
            timeout = silence => Err(SourceError::Silent(timeout).into()),
        }
    }

    async fn replicate(
        mut self,
        on_progress: OnProgress<'_>,
        shutdown: &CancellationToken,
    ) -> Result<(), SessionError> {
        // The position is read after the takeover has removed rows of tables that are gone. The
        // stream may repeat changes of those rows up to here.
        let source_position = self.source.insert_lsn().await?;
        let writer = self.writer_state();
        self.handle(Event::Started { source_position, writer }, on_progress).await?;
        if self.until_caught_up {
            // An idle source would not tell for long that the stream has passed the position.
            self.source.emit_message(&WalMessage::Barrier.content(&self.watch.slot)).await?;
        }

        let mut is_ready = false;
        loop {
            if !is_ready && self.is_ready() {
                is_ready = true;
                on_progress(Progress::Ready);
            }
            let has_caught_up = self.until_caught_up && self.readers_see(source_position);
            if has_caught_up || shutdown.is_cancelled() {
                self.handle(Event::Shutdown, on_progress).await?;
                if has_caught_up {
                    self.report_caught_up(on_progress).await?;
                }
                return self.close().await;
            }

            // A write that has landed is reported first: what is due next is then committed at once,
            // and the slot is confirmed even if the stream stays busy.
            if self.applier.writer.is_busy()
                && self.applier.writer.wait_in_flight().now_or_never().is_some()
            {
                self.finish_write(on_progress).await?;
            }
            // All that was ready has been handed in, so a pause of the stream is the moment to apply.
            self.handle(Event::Drained, on_progress).await?;
            self.look_at_server(on_progress).await?;
            // Here, since neither a busy stream nor a long copy may keep it waiting.
            self.watch.check(&self.source.client, &self.applier.tables).await?;

            if self.assembler.wants_chunk() {
                // A chunk was copied just now. The stream and tickets have their turn before the next
                // one, but only with what is ready: an idle stream must not delay the copy.
                self.take_ready_events(on_progress).await?;
                self.take_ticket(on_progress).await?;
            } else {
                self.wait(on_progress, shutdown).await?;
            }
        }
    }

    /// Reads the end of the server's WAL and the state of the slot from time to time: the stream does
    /// not tell them. Also reports the rows that are not synced, if their number has changed.
    async fn look_at_server(&mut self, on_progress: OnProgress<'_>) -> Result<(), SessionError> {
        if self.looked_at.is_some_and(|read_at| read_at.elapsed() < SERVER_END_INTERVAL) {
            return Ok(());
        }
        let read_at = Instant::now();
        self.looked_at = Some(read_at);
        let look = self.source.look_at_server(&self.watch.slot).await?;
        self.lag.note_server_end(look.end, read_at, self.is_anything_pending());
        self.record_lag();

        let unsynced_rows = self.applier.unsynced_rows.total();
        if self.unsynced_rows != Some(unsynced_rows) {
            self.unsynced_rows = Some(unsynced_rows);
            on_progress(Progress::UnsyncedRows(unsynced_rows));
        }

        if self.applier.writer.control().has_expired(unix_seconds()) {
            return Err(SessionError::GraceOver);
        }

        let Some(slot) = look.slot else { return Ok(()) };
        if slot.is_lost {
            // The next run makes a new one.
            let lost = "the server has invalidated the replication slot";
            return Err(SourceError::Disconnected(lost.into()).into());
        }
        metrics::record_slot_wal(slot.retained_bytes, slot.left_bytes);
        if let Some(warning) = self.wal_budget.judge(&slot, read_at) {
            on_progress(Progress::WalBudget(warning));
        }
        Ok(())
    }

    /// Returns whether something that was received is not committed.
    fn is_anything_pending(&self) -> bool {
        let writer = self.writer_state();
        !self.assembler.is_idle() || writer.has_uncommitted || writer.is_writing
    }

    /// Returns whether readers see what this run maintains.
    fn is_ready(&self) -> bool {
        let control = self.applier.writer.control();
        control.visible.as_ref().is_some_and(|v| v.generation == control.generation)
    }

    /// Reports that the run ends because readers see what they should, and what the slot retains now.
    async fn report_caught_up(&self, on_progress: OnProgress<'_>) -> Result<(), SessionError> {
        on_progress(Progress::CaughtUp);

        // The driver sends nothing when it is closed. Runs that are shorter than the interval of its
        // confirmations would never let the server remove any WAL.
        let slot = &self.watch.slot;
        let client = &self.source.client;
        let committed = self.applier.writer.control().committed.lsn;
        let confirmed = wait_until_confirmed(client, slot, committed);
        if let Ok(failed) = tokio::time::timeout(SHUTDOWN_TIMEOUT, confirmed).await {
            failed?;
        }
        on_progress(Progress::Advice(retained_wal_warning(client, slot).await?));
        Ok(())
    }

    /// Returns whether readers see everything up to a position of the source. A source that is never
    /// idle has something pending all the time. One that is idle may have a position to commit.
    fn readers_see(&self, position: Lsn) -> bool {
        let control = self.applier.writer.control();
        let is_received = self.assembler.received().lsn >= position;
        let is_committed =
            control.committed.lsn >= position || (is_received && !self.is_anything_pending());
        is_committed && control.visibility_barrier.is_none() && self.is_ready()
    }

    /// Waits for whatever comes first.
    async fn wait(
        &mut self,
        on_progress: OnProgress<'_>,
        shutdown: &CancellationToken,
    ) -> Result<(), SessionError> {
        let storage = self.applier.writer.storage().clone();
        let is_busy = self.applier.writer.is_busy();
        let seen = self.found_ticket.unwrap_or_else(|| self.assembler.last_emitted_ticket());

        // The branches have no order: a busy stream must not keep tickets waiting.
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = self.applier.writer.wait_in_flight(), if is_busy => self.finish_write(on_progress).await,
            event = self.stream.recv() => {
                self.take(event?, on_progress).await?;
                self.take_ready_events(on_progress).await
            }
            taken = storage.wait_for_ticket(seen, TICKET_WAIT) => {
                // A ticket that is not found yet is found by the next wait. So the counter is read once.
                let taken = taken?;
                self.found_ticket = Some(taken);
                self.handle(Event::TicketTaken(taken), on_progress).await
            }
        }
    }

    /// Hands in the last ticket that a client has taken.
    async fn take_ticket(&mut self, on_progress: OnProgress<'_>) -> Result<(), SessionError> {
        let last = self.applier.writer.storage().last_ticket().await?;
        self.handle(Event::TicketTaken(last), on_progress).await
    }

    /// Takes the events that the stream has ready, without waiting.
    async fn take_ready_events(&mut self, on_progress: OnProgress<'_>) -> Result<(), SessionError> {
        for _ in 0..READY_EVENTS_MAX {
            let Some(event) = self.stream.recv().now_or_never() else { break };
            self.take(event?, on_progress).await?;
        }
        Ok(())
    }

    /// Takes one event of the stream; `None` is its end.
    async fn take(
        &mut self,
        event: Option<ReplicationEvent>,
        on_progress: OnProgress<'_>,
    ) -> Result<(), SessionError> {
        let Some(event) = event else {
            return Err(SourceError::Disconnected("the server ended the stream".into()).into());
        };

        self.silence.note_taken();
        self.measure(&event);
        match assembler_event(event) {
            Some(event) => self.handle(event, on_progress).await,
            None => Ok(()),
        }
    }

    /// Updates the metrics by what the server says of itself and of its transactions.
    fn measure(&mut self, event: &ReplicationEvent) {
        let now = Instant::now();
        match event {
            ReplicationEvent::XLogData { wal_end, server_time_micros, .. } => {
                self.lag.note_server(Lsn(wal_end.0), *server_time_micros, now);
            }

            ReplicationEvent::Commit { end_lsn, commit_time_micros, .. } => {
                // After a reconnect the server repeats transactions that are committed here.
                if Lsn(end_lsn.0) > self.assembler.received().lsn {
                    metrics::count_transaction();
                    self.lag.note_received(*commit_time_micros, now);
                }
            }

            ReplicationEvent::KeepAlive { wal_end, server_time_micros, .. } => {
                let is_pending = self.is_anything_pending();
                self.lag.note_keepalive(Lsn(wal_end.0), *server_time_micros, now, is_pending);
                self.record_lag();
            }

            ReplicationEvent::Begin { .. }
            | ReplicationEvent::Message { .. }
            | ReplicationEvent::StoppedAt { .. } => {}
        }
    }

    /// Hands an event to the assembler, performs its actions, and hands in their outcomes.
    async fn handle(
        &mut self,
        event: Event,
        on_progress: OnProgress<'_>,
    ) -> Result<(), SessionError> {
        // Outcomes wait behind the other actions of the same event: the assembler has decided on all
        // of them before it learns how the first one went.
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.assembler.on_event(event, self.started_at.elapsed())? {
                self.perform(action, &mut events, on_progress).await?;
            }
        }
        Ok(())
    }

    /// Performs one action. What it must report is appended to `events`.
    async fn perform(
        &mut self,
        action: Action,
        events: &mut VecDeque<Event>,
        on_progress: OnProgress<'_>,
    ) -> Result<(), SessionError> {
        match action {
            Action::Apply(batch) => {
                let span = tracing::debug_span!("apply", changes = batch.changes.len());
                self.apply(&batch, events).instrument(span).await?;
            }
            Action::Commit(request) => {
                let span = tracing::debug_span!("commit", lsn = %request.position.lsn);
                self.commit(&request).instrument(span).await?;
            }

            Action::WaitForWrite => {
                self.wait_for_write().await?;
                events.push_back(Event::WriteFinished);
            }
            // The assembler asks for this after the commit has landed, never before: what is
            // confirmed the server does not send again.
            Action::Confirm(lsn) => {
                self.lag.note_committed(lsn);
                self.record_lag();
                self.stream.update_applied_lsn(pgwire_replication::Lsn(lsn.0));
            }
            Action::EmitMessage(message) => {
                self.source.emit_message(&message.content(&self.watch.slot)).await?;
            }

            Action::CopyChunk(request) => {
                let table = request.table;
                let span = tracing::debug_span!("copy_chunk", table);
                self.copy_chunk(request, events, on_progress).instrument(span).await?;
            }
            Action::ReportCopied { table } => {
                let copied = &self.applier.tables[table].table;
                on_progress(self.copy_report.copied(table, copied));
                // What has changed during the copy is noticed before readers see it, if possible.
                self.watch.hurry();
            }
            Action::TakeSnapshot => {
                events.push_back(Event::SnapshotTaken(self.source.snapshot().await?));
            }
            // The stream is closed by the caller, which owns the end of the run.
            Action::Close => {}
        }
        Ok(())
    }

    fn writer_state(&self) -> WriterState {
        let writer = &self.applier.writer;
        WriterState { has_uncommitted: writer.has_uncommitted(), is_writing: writer.is_busy() }
    }

    /// Waits for the write in flight, and reports it.
    async fn finish_write(&mut self, on_progress: OnProgress<'_>) -> Result<(), SessionError> {
        self.wait_for_write().await?;
        self.handle(Event::WriteFinished, on_progress).await
    }

    /// Waits until the write in flight has landed, and records the time of its commit.
    async fn wait_for_write(&mut self) -> Result<(), SessionError> {
        self.applier.writer.finish().await?;
        if let Some(began_at) = self.commit_began_at.take() {
            self.commits.set();
            metrics::record_commit(began_at.elapsed());
            self.lag.note_landed();
            self.record_lag();
        }
        Ok(())
    }

    /// Applies a batch. Values that are neither in the stream nor in the store are read from the
    /// source, one row at a time.
    async fn apply(
        &mut self,
        batch: &ChangeBatch,
        events: &mut VecDeque<Event>,
    ) -> Result<(), SessionError> {
        let mut application = self.applier.prepare(batch).await?;
        let mut read_ahead_to = None;

        while let ApplyStep::NeedsRow(request) = self.applier.apply(&mut application).await? {
            let read = self.read_row(&request).await?;
            // The row may be ahead of the stream. The assembler raises the visibility barrier to the
            // position after the read, so no reader sees it too early.
            let values = read.row.as_ref().map(CopyRows::values).transpose()?;
            self.applier.supply_row(&mut application, values.as_deref()).await?;
            read_ahead_to = read_ahead_to.max(Some(read.source_position));
            events.push_back(Event::SnapshotTaken(read.snapshot));
        }

        events.push_back(Event::Applied { read_ahead_to, writer: self.writer_state() });
        Ok(())
    }

    /// Begins a commit. It lands while the next unit is assembled.
    async fn commit(&mut self, request: &CommitRequest) -> Result<(), SessionError> {
        let CommitRequest { position, visibility_barrier, switch_barrier, copy, last_transaction } =
            request;
        let record =
            copy.as_ref().map(serde_json::to_vec).transpose().map_err(SessionError::CopyRecord)?;
        let options = CommitOptions {
            visibility_barrier: *visibility_barrier,
            switch_barrier: *switch_barrier,
            former_until: unix_seconds() + self.rollback_grace.as_secs(),
            last_transaction: *last_transaction,
            current_at: self.lag.current_with_received().map(unix_millis_at),
            ..CommitOptions::default()
        };
        self.applier.start_commit(position.lsn, position.ticket, options, record).await?;
        self.commit_began_at = Some(Instant::now());
        self.lag.note_requested();
        Ok(())
    }

    /// Records how far readers are behind the source. While the visible checkpoint is held back, what
    /// is committed says nothing about them.
    fn record_lag(&self) {
        metrics::record_replication_lag_bytes(self.lag.bytes());
        let is_held_back = self.applier.writer.control().visibility_barrier.is_some();
        let is_current = self.applier.writer.control().visible.is_some() && !is_held_back;
        if let Some(moment) = self.lag.current_as_of().filter(|_| is_current) {
            self.freshness.advance_to(moment);
        }
    }

    /// Closes the stream. Everything that was received whole is committed and confirmed.
    async fn close(mut self) -> Result<(), SessionError> {
        if let Ok(Err(error)) = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.stream.shutdown()).await
        {
            tracing::debug!(%error, "closing the replication stream failed");
        }
        Ok(())
    }
}
