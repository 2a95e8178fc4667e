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
//! - **When readers may follow**: not before the commit has passed the visibility barrier, and to
//!   another sync config not before it has passed the switch barrier.
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
//! # Its parts
//!
//! - [`TransactionBuffer`]: the open transaction, and changes that are not applied yet.
//! - [`CommitTracker`]: positions, the barriers, and when a commit is due.
//! - [`CopyTracker`]: the chunks of the initial copy, and its stored progress.
//! - [`NotYetVisible`]: transactions that new snapshots of the source may not see yet.
//!
//! [`ReplicationSession`]: crate::replication::session::ReplicationSession

mod commit_tracker;
mod copy_tracker;
mod not_yet_visible;
mod transaction_buffer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_storage::{Control, LastTransaction, Lsn, Ticket};

use crate::apply::applier::SyncedTable;
use crate::apply::changes::{Change, ChangeBatch, RowChange};
use crate::initial_copy::state::CopyState;
use crate::replication::events::{
    Action, AssemblyError, ChunkOutcome, Event, StreamPosition, WriterState,
};
use crate::replication::history_check::HistoryCheck;
use crate::replication::relations::{NewTables, RelationMap, TransactionAge};
use crate::replication::wal_message::{MESSAGE_PREFIX, WalMessage};
use crate::source::pg_snapshot::PgSnapshot;
use crate::source::pgoutput::{Message, TupleRange};
use commit_tracker::{CommitConditions, CommitTracker};
use copy_tracker::CopyTracker;
use not_yet_visible::NotYetVisible;
use transaction_buffer::{OpenTransaction, TransactionBuffer};

/// Pause before a chunk is requested again that could not be read. The attempt itself holds up the
/// stream for a tenth of it.
const CHUNK_RETRY_PAUSE: Duration = Duration::from_secs(1);

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
    /// The position up to which the slot was confirmed when the stream began.
    pub slot_confirmed: Lsn,
    /// The progress of the initial copy, unless it is visible already.
    pub copy: Option<CopyState>,
    /// Transactions that may not be visible to new snapshots yet.
    pub not_yet_visible_xids: Vec<u32>,
    /// The sizes by which the work is divided.
    pub limits: AssemblerLimits,
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

    buffer: TransactionBuffer,
    commits: CommitTracker,
    copy: CopyTracker,
    history: HistoryCheck,
    not_yet_visible: NotYetVisible,

    awaited: Awaited,
    /// The time from which the next chunk may be read.
    no_chunk_before: Duration,
    last_emitted_ticket: Ticket,
    now: Duration,
    /// True if the stream had nothing more ready, and no chunk was read since.
    is_drained: bool,
    is_closing: bool,
    /// True if readers have the generation of another sync config when the run begins.
    must_switch: bool,
}

