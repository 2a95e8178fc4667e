//! Assembles the stream's transactions into units that are applied, stored and committed.
//!
//! [`TransactionAssembler`] is a state machine without I/O. [`ReplicationSession`] hands it what
//! happens as [`Event`]s and performs the [`Action`]s that it returns, in their order. The
//! simulation drives the same machine over a model of PostgreSQL.
//!
//! # What it decides
//!
//! - **When changes are applied**: when the stream has nothing more ready, or when the buffer is
//!   full. Then all transactions that were received whole are applied as one unit. A transaction
//!   that is larger than the buffer is applied in parts as it arrives.
//! - **When a unit is committed**: as soon as no write is in flight. A lone transaction never
//!   waits. While one unit is stored, the next one is assembled.
//! - **Which position a commit takes**: the end of the last transaction received whole. It never
//!   contains a part of a transaction.
//! - **When readers may follow**: not before the commit has passed the visibility barrier.
//! - **When chunks of the initial copy are read**: between transactions, while none is buffered.
//!
//! # What always holds
//!
//! - `received.lsn >= requested.lsn >= committed.lsn`, and none of them goes back.
//! - No commit is requested while complete transactions wait in the buffer, or while a part of a
//!   transaction has been applied and its end has not come.
//! - A position is confirmed to the slot only after the commit that contains it has landed.
//! - After [`Action::Apply`] and [`Action::CopyChunk`] nothing is decided before the outcome.
//!
//! [`ReplicationSession`]: crate::replication::session::ReplicationSession

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_storage::{Committed, Control, Lsn, Ticket};

use crate::apply::applier::SyncedTable;
use crate::apply::changes::{Change, ChangeBatch, RowChange};
use crate::initial_copy::state::{CopyState, TableCopy};
use crate::replication::events::{
    Action, AssemblyError, ChunkOutcome, ChunkRequest, CommitRequest, Event, StreamPosition,
    WriterState,
};
use crate::replication::marker::{MARKER_PREFIX, Marker};
use crate::replication::relations::{NewTables, RelationMap, TransactionAge};
use crate::source::pg_snapshot::PgSnapshot;
use crate::source::pgoutput::{Message, TupleRange};

/// An idle source's position is committed this often. Each such commit costs one conditional
/// write, and without it the slot would keep the WAL of the whole idle time.
const IDLE_COMMIT_INTERVAL: Duration = Duration::from_secs(10);
/// The list of transactions that may not be visible yet is shortened beyond this length. It is
/// scanned at each read of the source and, during a copy, stored with each commit.
const NOT_YET_VISIBLE_MAX: usize = 10_000;
/// A barrier at an unknown position: the initial copy is not finished, so nothing is visible.
pub const BARRIER_UNKNOWN: Lsn = Lsn(u64::MAX);

/// The sizes by which the work is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssemblerLimits {
    /// Changes that are buffered before they are applied, even if their transaction is not
    /// complete.
    pub buffered_changes_max: usize,
    /// Bytes of messages that are buffered before they are applied.
    pub buffered_bytes_max: usize,
    /// Rows of a chunk of the initial copy.
    pub chunk_rows: usize,
}

impl Default for AssemblerLimits {
    fn default() -> Self {
        Self {
            // One read of the store loads the records of all of them.
            buffered_changes_max: 5_000,
            // The buffer is the only memory that grows with what the source sends.
            buffered_bytes_max: 4 << 20,
            // The cursor is committed after each chunk, and the stream waits for as long.
            chunk_rows: 20_000,
        }
    }
}

/// The state in which an assembler starts.
#[derive(Debug)]
pub struct AssemblerStart {
    /// The tables of the run.
    pub tables: Arc<[SyncedTable]>,
    /// The rule by which other tables end the run.
    pub new_tables: NewTables,
    /// Name of the replication slot, which marks the run's own messages.
    pub slot: String,
    /// The progress of the initial copy, unless it is visible already.
    pub copy: Option<CopyState>,
    /// Transactions that may not be visible to new snapshots yet.
    pub not_yet_visible_xids: Vec<u32>,
    /// The sizes by which the work is divided.
    pub limits: AssemblerLimits,
}

