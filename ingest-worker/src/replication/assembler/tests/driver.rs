//! Performs the assembler's actions as the session does, and checks what they promise.

use std::collections::VecDeque;

use super::*;
use crate::initial_copy::state::{ChunkEnd, ChunkRange};
use crate::replication::events::BARRIER_UNKNOWN;
use crate::replication::events::CommitRequest;
use crate::test_support::{control_at, synced_tables};

pub(super) const SLOT: &str = "tidewater";
/// The position of the source when a run begins.
pub(super) const SOURCE_POSITION: u64 = 250;
/// The position at which each run begins.
pub(super) const START: u64 = 100;

/// A commit that was requested.
#[derive(Clone, Debug)]
pub(super) struct CommitSeen {
    pub(super) position: StreamPosition,
    pub(super) barrier: Option<Lsn>,
    pub(super) copy: Option<CopyState>,
    /// Changes that were applied before.
    pub(super) applied: usize,
}

pub(super) struct Driver {
    pub(super) assembler: TransactionAssembler,
    pub(super) now: Duration,
    /// Changes that were applied, and their number.
    pub(super) changes: Vec<Change>,
    pub(super) applied: usize,
    /// True for each batch that was applied behind a barrier.
    pub(super) has_barrier: Vec<bool>,
    pub(super) commits: Vec<CommitSeen>,
    pub(super) confirmed: Vec<Lsn>,
    pub(super) emitted: Vec<WalMessage>,
    pub(super) chunk_requests: Vec<(usize, ChunkRange)>,
    /// Outcomes of the next chunks, in their order.
    pub(super) chunks: Vec<ChunkOutcome>,
    /// Snapshots for which the next requests are postponed.
    pub(super) postponements: Vec<PgSnapshot>,
    pub(super) copied: Vec<usize>,
    pub(super) snapshots: usize,
    pub(super) waits: usize,
    pub(super) is_writing: bool,
    pub(super) is_closed: bool,
    /// The position that the next batch reads ahead to.
    pub(super) read_ahead_to: Option<Lsn>,
    has_uncommitted: bool,
    landed: Lsn,
    xid: u32,
}

impl Driver {
    pub(super) fn new() -> Self {
        Self::with_limits(AssemblerLimits::default())
    }

    pub(super) fn with_limits(limits: AssemblerLimits) -> Self {
        Self::started(None, limits)
    }

    /// A run that copies, so that nothing is visible yet.
    pub(super) fn copying(copy: CopyState) -> Self {
        Self::started(Some(copy), AssemblerLimits::default())
    }

    fn started(copy: Option<CopyState>, limits: AssemblerLimits) -> Self {
        let mut control = control_at(START);
        control.visibility_barrier = copy.as_ref().map(|_| BARRIER_UNKNOWN);
        let start = AssemblerStart {
            tables: synced_tables(),
            new_tables: NewTables::default(),
            slot: SLOT.into(),
            slot_confirmed: Lsn(START),
            copy,
            not_yet_visible_xids: Vec::new(),
            limits,
        };

        let mut driver = Self {
            assembler: TransactionAssembler::new(start, &control),
            now: Duration::ZERO,
            changes: Vec::new(),
            applied: 0,
            has_barrier: Vec::new(),
            commits: Vec::new(),
            confirmed: Vec::new(),
            emitted: Vec::new(),
            chunk_requests: Vec::new(),
            chunks: Vec::new(),
            postponements: Vec::new(),
            copied: Vec::new(),
            snapshots: 0,
            waits: 0,
            is_writing: false,
            is_closed: false,
            read_ahead_to: None,
            has_uncommitted: false,
            landed: Lsn(START),
            xid: 0,
        };

        let source_position = Lsn(SOURCE_POSITION);
        driver.feed(Event::Started { source_position, writer: WriterState::default() });
        driver
    }