impl TransactionAssembler {
    /// Returns an assembler that continues where the control record says.
    #[must_use]
    pub fn new(start: AssemblerStart, control: &Control) -> Self {
        let AssemblerLimits { buffered_changes_max, buffered_bytes_max, chunk_rows } = start.limits;

        Self {
            relations: RelationMap::new(start.tables, start.new_tables),
            slot: start.slot,
            buffer: TransactionBuffer::new(buffered_changes_max, buffered_bytes_max),
            commits: CommitTracker::new(control),
            copy: CopyTracker::new(start.copy, chunk_rows),
            history: HistoryCheck::new(control.last_transaction, start.slot_confirmed),
            not_yet_visible: NotYetVisible::new(start.not_yet_visible_xids),
            awaited: Awaited::Nothing,
            no_chunk_before: Duration::ZERO,
            last_emitted_ticket: control.committed.ticket,
            now: Duration::ZERO,
            is_drained: false,
            is_closing: false,
            must_switch: control
                .visible
                .as_ref()
                .is_some_and(|visible| visible.generation != control.generation),
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
            Event::Begin { xid, commit_lsn, commit_time } => {
                self.begin(xid, commit_lsn, commit_time)?;
            }
            Event::Data(message) => self.take_message(message)?,
            Event::LogicalMessage { is_transactional, prefix, content } => {
                if is_transactional && prefix == MESSAGE_PREFIX {
                    self.take_wal_message(&content)?;
                }
            }
            Event::Commit { end_lsn } => self.end(end_lsn, &mut actions)?,
            Event::Keepalive { wal_end } => {
                if self.take_keepalive(wal_end)? {
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
            Event::ChunkPostponed(snapshot) => {
                self.postpone_chunk(&snapshot);
                self.advance(&mut actions);
            }
            Event::WriteFinished => {
                actions.extend(self.commits.note_write_finished().map(Action::Confirm));
                self.advance(&mut actions);
            }
            Event::SnapshotTaken(snapshot) => self.not_yet_visible.forget(&snapshot),
            Event::TicketTaken(ticket) => self.emit_ticket(ticket, &mut actions),
            Event::Shutdown => {
                self.is_closing = true;
                self.advance(&mut actions);
            }
        }

        // A full buffer must not wait for the stream to pause.
        if actions.is_empty() && self.buffer.is_full() {
            self.advance(&mut actions);
        }
        self.buffer.assert_invariants();
        self.commits.assert_invariants();
        Ok(actions)
    }

    /// Returns the transactions that a snapshot must see before rows may be read from it.
    #[must_use]
    pub fn not_yet_visible_xids(&self) -> &[u32] {
        self.not_yet_visible.xids()
    }

    /// Returns the last ticket for which a message was emitted.
    #[must_use]
    pub fn last_emitted_ticket(&self) -> Ticket {
        self.last_emitted_ticket
    }

    /// Returns whether the next [`Event::Drained`] leads to a chunk of the initial copy: then the
    /// caller must not wait for the stream.
    #[must_use]
    pub fn wants_chunk(&self) -> bool {
        self.copy.has_next()
            && self.now >= self.no_chunk_before
            && !self.buffer.is_open()
            && self.buffer.is_empty()
            && !self.is_closing
    }

    /// Returns the end of the last transaction received whole.
    #[must_use]
    pub fn received(&self) -> StreamPosition {
        self.commits.received()
    }

    fn start(&mut self, source_position: Lsn, writer: WriterState, actions: &mut Vec<Action>) {
        // No commit was requested yet, so none has landed.
        self.commits.note_writer(writer);
        // A former run may have ended between its last commit and the confirmation. A slot of a server
        // that was restored is not confirmed, so that the next run can check it, too.
        if !self.history.is_open() {
            actions.push(Action::Confirm(self.commits.committed().lsn));
        }

        if self.must_switch && !self.commits.has_barrier() {
            // Nothing is to be copied for the present config, so readers may have it at once.
            self.commits.require_commit();
            self.advance(actions);
        }

        if self.copy.is_complete() && self.commits.waits_for_copy() {
            // No table is left to copy: only rows were removed. The stream may still be at a time
            // when those rows existed, so readers wait until it has passed the present.
            self.commits.note_copied(source_position);
            self.commits.require_commit();
            self.commits.after_commit(Action::EmitMessage(WalMessage::Barrier));
            self.advance(actions);
        }
    }

    // --- The stream

    fn begin(&mut self, xid: u32, commit_lsn: Lsn, commit_time: i64) -> Result<(), AssemblyError> {
        self.expect_stream_event();

        // A commit record begins below its own end. A position is stored only as the end of a
        // transaction or of what was sent, so an equal position means a new transaction.
        let age = if commit_lsn < self.commits.committed().lsn {
            TransactionAge::Known
        } else {
            self.history.pass(commit_lsn)?;
            TransactionAge::New(commit_lsn)
        };
        self.buffer.begin(xid, commit_time, age)
    }

    fn take_message(&mut self, message: Bytes) -> Result<(), AssemblyError> {
        self.expect_stream_event();
        let open = self.buffer.open()?;

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
                    self.buffer.push(Change::Truncate(tables));
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
            self.buffer.push(Change::Row(RowChange { table, old, new, message }));
        }
        Ok(())
    }

    /// Returns the table that a change is to be applied to, if any.
    fn table_to_change(
        &self,
        relation: u32,
        open: OpenTransaction,
    ) -> Result<Option<usize>, AssemblyError> {
        let Some(table) = self.relations.table(relation, open.age)? else { return Ok(None) };
        let TransactionAge::New(commit) = open.age else { return Ok(None) };
        let is_in_copy =
            self.copy.contains_change(&self.relations.tables()[table], open.xid, commit);
        Ok((!is_in_copy).then_some(table))
    }

    /// Takes a message, which stands in the log after all transactions that its ticket covers.
    fn take_wal_message(&mut self, content: &[u8]) -> Result<(), AssemblyError> {
        match WalMessage::parse(content, &self.slot) {
            Some(WalMessage::Ticket(ticket)) => self.buffer.note_ticket(ticket),
            // The next run receives the request again, unless its copy began after the request.
            Some(WalMessage::CopyTable(request)) => {
                self.relations.check_request(request, self.buffer.open()?.age)?;
            }
            Some(WalMessage::Barrier) | None => {}
        }
        Ok(())
    }

    fn end(&mut self, end_lsn: Lsn, actions: &mut Vec<Action>) -> Result<(), AssemblyError> {
        self.expect_stream_event();
        let ended = self.buffer.end()?;
        let OpenTransaction { xid, commit_time, .. } = ended;
        let transaction = LastTransaction { end: end_lsn, xid, commit_time };
        if ended.age == TransactionAge::Known {
            let was_open = self.history.is_open();
            self.history.take_known(transaction)?;
            if was_open && !self.history.is_open() {
                actions.push(Action::Confirm(self.commits.committed().lsn));
            }
            return Ok(());
        }
        self.history.take_new(transaction);
        self.commits.note_received(end_lsn, ended.ticket)?;

        // Noted even if no change was buffered: what was left to the copy must be in its snapshot.
        // A transaction that was applied in parts was noted with its first part.
        if !ended.is_part_applied {
            self.not_yet_visible.note(ended.xid);
        }
        Ok(())
    }

    /// Returns whether no transaction is open or waits to be applied.
    pub(crate) fn is_idle(&self) -> bool {
        !self.buffer.is_open() && self.buffer.is_empty()
    }

    /// Takes the position up to which the server has sent everything. Returns whether it is to be
    /// committed.
    fn take_keepalive(&mut self, wal_end: Lsn) -> Result<bool, AssemblyError> {
        self.expect_stream_event();
        self.history.pass(wal_end)?;
        Ok(self.is_idle() && self.commits.note_idle(wal_end, self.now))
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
        actions.extend(self.commits.note_writer(writer).map(Action::Confirm));

        if let Some(position) = read_ahead_to {
            // The rows that were read may contain transactions that the stream brings later.
            // Readers wait until it has brought them.
            self.commits.raise_barrier(position);
            actions.push(Action::EmitMessage(WalMessage::Barrier));
        }
    }

    fn note_chunk(&mut self, chunk: ChunkOutcome, actions: &mut Vec<Action>) {
        let Awaited::Chunk(table) = std::mem::replace(&mut self.awaited, Awaited::Nothing) else {
            unreachable!("no chunk was to be copied");
        };
        actions.extend(self.commits.note_writer(chunk.writer).map(Action::Confirm));

        // Otherwise a row whose DELETE was applied could be read once more, and would stay.
        self.not_yet_visible.forget(&chunk.snapshot);
        assert!(
            self.not_yet_visible.xids().is_empty(),
            "a chunk must contain all that was applied"
        );

        // The cursor is committed with the rows.
        let source_position = chunk.source_position;
        let progress = self.copy.note_chunk(&self.relations.tables()[table], chunk);
        self.commits.require_commit();

        if progress.is_table_done {
            self.commits.after_commit(Action::ReportCopied { table });
        }
        if progress.is_copy_done {
            // All rows were read by now. The stream repeats what happened up to here, and readers
            // see no state in between.
            self.commits.note_copied(source_position);
            self.commits.after_commit(Action::EmitMessage(WalMessage::Barrier));
        }
    }

    /// Leaves a chunk for later. A transaction of the source may stay open for hours, and readers of
    /// everything else must not wait for it.
    fn postpone_chunk(&mut self, snapshot: &PgSnapshot) {
        assert!(matches!(self.awaited, Awaited::Chunk(_)), "no chunk was to be copied");
        self.awaited = Awaited::Nothing;
        self.not_yet_visible.forget(snapshot);
        self.no_chunk_before = self.now + CHUNK_RETRY_PAUSE;
    }

    fn emit_ticket(&mut self, ticket: Ticket, actions: &mut Vec<Action>) {
        if ticket > self.last_emitted_ticket {
            self.last_emitted_ticket = ticket;
            actions.push(Action::EmitMessage(WalMessage::Ticket(ticket)));
        }
    }

    // --- Decisions

    /// Decides what to do next: apply, commit, apply a part, close or copy, in this order.
    fn advance(&mut self, actions: &mut Vec<Action>) {
        if self.awaited != Awaited::Nothing {
            return;
        }
        if self.buffer.has_complete() {
            let changes = self.buffer.take_complete();
            self.apply(changes, actions);
            return;
        }

        if self.commits.must_commit() || self.is_commit_due() {
            if !self.commits.is_writing() {
                self.commit(actions);
            } else if self.commits.must_commit() || self.is_closing || self.buffer.is_full() {
                // None of these can go on without the commit, and one write is in flight at a
                // time. A full buffer waits here: this is the backpressure on the source.
                actions.push(Action::WaitForWrite);
                return;
            }
            // Otherwise what arrives until the write has landed joins the unit.
        }

        if self.is_closing {
            let is_writing = self.commits.is_writing();
            actions.push(if is_writing { Action::WaitForWrite } else { Action::Close });
        } else if self.buffer.is_full() {
            self.apply_part(actions);
        } else if self.is_drained && self.wants_chunk() {
            self.copy_chunk(actions);
        }
    }

    /// Applies what there is of a transaction that is larger than the buffer. Everything before
    /// it is committed or being committed, so nothing else has to wait for its end.
    fn apply_part(&mut self, actions: &mut Vec<Action>) {
        let (changes, begun) = self.buffer.take_part();
        if let Some(xid) = begun {
            self.not_yet_visible.note(xid);
        }
        self.apply(changes, actions);
    }

    fn apply(&mut self, changes: Vec<Change>, actions: &mut Vec<Action>) {
        self.awaited = Awaited::Applied;
        let has_barrier = self.commits.has_barrier();
        actions.push(Action::Apply(ChangeBatch { changes, has_barrier }));
    }

    fn copy_chunk(&mut self, actions: &mut Vec<Action>) {
        let request = self.copy.next_chunk(self.relations.tables());
        // One chunk, then the stream has its turn.
        self.is_drained = false;
        self.awaited = Awaited::Chunk(request.table);
        actions.push(Action::CopyChunk(request));
    }

    /// Requests a commit of everything that was applied.
    fn commit(&mut self, actions: &mut Vec<Action>) {
        assert!(!self.buffer.has_complete(), "complete transactions are applied before a commit");
        assert!(
            !self.buffer.is_part_applied(),
            "a commit must not contain a part of a transaction"
        );

        let copy = self.copy.record(self.not_yet_visible.xids());
        let (request, following) = self.commits.request(copy, self.history.latest(), self.now);
        actions.push(Action::Commit(request));
        actions.extend(following);

        // Without a barrier this commit makes everything visible. From then on the record of the
        // copy is no longer kept.
        if !self.commits.has_barrier() {
            self.copy.finish();
        }
        if self.not_yet_visible.is_long() {
            actions.push(Action::TakeSnapshot);
        }
    }

    /// Returns whether a commit is due that contains no part of a transaction.
    fn is_commit_due(&self) -> bool {
        !self.buffer.is_part_applied()
            && self.commits.is_commit_due(CommitConditions {
                now: self.now,
                is_closing: self.is_closing,
                is_copying: self.copy.is_recorded(),
            })
    }
}

#[cfg(test)]
mod tests;