/// A transaction whose end has not come yet.
#[derive(Clone, Copy, Debug)]
struct OpenTransaction {
    xid: u32,
    age: TransactionAge,
    /// The highest ticket of its markers.
    ticket: Ticket,
    /// True once a part of it has been applied. From then on nothing can be committed before its
    /// end.
    is_begun: bool,
}

/// The outcome that must be reported before anything else is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Nothing,
    Applied,
    /// The chunk of this table, by its index in the run.
    Chunk(usize),
}

/// The state machine of a run on the slot. See the module's documentation.
#[derive(Debug)]
pub struct TransactionAssembler {
    relations: RelationMap,
    slot: String,
    limits: AssemblerLimits,

    /// Changes that were received and not applied, in the order of the stream.
    buffered: Vec<Change>,
    buffered_bytes: usize,
    /// The number of buffered changes that belong to complete transactions. The others belong to
    /// the open one.
    complete: usize,
    open: Option<OpenTransaction>,

    /// The end of the last transaction received whole.
    received: StreamPosition,
    /// The position of the last commit that was requested.
    requested: StreamPosition,
    /// The position of the last commit that has landed.
    committed: StreamPosition,
    writer: WriterState,
    awaited: Awaited,
    /// True if a commit is needed although the stream has not moved: with the cursor of a chunk.
    must_commit: bool,
    /// Actions that follow the next commit.
    after_commit: Vec<Action>,
    last_commit_at: Duration,
    now: Duration,

    /// Readers stay at the former checkpoint until a commit has reached this position.
    barrier: Option<Lsn>,
    copy: Option<CopyState>,
    /// Applied transactions that no snapshot was seen to contain. A commit is decoded an instant
    /// before new snapshots see it, so rows are read only from a snapshot that sees all of these.
    not_yet_visible: Vec<u32>,
    last_emitted_ticket: Ticket,

    /// True if the stream had nothing more ready, and no chunk was read since.
    is_drained: bool,
    is_closing: bool,
}

impl TransactionAssembler {
    /// Returns an assembler that continues where the control record says.
    #[must_use]
    pub fn new(start: AssemblerStart, control: &Control) -> Self {
        let Committed { lsn, ticket, .. } = control.committed;
        let position = StreamPosition { lsn, ticket };

        Self {
            relations: RelationMap::new(start.tables, start.new_tables),
            slot: start.slot,
            limits: start.limits,
            buffered: Vec::new(),
            buffered_bytes: 0,
            complete: 0,
            open: None,
            received: position,
            requested: position,
            committed: position,
            writer: WriterState::default(),
            awaited: Awaited::Nothing,
            must_commit: false,
            after_commit: Vec::new(),
            last_commit_at: Duration::ZERO,
            now: Duration::ZERO,
            barrier: control.visibility_barrier,
            copy: start.copy,
            not_yet_visible: start.not_yet_visible_xids,
            last_emitted_ticket: ticket,
            is_drained: false,
            is_closing: false,
        }
    }

    /// Handles an event and returns what is to be done now, in this order. `now` is the time since
    /// the run began.
    ///
    /// # Errors
    /// Any ends the run. What was applied and not committed is void then.
    ///
    /// # Panics
    /// When the caller breaks the contract of [`Action`], or an invariant does not hold.
    pub fn on_event(&mut self, event: Event, now: Duration) -> Result<Vec<Action>, AssemblyError> {
        self.now = self.now.max(now);
        let mut actions = Vec::new();

        match event {
            Event::Started { source_position, writer } => {
                self.start(source_position, writer, &mut actions);
            }
            Event::Begin { xid, commit_lsn } => self.begin(xid, commit_lsn)?,
            Event::Data(message) => self.take_message(message)?,
            Event::LogicalMessage { is_transactional, prefix, content } => {
                if is_transactional && prefix == MARKER_PREFIX {
                    self.take_marker(&content);
                }
            }
            Event::Commit { end_lsn } => self.end(end_lsn)?,
            Event::Keepalive { wal_end } => {
                if self.take_keepalive(wal_end) {
                    self.advance(&mut actions);
                }
            }
            Event::Drained => {
                self.is_drained = true;
                self.advance(&mut actions);
            }
            Event::Applied { read_ahead_to, writer } => {
                self.note_applied(read_ahead_to, writer, &mut actions);
                self.advance(&mut actions);
            }
            Event::ChunkApplied(chunk) => {
                self.note_chunk(chunk, &mut actions);
                self.advance(&mut actions);
            }
            Event::WriteFinished => {
                self.note_writer(WriterState { is_writing: false, ..self.writer }, &mut actions);
                self.advance(&mut actions);
            }
            Event::SnapshotTaken(snapshot) => self.forget_visible(&snapshot),
            Event::TicketTaken(ticket) => self.emit_ticket(ticket, &mut actions),
            Event::Shutdown => {
                self.is_closing = true;
                self.advance(&mut actions);
            }
        }

        // A full buffer must not wait for the stream to pause.
        if actions.is_empty() && self.is_full() {
            self.advance(&mut actions);
        }
        self.assert_invariants();
        Ok(actions)
    }

