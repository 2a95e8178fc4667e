//! The worker's own state machines over a model of PostgreSQL.
//!
//! The takeover plan, the transaction assembler, the applier and the log writer are those of the
//! ingest worker. Only the I/O of `ReplicationSession` is replaced: events come from the
//! [`SourceModel`](crate::source::SourceModel), and each action is performed on it.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidewater_ingest_worker::simulation::{
    Action, ApplyError, ApplyStep, AssemblerLimits, BARRIER_UNKNOWN, ChangeBatch, ChunkEnd,
    ChunkOutcome, ChunkRange, ChunkRequest, CommitRequest, Event, FoundTable, NewTables, NewTags,
    SlotPosition, StoredGeneration, TakeoverInput, TakeoverKind, TakeoverPlan, TakeoverSettings,
    TransactionAssembler, WriterState, plan_takeover, read_stored_generation, take_over,
};
use tidewater_ingest_worker::{
    Applier, CheckFacts, CommitOptions, ShapeFacts, SourceTable, WriteError,
};
use tidewater_storage::{
    Committed, ControlStore, Lsn, Nonce, SourceIdentity, Tag, WriteCheckpointStore,
};
use tidewater_sync_config::{Column, PgTypes, SyncConfig, TableSchema};

use crate::source::{CONFIGS, NOTES, Row, SourceSnapshot, StreamedEvent, TABLES, TEXT_OID, oid};
use crate::store::Store;
use crate::world::{Shared, op_text};

/// Turns for which a config that was replaced is maintained: several workers may take over meanwhile.
const ROLLBACK_GRACE_TURNS: u64 = 800;

/// Name of the replication slot.
const SLOT: &str = "tidewater";

/// Runs a worker until it is killed or another worker has fenced it.
pub(crate) async fn run(store: Store, world: Shared, number: usize, seed: u64) -> Result<()> {
    let mut worker = Worker::take_over(store, world, number, seed).await?;
    loop {
        worker.step().await?;
    }
}

/// Returns the reason why a worker has ended, if it is one that the simulation causes.
pub(crate) fn expected_end(error: &anyhow::Error) -> Option<&'static str> {
    match error.downcast_ref() {
        Some(WriteError::Fenced) => return Some("fenced"),
        // The former worker has committed after this one read the record. A process would begin
        // another run.
        Some(WriteError::Overtaken) => return Some("overtaken"),
        _ => {}
    }

    // A worker does not repeat a failed read, and a failed write only a few times. A write whose reply
    // was lost, so that its outcome is unknown, has the same root cause.
    let is_injected = error.root_cause().to_string().ends_with("was planned to fail");
    is_injected.then_some("injected fault")
}

struct Worker {
    number: usize,
    store: Store,
    world: Shared,
    rng: StdRng,
    assembler: TransactionAssembler,
    applier: Applier<Store>,
    /// Events of the stream that were not handled yet.
    stream: VecDeque<StreamedEvent>,
    /// The end of the last transaction in `stream`.
    streamed: Lsn,
    now: Duration,
}

impl Worker {
    async fn take_over(store: Store, world: Shared, number: usize, seed: u64) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let catalog_read_at = world.lock().unwrap().source.end_lsn();
        let former = store.control().await?;
        let stored = read_stored_generation(&store, former.as_ref()).await?;

        // Often the config is unchanged. A lost slot is rare: all tables are then copied again.
        let kept = stored.as_ref().filter(|_| rng.random_range(0..2) > 0);
        let text = match kept {
            Some(stored) => stored.generation.sync_config.clone(),
            None => CONFIGS[rng.random_range(0..CONFIGS.len())].to_owned(),
        };
        let config = SyncConfig::compile(&text).unwrap();
        let tables = tables_of(&config, stored.as_ref());
        let is_lost = rng.random_range(0..30) == 0;
        let changed = (rng.random_range(0..10) == 0).then(|| rng.random_range(0..TABLES.len()));
        let slot = {
            let mut world = world.lock().unwrap();
            let is_new = world.confirmed.is_none() || is_lost;
            if is_new {
                // PostgreSQL creates a slot after all earlier transactions have ended.
                world.source.end_all();
                world.confirmed = Some(world.source.end_lsn());
            }
            let confirmed = world.confirmed.unwrap_or_default();
            let server_end = world.source.end_lsn();

            world.log(&format!(
                "worker {number}: finds config {}, {} slot at LSN {confirmed}, changed table {}",
                CONFIGS.iter().position(|config| *config == text).unwrap(),
                if is_new { "a new" } else { "the" },
                changed.map_or("none", |table| TABLES[table].0)
            ));
            SlotPosition { confirmed, is_new, server_end }
        };