    /// Hands in an event, performs the actions, and hands in their outcomes.
    pub(super) fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.assembler.on_event(event, self.now).unwrap() {
                self.perform(action, &mut events);
            }
        }
    }

    fn perform(&mut self, action: Action, events: &mut VecDeque<Event>) {
        assert!(!self.is_closed, "nothing follows the end of a run");
        match action {
            Action::Apply(batch) => {
                assert!(!batch.changes.is_empty(), "an empty batch is useless");
                self.applied += batch.changes.len();
                self.has_barrier.push(batch.has_barrier);
                self.changes.extend(batch.changes);
                self.has_uncommitted = true;
                let read_ahead_to = self.read_ahead_to.take();
                events.push_back(Event::Applied { read_ahead_to, writer: self.writer() });
            }

            Action::Commit(CommitRequest { position, visibility_barrier, copy, .. }) => {
                assert!(!self.is_writing, "one write is in flight at a time");
                let applied = self.applied;
                let barrier = visibility_barrier;
                self.commits.push(CommitSeen { position, barrier, copy, applied });
                self.is_writing = true;
                self.has_uncommitted = false;
            }

            Action::WaitForWrite => {
                assert!(self.is_writing, "there is nothing to wait for");
                self.waits += 1;
                self.is_writing = false;
                events.push_back(Event::WriteFinished);
            }

            Action::Confirm(lsn) => {
                if !self.is_writing {
                    let last = self.commits.last();
                    self.landed = last.map_or(self.landed, |commit| commit.position.lsn);
                }
                assert!(lsn <= self.landed, "a position is confirmed before it is stored");
                self.confirmed.push(lsn);
            }

            Action::EmitMessage(message) => self.emitted.push(message),
            Action::CopyChunk(request) => {
                self.chunk_requests.push((request.table, request.range));
                if let Some(lacking) = self.postponements.pop() {
                    events.push_back(Event::ChunkPostponed(lacking));
                    return;
                }
                self.has_uncommitted = true;
                let chunk = self.chunks.remove(0);
                let writer = self.writer();
                events.push_back(Event::ChunkApplied(ChunkOutcome { writer, ..chunk }));
            }

            Action::ReportCopied { table } => self.copied.push(table),

            Action::TakeSnapshot => {
                self.snapshots += 1;
                let xmax = u64::from(self.xid) + 1;
                events.push_back(Event::SnapshotTaken(snapshot(&format!("{xmax}:{xmax}:"))));
            }
            Action::Close => self.is_closed = true,
        }
    }

    fn writer(&self) -> WriterState {
        WriterState { has_uncommitted: self.has_uncommitted, is_writing: self.is_writing }
    }

    /// Lets the write in flight land, if there is one.
    pub(super) fn land(&mut self) {
        if std::mem::replace(&mut self.is_writing, false) {
            self.feed(Event::WriteFinished);
        }
    }

    pub(super) fn begin(&mut self, commit_lsn: u64) {
        self.xid += 1;
        self.feed(Event::Begin { xid: self.xid, commit_lsn: Lsn(commit_lsn), commit_time: 0 });
        self.feed(Event::Data(relation_message(TODOS)));
    }

    pub(super) fn rows(&mut self, ids: &[&str]) {
        for id in ids {
            self.feed(Event::Data(insert_message(TODOS, id)));
        }
    }

    pub(super) fn wal_message(&mut self, content: &str) {
        self.feed(Event::LogicalMessage {
            is_transactional: true,
            prefix: MESSAGE_PREFIX.into(),
            content: content.to_owned().into(),
        });
    }

    pub(super) fn end(&mut self, end_lsn: u64) {
        self.feed(Event::Commit { end_lsn: Lsn(end_lsn) });
    }

    /// A transaction that ends at this position.
    pub(super) fn transaction(&mut self, end_lsn: u64, ids: &[&str]) {
        self.begin(end_lsn - 1);
        self.rows(ids);
        self.end(end_lsn);
    }

    /// A chunk that was read after everything so far.
    pub(super) fn chunk(&self, rows: usize, last_key: Option<&str>) -> ChunkOutcome {
        ChunkOutcome {
            rows,
            end: ChunkEnd::Key(last_key.map(|key| vec![key.to_owned()])),
            snapshot: snapshot("50:50:"),
            source_position: Lsn(SOURCE_POSITION),
            writer: WriterState::default(),
        }
    }

    pub(super) fn commit_positions(&self) -> Vec<StreamPosition> {
        self.commits.iter().map(|commit| commit.position).collect()
    }
}