    /// Returns the transactions that a snapshot must see before rows may be read from it.
    #[must_use]
    pub fn not_yet_visible_xids(&self) -> &[u32] {
        &self.not_yet_visible
    }

    /// Returns the last ticket for which a marker was emitted.
    #[must_use]
    pub fn last_emitted_ticket(&self) -> Ticket {
        self.last_emitted_ticket
    }

    /// Returns whether the next [`Event::Drained`] leads to a chunk of the initial copy: then the
    /// caller must not wait for the stream.
    #[must_use]
    pub fn wants_chunk(&self) -> bool {
        self.copy.as_ref().is_some_and(|copy| copy.next().is_some())
            && self.open.is_none()
            && self.buffered.is_empty()
            && !self.is_closing
    }

    /// Returns the end of the last transaction received whole.
    #[must_use]
    pub fn received(&self) -> StreamPosition {
        self.received
    }

    fn start(&mut self, source_position: Lsn, writer: WriterState, actions: &mut Vec<Action>) {
        self.writer = writer;
        // A former run may have ended between its last commit and the confirmation.
        actions.push(Action::Confirm(self.committed.lsn));

        let has_copied = self.copy.as_ref().is_some_and(|copy| copy.next().is_none());
        if has_copied && self.barrier == Some(BARRIER_UNKNOWN) {
            // No table is left to copy: only rows were removed. The stream may still be at a time
            // when those rows existed, so readers wait until it has passed the present.
            self.barrier = Some(source_position);
            self.must_commit = true;
            self.after_commit.push(Action::EmitMarker(Marker::Barrier));
            self.advance(actions);
        }
    }

    // --- The stream

    fn begin(&mut self, xid: u32, commit_lsn: Lsn) -> Result<(), AssemblyError> {
        self.expect_stream_event();
        if self.open.is_some() {
            return Err(AssemblyError::OutOfOrder("a transaction within a transaction"));
        }

        // A commit record begins below its own end. A position is stored only as the end of a
        // transaction or of what was sent, so an equal position means a new transaction.
        let is_known = commit_lsn < self.committed.lsn;
        let is_in_copy = self.copy.as_ref().is_some_and(|copy| commit_lsn <= copy.ignore_until);
        let age = match (is_known, is_in_copy) {
            (true, _) => TransactionAge::Known,
            (false, true) => TransactionAge::InCopy(commit_lsn),
            (false, false) => TransactionAge::New(commit_lsn),
        };
        self.open = Some(OpenTransaction { xid, age, ticket: Ticket::default(), is_begun: false });
        Ok(())
    }

    fn take_message(&mut self, message: Bytes) -> Result<(), AssemblyError> {
        self.expect_stream_event();
        let Some(open) = self.open else {
            return Err(AssemblyError::OutOfOrder("a change outside of a transaction"));
        };

        // Decoded once: what is buffered names the places of the tuples in the message.
        match Message::decode(&message)? {
            Message::Relation(relation) => self.relations.describe(&relation, open.age)?,
            Message::Insert { relation, new } => {
                self.buffer_row(open, relation, None, Some(new), message)?;
            }
            Message::Update { relation, old, new } => {
                self.buffer_row(open, relation, old, Some(new), message)?;
            }
            Message::Delete { relation, old } => {
                self.buffer_row(open, relation, Some(old), None, message)?;
            }
            Message::Truncate { relations } => {
                let mut tables = Vec::new();
                for relation in relations {
                    tables.extend(self.table_to_change(relation, open)?);
                }
                if !tables.is_empty() {
                    self.buffer(Change::Truncate(tables));
                }
            }
            Message::Other => {}
        }
        Ok(())
    }