        let plan = plan_takeover(TakeoverInput {
            former,
            stored,
            found: SourceIdentity {
                system_id: "simulated".into(),
                database: "app".into(),
                timeline: 1,
                slot: SLOT.into(),
                slot_generation: 1,
            },
            slot,
            config: &config,
            config_text: &text,
            tables,
            changed_table: changed.map(oid),
            has_diverged: false,
            catalog_read_at,
            owner: Nonce(format!("{:x}", rng.random::<u128>())),
            tags: new_tags(&config, &mut rng),
            now: world.lock().unwrap().turns,
            rollback_grace: Duration::from_secs(ROLLBACK_GRACE_TURNS),
        })
        .expect("the model's source always fits");
        // Boxed because it is large.
        Box::pin(Self::begin(store, world, number, rng, plan)).await
    }

    async fn begin(
        store: Store,
        world: Shared,
        number: usize,
        mut rng: StdRng,
        plan: TakeoverPlan,
    ) -> Result<Self> {
        let kind = plan.kind;
        let is_rollback = kind == TakeoverKind::ConfigChanged && !plan.is_new_generation;
        let maintained = plan.next.maintained.len();
        let mut not_yet_visible_xids = plan.not_yet_visible_xids();
        if plan.must_list_transactions_in_progress() {
            not_yet_visible_xids.extend(world.lock().unwrap().source.in_progress());
        }
        // The server sends again what was not confirmed, even if it was committed.
        let streamed = world.lock().unwrap().confirmed.unwrap_or_default();
        let settings = TakeoverSettings {
            new_tables: NewTables { patterns: plan.patterns.clone(), ..NewTables::default() },
            slot: SLOT.into(),
            slot_confirmed: streamed,
            not_yet_visible_xids,
            limits: AssemblerLimits {
                buffered_changes_max: rng.random_range(1..12),
                buffered_bytes_max: rng.random_range(50..1_000),
                chunk_rows: rng.random_range(1..6),
            },
        };
        let compaction_threshold = rng.random_range(1..4);
        let (applier, assembler) =
            Box::pin(take_over(store.clone(), plan, compaction_threshold, settings)).await?;

        let mut worker = Self {
            number,
            store,
            world,
            rng,
            assembler,
            applier,
            stream: VecDeque::new(),
            streamed,
            now: Duration::ZERO,
        };
        let epoch = worker.applier.writer.control().epoch;
        worker.log(&format!(
            "takes over as {kind:?} with epoch {epoch}, and maintains {maintained} other configs"
        ));
        {
            let counters = &mut worker.world.lock().unwrap().counters;
            counters.takeovers.insert(format!("{kind:?}"));
            counters.rollbacks += usize::from(is_rollback);
        }

        let source_position = worker.source_position();
        let writer = worker.writer_state();
        worker.handle(Event::Started { source_position, writer }).await?;
        Ok(worker)
    }

    /// Runs one iteration of the session's loop.
    async fn step(&mut self) -> Result<()> {
        self.now += Duration::from_millis(self.rng.random_range(0..2_000));
        if self.rng.random_range(0..3) == 0 {
            let taken = self.store.last_ticket().await?;
            self.handle(Event::TicketTaken(taken)).await?;
        }
        // A small cache: all records except those in flight are read again.
        self.applier.writer.trim(self.rng.random_range(0..20));

        let is_idle = !self.receive().await?;
        if self.applier.writer.is_busy() && (is_idle || self.rng.random_range(0..3) == 0) {
            self.finish_write().await?;
        }
        let wants_chunk = self.assembler.wants_chunk();
        self.handle(Event::Drained).await?;

        if is_idle && !wants_chunk {
            // An idle worker must take a turn too, or the simulation would wait for it.
            self.store.control().await?;
        }
        Ok(())
    }

    /// Handles a few events of the stream. Returns whether there were any.
    async fn receive(&mut self) -> Result<bool> {
        let mut has_received = false;
        for _ in 0..self.rng.random_range(1..16) {
            if self.stream.is_empty() {
                let world = self.world.lock().unwrap();
                if let Some((events, end)) = world.source.stream(self.streamed, &mut self.rng) {
                    self.stream.extend(events);
                    self.streamed = end;
                }
            }

            let Some(event) = self.stream.pop_front() else {
                let wal_end = self.streamed;
                if self.rng.random_range(0..4) == 0 {
                    self.handle(Event::Keepalive { wal_end }).await?;
                }
                break;
            };

            has_received = true;
            if let Some(change) = event.change {
                self.log(&format!("event {change}"));
            }
            self.handle(event.event).await?;
        }
        Ok(has_received)
    }

    async fn handle(&mut self, event: Event) -> Result<()> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if let Some(summary) = self.event_summary(&event) {
                self.log(&format!("event {summary}"));
            }
            let actions = self.assembler.on_event(event, self.now);
            for action in actions.expect("the model's stream is well formed") {
                self.log(&format!("action {}", self.action_summary(&action)));
                self.perform(action, &mut events).await?;
            }
        }
        Ok(())
    }

    async fn perform(&mut self, action: Action, events: &mut VecDeque<Event>) -> Result<()> {
        match action {
            Action::Apply(batch) => self.apply(&batch, events).await?,
            Action::Commit(request) => self.commit(request, events).await?,
            Action::WaitForWrite => {
                self.applier.writer.finish().await?;
                events.push_back(Event::WriteFinished);
            }

            Action::Confirm(lsn) => self.confirm(lsn).await?,
            Action::EmitMessage(message) => {
                self.world.lock().unwrap().emit_message(message.content(SLOT));
            }
            Action::CopyChunk(request) => self.copy_chunk(&request, events).await?,
            Action::ReportCopied { .. } => {}
            Action::TakeSnapshot => {
                events.push_back(Event::SnapshotTaken(self.snapshot().snapshot));
            }
            Action::Close => bail!("the worker closes although no shutdown was requested"),
        }
        Ok(())
    }

    async fn apply(&mut self, batch: &ChangeBatch, events: &mut VecDeque<Event>) -> Result<()> {
        let mut application = self.applier.prepare(batch).await.map_err(apply_error)?;
        let mut read_ahead_to = None;
        loop {
            let step = self.applier.apply(&mut application).await.map_err(apply_error)?;
            let ApplyStep::NeedsRow(request) = step else { break };

            let SourceSnapshot { state, snapshot } = self.snapshot();
            let rows = &state.tables[self.model_table(request.table)];
            let row = rows.iter().find(|row| row[0] == request.key[0]).map(values);
            self.applier.supply_row(&mut application, row.as_deref()).await.map_err(apply_error)?;
            read_ahead_to = Some(self.source_position());
            events.push_back(Event::SnapshotTaken(snapshot));
        }

        if self.rng.random_range(0..6) == 0 {
            // The first part of a large unit is written before it is committed.
            self.applier.writer.flush().await?;
        }
        events.push_back(Event::Applied { read_ahead_to, writer: self.writer_state() });
        Ok(())
    }

    /// Starts a commit. Usually the next unit begins while the write is still in flight.
    async fn commit(&mut self, request: CommitRequest, events: &mut VecDeque<Event>) -> Result<()> {
        let CommitRequest { position, visibility_barrier, switch_barrier, copy, last_transaction } =
            request;
        let record = copy.as_ref().map(serde_json::to_vec).transpose()?;
        let options = CommitOptions {
            visibility_barrier,
            switch_barrier,
            former_until: self.world.lock().unwrap().turns + ROLLBACK_GRACE_TURNS,
            last_transaction,
            ..CommitOptions::default()
        };
        self.applier.start_commit(position.lsn, position.ticket, options, record).await?;
        let committed = self.applier.writer.latest_control().committed;
        self.log(&format!("starts the commit of {}", committed_text(&committed)));

        if self.rng.random_range(0..3) == 0 {
            self.applier.writer.finish().await?;
            events.push_back(Event::WriteFinished);
        }
        Ok(())
    }

    /// Confirms a position. The slot discards everything before it, so it must be committed.
    async fn confirm(&self, lsn: Lsn) -> Result<()> {
        // The call takes a turn like any other. Without a turn, it would race with a write in flight.
        let control = self.store.control().await?.context("a run has a control record")?;
        assert!(
            lsn <= control.committed.lsn,
            "{lsn} is confirmed, and only {} is committed",
            control.committed.lsn
        );
        let mut world = self.world.lock().unwrap();
        world.confirmed = world.confirmed.max(Some(lsn));
        Ok(())
    }

    async fn copy_chunk(
        &mut self,
        request: &ChunkRequest,
        events: &mut VecDeque<Event>,
    ) -> Result<()> {
        let after = match &request.range {
            ChunkRange::After(key) => key.as_ref().map(|key| &key[0]),
            ChunkRange::Stored(place) => {
                return self.remove_missing(request.table, place.as_deref(), events).await;
            }
        };
        let Some(SourceSnapshot { state, snapshot }) = self.chunk_snapshot(events) else {
            return Ok(());
        };
        let table = self.model_table(request.table);
        let mut rows: Vec<_> = state.tables[table].iter().collect();
        if table != NOTES {
            rows.sort();
            rows.retain(|row| after.is_none_or(|after| row[0] > *after));
            rows.truncate(request.rows_max);
        }

        let flat: Vec<_> = rows.iter().flat_map(|row| values(row)).collect();
        let last_key = self.applier.apply_copied(request.table, &flat).await?;
        events.push_back(Event::ChunkApplied(ChunkOutcome {
            rows: rows.len(),
            end: ChunkEnd::Key(last_key),
            snapshot,
            source_position: self.source_position(),
            writer: self.writer_state(),
        }));
        Ok(())
    }

    /// Removes stored rows that the source no longer has.
    async fn remove_missing(
        &mut self,
        table: usize,
        place: Option<&str>,
        events: &mut VecDeque<Event>,
    ) -> Result<()> {
        let Some(SourceSnapshot { state, snapshot }) = self.chunk_snapshot(events) else {
            return Ok(());
        };
        let rows_max = self.rng.random_range(1..4);
        let page = self.applier.stored_rows(table, place, rows_max).await?;

        let existing = &state.tables[self.model_table(table)];
        let mut missing = page.names;
        let rows = missing.len();
        missing.retain(|name| existing.iter().all(|row| row[0] != **name));
        self.applier.remove_rows(table, missing).await?;
        events.push_back(Event::ChunkApplied(ChunkOutcome {
            rows,
            end: ChunkEnd::Place(page.next),
            snapshot,
            source_position: self.source_position(),
            writer: self.writer_state(),
        }));
        Ok(())
    }

    async fn finish_write(&mut self) -> Result<()> {
        self.applier.writer.finish().await?;
        self.handle(Event::WriteFinished).await
    }

    /// Takes a snapshot. It may lack the last commits, except those that the assembler waits for.
    fn snapshot(&mut self) -> SourceSnapshot {
        let must_see = self.assembler.not_yet_visible_xids();
        self.world.lock().unwrap().source.snapshot(must_see, &mut self.rng)
    }

    /// Takes a snapshot for a chunk, or postpones the chunk because no snapshot sees enough in time.
    fn chunk_snapshot(&mut self, events: &mut VecDeque<Event>) -> Option<SourceSnapshot> {
        let waits_long_enough = self.rng.random_range(0..3) > 0;
        if waits_long_enough {
            return Some(self.snapshot());
        }

        let taken = self.world.lock().unwrap().source.snapshot(&[], &mut self.rng);
        if self.assembler.not_yet_visible_xids().iter().all(|&xid| taken.snapshot.sees(xid)) {
            return Some(taken);
        }
        events.push_back(Event::ChunkPostponed(taken.snapshot));
        None
    }

    fn source_position(&self) -> Lsn {
        self.world.lock().unwrap().source.end_lsn()
    }

    fn writer_state(&self) -> WriterState {
        let writer = &self.applier.writer;
        WriterState { has_uncommitted: writer.has_uncommitted(), is_writing: writer.is_busy() }
    }

    /// Returns the model's index of a table of the run.
    fn model_table(&self, table: usize) -> usize {
        let name = self.table_name(table);
        TABLES.iter().position(|(table, _)| *table == name).unwrap()
    }

    fn log(&self, line: &str) {
        self.world.lock().unwrap().log(&format!("worker {}: {line}", self.number));
    }

    /// Returns an event in short, unless it says nothing: [`Self::receive`] logs changes, and a stream
    /// is drained in every step.
    fn event_summary(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Data(_) | Event::Drained => return None,

            Event::Started { source_position, .. } => {
                format!("started while the source is at LSN {source_position}")
            }
            Event::Begin { xid, .. } => format!("BEGIN {xid}"),
            Event::LogicalMessage { content, .. } => {
                format!("message '{}'", String::from_utf8_lossy(content))
            }
            Event::Commit { end_lsn } => format!("COMMIT, end at LSN {end_lsn}"),
            Event::Keepalive { wal_end } => format!("keepalive at LSN {wal_end}"),

            Event::Applied { read_ahead_to: None, .. } => "applied".to_owned(),
            Event::Applied { read_ahead_to: Some(lsn), .. } => {
                format!("applied with rows that were read at LSN {lsn}")
            }
            Event::ChunkApplied(chunk) => format!(
                "chunk applied: {} rows up to {:?}, read before LSN {}",
                chunk.rows, chunk.end, chunk.source_position
            ),
            Event::ChunkPostponed(snapshot) => format!("chunk postponed, snapshot {snapshot}"),
            Event::WriteFinished => {
                let committed = &self.applier.writer.control().committed;
                format!("write finished, committed is {}", committed_text(committed))
            }
            Event::SnapshotTaken(snapshot) => format!("snapshot {snapshot} taken"),
            Event::TicketTaken(ticket) => format!("ticket {} taken", ticket.0),
            Event::Shutdown => "shutdown".to_owned(),
        })
    }

    fn action_summary(&self, action: &Action) -> String {
        match action {
            Action::Apply(batch) => format!("apply {} changes", batch.changes.len()),
            Action::Commit(request) => format!(
                "commit LSN {}, ticket {}, barrier {}, switch {}",
                request.position.lsn,
                request.position.ticket.0,
                barrier_text(request.visibility_barrier),
                barrier_text(request.switch_barrier)
            ),
            Action::WaitForWrite => "wait for the write in flight".to_owned(),

            Action::Confirm(lsn) => format!("confirm LSN {lsn}"),
            Action::EmitMessage(message) => format!("emit message '{}'", message.content(SLOT)),
            Action::CopyChunk(request) => format!(
                "copy at most {} rows of {}, {:?}",
                request.rows_max,
                self.table_name(request.table),
                request.range
            ),

            Action::ReportCopied { table } => {
                format!("report that {} is copied", self.table_name(*table))
            }
            Action::TakeSnapshot => "take a snapshot".to_owned(),
            Action::Close => "close".to_owned(),
        }
    }

    fn table_name(&self, table: usize) -> &str {
        &self.applier.tables[table].table.schema.name
    }
}