    fn buffer_row(
        &mut self,
        open: OpenTransaction,
        relation: u32,
        old: Option<TupleRange>,
        new: Option<TupleRange>,
        message: Bytes,
    ) -> Result<(), AssemblyError> {
        if let Some(table) = self.table_to_change(relation, open)? {
            self.buffer(Change::Row(RowChange { table, old, new, message }));
        }
        Ok(())
    }

    fn buffer(&mut self, change: Change) {
        self.buffered_bytes += change.len();
        self.buffered.push(change);
    }

    /// Returns the table that a change is to be applied to, if any.
    fn table_to_change(
        &self,
        relation: u32,
        open: OpenTransaction,
    ) -> Result<Option<usize>, AssemblyError> {
        let Some(table) = self.relations.table(relation, open.age)? else { return Ok(None) };
        if open.age == TransactionAge::Known {
            return Ok(None);
        }

        // Applying a change twice is harmless for a row with a key. Equal rows of a table without
        // one are counted, so its changes are either in the copy's one snapshot or in the stream.
        let synced = &self.relations.tables()[table];
        let is_in_copy = synced.is_keyless()
            && self
                .copy
                .as_ref()
                .is_some_and(|copy| copy.contains_keyless_change(synced.number, open.xid));
        Ok((!is_in_copy).then_some(table))
    }

    /// Takes a marker, which stands in the log after all transactions that its ticket covers.
    fn take_marker(&mut self, content: &[u8]) {
        if let Some(Marker::Ticket(ticket)) = Marker::parse(content, &self.slot)
            && let Some(open) = &mut self.open
        {
            // It counts from the end of its own transaction on.
            open.ticket = open.ticket.max(ticket);
        }
    }

    fn end(&mut self, end_lsn: Lsn) -> Result<(), AssemblyError> {
        self.expect_stream_event();
        let Some(open) = self.open.take() else {
            return Err(AssemblyError::OutOfOrder("a commit without a transaction"));
        };
        if open.age == TransactionAge::Known {
            return Ok(());
        }
        if end_lsn < self.received.lsn {
            return Err(AssemblyError::OutOfOrder("a transaction before one that it sent earlier"));
        }

        // Noted even if no change was buffered: what was left to the copy must be in its snapshot.
        if !open.is_begun {
            self.not_yet_visible.push(open.xid);
        }
        self.received.lsn = end_lsn;
        self.received.ticket = self.received.ticket.max(open.ticket);
        self.complete = self.buffered.len();
        Ok(())
    }

    /// Takes the position up to which the server has sent everything. Returns whether it is to be
    /// committed.
    fn take_keepalive(&mut self, wal_end: Lsn) -> bool {
        self.expect_stream_event();
        let is_idle = self.open.is_none() && self.buffered.is_empty();
        // Behind a barrier readers wait for the position itself.
        let is_due = self.barrier.is_some() || self.is_idle_commit_due();
        let is_taken = is_idle && is_due && wal_end > self.received.lsn;
        if is_taken {
            self.received.lsn = wal_end;
        }
        is_taken
    }

    fn expect_stream_event(&mut self) {
        assert_eq!(self.awaited, Awaited::Nothing, "an outcome must be reported first");
        self.is_drained = false;
    }

    // --- Outcomes

    fn note_applied(
        &mut self,
        read_ahead_to: Option<Lsn>,
        writer: WriterState,
        actions: &mut Vec<Action>,
    ) {
        assert_eq!(self.awaited, Awaited::Applied, "nothing was to be applied");
        self.awaited = Awaited::Nothing;
        self.note_writer(writer, actions);

        if let Some(position) = read_ahead_to {
            // The rows that were read may contain transactions that the stream brings later.
            // Readers wait until it has brought them.
            self.barrier = Some(self.barrier.map_or(position, |barrier| barrier.max(position)));
            actions.push(Action::EmitMarker(Marker::Barrier));
        }
    }