fn committed_text(committed: &Committed) -> String {
    let Committed { op, lsn, ticket } = committed;
    format!("{} at LSN {lsn}, ticket {}", op_text(*op), ticket.0)
}

fn barrier_text(barrier: Option<Lsn>) -> String {
    match barrier {
        None => "none".to_owned(),
        Some(BARRIER_UNKNOWN) => "unknown".to_owned(),
        Some(lsn) => format!("at LSN {lsn}"),
    }
}

/// A malformed change is a fault of the worker. Any other error may be a fault of the store.
fn apply_error(error: ApplyError) -> anyhow::Error {
    match error {
        ApplyError::Malformed(error) => panic!("the model's stream is well formed: {error}"),
        ApplyError::Write(error) => error.into(),
    }
}

fn values(row: &Row) -> Vec<Option<&str>> {
    row.iter().map(|value| Some(&**value)).collect()
}

fn new_tags(config: &SyncConfig, rng: &mut StdRng) -> NewTags {
    NewTags {
        definitions: random_tags(config.definitions().len(), rng),
        lookups: random_tags(config.lookups().len(), rng),
    }
}

fn random_tags(count: usize, rng: &mut StdRng) -> Vec<Tag> {
    (0..count).map(|_| Tag::from_bits(rng.random())).collect()
}

/// Returns the tables that a config reads, and those that maintained ones read.
fn tables_of(config: &SyncConfig, stored: Option<&StoredGeneration>) -> Vec<FoundTable> {
    let mut found = tables(config);
    let known = stored.iter().flat_map(|stored| stored.others.iter().chain([&stored.generation]));
    for other in known {
        for table in tables(&SyncConfig::compile(&other.sync_config).unwrap()) {
            if found.iter().all(|known| known.table.oid != table.table.oid) {
                found.push(table);
            }
        }
    }
    found
}

/// Returns the tables of the model as PostgreSQL's catalog describes them, in the config's order.
fn tables(config: &SyncConfig) -> Vec<FoundTable> {
    let mut found = Vec::new();
    for pattern in config.tables() {
        let index = TABLES.iter().position(|(table, _)| *table == pattern.name).unwrap();
        let names = TABLES[index].1.iter();
        let columns: Vec<_> =
            names.map(|name| Column { name: (*name).to_owned(), type_oid: TEXT_OID }).collect();

        let is_keyless = index == NOTES;
        let table = SourceTable {
            oid: oid(index),
            column_types: vec!["text".into(); columns.len()],
            schema: TableSchema {
                schema: pattern.schema.clone(),
                name: pattern.name.clone(),
                columns,
                types: PgTypes::default(),
            },
            kind: 'r',
            replica_identity: if is_keyless { 'f' } else { 'd' },
            key: if is_keyless { vec![] } else { vec![0] },
            may_select: true,
            row_security: false,
            is_published: true,
            has_row_filter: false,
            estimated_rows: 0.0,
            facts: ShapeFacts::default(),
            check: CheckFacts::default(),
        };

        found.push(FoundTable { table, findings: Vec::new() });
    }
    found
}