    fn note_chunk(&mut self, chunk: ChunkOutcome, actions: &mut Vec<Action>) {
        let Awaited::Chunk(table) = std::mem::replace(&mut self.awaited, Awaited::Nothing) else {
            unreachable!("no chunk was to be copied");
        };
        self.note_writer(chunk.writer, actions);

        // Otherwise a row whose DELETE was applied could be read once more, and would stay.
        self.forget_visible(&chunk.snapshot);
        assert!(self.not_yet_visible.is_empty(), "a chunk must contain all that was applied");

        let synced = &self.relations.tables()[table];
        let copy = self.copy.as_mut().expect("chunks are copied while there is a copy");
        let progress = match chunk.last_key {
            _ if synced.is_keyless() => TableCopy::Whole(chunk.snapshot.to_string()),
            Some(key) if chunk.rows >= self.limits.chunk_rows => TableCopy::After(key),
            Some(_) | None => TableCopy::Done,
        };
        let is_table_done = !matches!(progress, TableCopy::After(_));
        copy.advance(synced.number, progress);

        // The cursor is committed with the rows.
        self.must_commit = true;
        if is_table_done {
            self.after_commit.push(Action::ReportCopied { table });
        }
        if copy.next().is_none() {
            // All rows were read by now. The stream repeats what happened up to here, and readers
            // see no state in between.
            self.barrier = Some(chunk.source_position);
            self.after_commit.push(Action::EmitMarker(Marker::Barrier));
        }
    }

    /// Notes the state of the log writer. When nothing is in flight, the last commit has landed.
    fn note_writer(&mut self, writer: WriterState, actions: &mut Vec<Action>) {
        self.writer = writer;
        if !writer.is_writing && self.committed != self.requested {
            self.committed = self.requested;
            actions.push(Action::Confirm(self.committed.lsn));
        }
    }

    fn forget_visible(&mut self, snapshot: &PgSnapshot) {
        self.not_yet_visible.retain(|&xid| !snapshot.sees(xid));
    }

    fn emit_ticket(&mut self, ticket: Ticket, actions: &mut Vec<Action>) {
        if ticket > self.last_emitted_ticket {
            self.last_emitted_ticket = ticket;
            actions.push(Action::EmitMarker(Marker::Ticket(ticket)));
        }
    }

    // --- Decisions

    /// Decides what to do next: apply, commit, apply a part, close or copy, in this order.
    fn advance(&mut self, actions: &mut Vec<Action>) {
        if self.awaited != Awaited::Nothing {
            return;
        }
        if self.complete > 0 {
            self.apply_complete(actions);
            return;
        }

        if self.must_commit || self.is_commit_due() {
            if !self.writer.is_writing {
                self.commit(actions);
            } else if self.must_commit || self.is_closing || self.is_full() {
                // None of these can go on without the commit, and one write is in flight at a
                // time. A full buffer waits here: this is the backpressure on the source.
                actions.push(Action::WaitForWrite);
                return;
            }
            // Otherwise what arrives until the write has landed joins the unit.
        }

        if self.is_closing {
            let is_writing = self.writer.is_writing;
            actions.push(if is_writing { Action::WaitForWrite } else { Action::Close });
        } else if self.is_full() {
            self.apply_part(actions);
        } else if self.is_drained && self.wants_chunk() {
            self.copy_chunk(actions);
        }
    }

    /// Applies all complete transactions.
    fn apply_complete(&mut self, actions: &mut Vec<Action>) {
        let rest = self.buffered.split_off(self.complete);
        let changes = std::mem::replace(&mut self.buffered, rest);
        self.complete = 0;
        self.buffered_bytes = self.buffered.iter().map(Change::len).sum();
        self.apply(changes, actions);
    }

    /// Applies what there is of a transaction that is larger than the buffer. Everything before
    /// it is committed or being committed, so nothing else has to wait for its end.
    fn apply_part(&mut self, actions: &mut Vec<Action>) {
        let open = self.open.as_mut().expect("incomplete changes belong to an open transaction");
        if !open.is_begun {
            open.is_begun = true;
            self.not_yet_visible.push(open.xid);
        }
        let changes = std::mem::take(&mut self.buffered);
        self.buffered_bytes = 0;
        self.apply(changes, actions);
    }

    fn apply(&mut self, changes: Vec<Change>, actions: &mut Vec<Action>) {
        self.awaited = Awaited::Applied;
        let has_barrier = self.barrier.is_some();
        actions.push(Action::Apply(ChangeBatch { changes, has_barrier }));
    }

    fn copy_chunk(&mut self, actions: &mut Vec<Action>) {
        let next = self.copy.as_ref().and_then(CopyState::next);
        let (number, progress) = next.expect("a chunk is wanted");
        let after = match progress {
            TableCopy::After(key) => Some(key.clone()),
            TableCopy::Todo | TableCopy::Done | TableCopy::Whole(_) => None,
        };
        let tables = self.relations.tables();
        let table = tables.iter().position(|table| table.number == number);
        let table = table.expect("each table in the copy's record is one of the run");

        // One chunk, then the stream has its turn.
        self.is_drained = false;
        self.awaited = Awaited::Chunk(table);
        let rows_max = self.limits.chunk_rows;
        actions.push(Action::CopyChunk(ChunkRequest { table, after, rows_max }));
    }

    /// Requests a commit of everything that was applied.
    fn commit(&mut self, actions: &mut Vec<Action>) {
        assert_eq!(self.complete, 0, "complete transactions are applied before a commit");
        assert!(!self.is_part_applied(), "a commit must not contain a part of a transaction");
        assert!(!self.writer.is_writing, "one write is in flight at a time");

        let copy = self.copy.as_mut().map(|copy| {
            copy.not_yet_visible_xids.clone_from(&self.not_yet_visible);
            copy.clone()
        });
        actions.push(Action::Commit(CommitRequest {
            position: self.received,
            visibility_barrier: self.barrier,
            copy,
        }));

        self.requested = self.received;
        self.writer = WriterState { has_uncommitted: false, is_writing: true };
        self.must_commit = false;
        self.last_commit_at = self.now;
        // A commit at or beyond the barrier makes everything visible. From then on the record of
        // the copy is no longer kept.
        self.barrier = self.barrier.filter(|&barrier| self.received.lsn < barrier);
        if self.barrier.is_none() {
            self.copy = None;
        }
        actions.append(&mut self.after_commit);
        if self.not_yet_visible.len() > NOT_YET_VISIBLE_MAX {
            actions.push(Action::TakeSnapshot);
        }
    }

    /// Returns whether there is something to commit that somebody waits for. A shutdown commits
    /// the position in any case, so that the next run need not receive the same again.
    fn is_commit_due(&self) -> bool {
        self.can_commit() && (self.is_closing || !self.is_nothing_new())
    }

    /// Returns whether a commit would move the position, without a part of a transaction.
    fn can_commit(&self) -> bool {
        self.complete == 0 && !self.is_part_applied() && self.received.lsn > self.requested.lsn
    }

    /// Returns whether a commit would store nothing but a position that nobody waits for: the
    /// next commit contains it, or that of the idle source.
    fn is_nothing_new(&self) -> bool {
        !self.writer.has_uncommitted
            && self.received.ticket <= self.requested.ticket
            && self.barrier.is_none()
            && self.copy.is_none()
            && !self.is_idle_commit_due()
    }

    fn is_idle_commit_due(&self) -> bool {
        self.now.saturating_sub(self.last_commit_at) >= IDLE_COMMIT_INTERVAL
    }

    fn is_part_applied(&self) -> bool {
        self.open.is_some_and(|open| open.is_begun)
    }

    fn is_full(&self) -> bool {
        self.buffered.len() >= self.limits.buffered_changes_max
            || self.buffered_bytes >= self.limits.buffered_bytes_max
    }

    fn assert_invariants(&self) {
        assert!(self.received.lsn >= self.requested.lsn, "a commit is ahead of the stream");
        assert!(self.requested.lsn >= self.committed.lsn, "a commit landed that was not requested");
        assert!(self.complete <= self.buffered.len(), "more changes are complete than buffered");
        assert!(
            self.open.is_some() || self.complete == self.buffered.len(),
            "changes are buffered that belong to no transaction"
        );
        assert!(
            !self.is_part_applied() || self.complete == 0,
            "a transaction is applied in parts behind one that is not applied"
        );
    }
}

#[cfg(test)]
mod tests;
