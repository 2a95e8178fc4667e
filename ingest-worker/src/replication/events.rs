//! The events that the [`TransactionAssembler`] handles, and the actions that it returns.
//!
//! [`TransactionAssembler`]: crate::replication::assembler::TransactionAssembler

use bytes::Bytes;
use tidewater_storage::{LastTransaction, Lsn, Ticket};

use crate::apply::changes::ChangeBatch;
use crate::initial_copy::state::{ChunkEnd, ChunkRange, CopyState};
use crate::replication::history_check::HistoryDiverged;
use crate::replication::wal_message::WalMessage;
use crate::source::error::TableChanged;
use crate::source::pg_snapshot::PgSnapshot;
use crate::source::pgoutput::Malformed;

/// A barrier at an unknown position: a copy is not finished, so what waits for it is not visible.
pub const BARRIER_UNKNOWN: Lsn = Lsn(u64::MAX);

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The run has taken over, and has removed the rows of tables that are gone.
    Started {
        /// A position of the source after the catalog was read.
        source_position: Lsn,
        /// The state of the log writer.
        writer: WriterState,
    },
    /// The stream begins a transaction.
    Begin {
        /// The transaction's id.
        xid: u32,
        /// The start of its commit record.
        commit_lsn: Lsn,
        /// The time of its commit, in microseconds since 2000.
        commit_time: i64,
    },
    /// The stream brings a message of the open transaction: a change, or a table's description.
    Data(Bytes),
    /// The stream brings a logical message.
    LogicalMessage {
        /// True for a message of the open transaction; false for one on its own.
        is_transactional: bool,
        /// The first argument of `pg_logical_emit_message` after the flag.
        prefix: String,
        /// The message itself.
        content: Bytes,
    },
    /// The stream ends the open transaction.
    Commit {
        /// The position after it.
        end_lsn: Lsn,
    },
    /// The server has sent everything up to this position.
    Keepalive {
        /// The position.
        wal_end: Lsn,
    },
    /// The stream has nothing more ready. Comes in any case before each wait.
    Drained,
    /// The batch of the last [`Action::Apply`] has been applied.
    Applied {
        /// A position of the source after the last row that was read for the batch, if any was.
        /// Those rows are ahead of the stream.
        read_ahead_to: Option<Lsn>,
        /// The state of the log writer.
        writer: WriterState,
    },
    /// The chunk of the last [`Action::CopyChunk`] has been applied.
    ChunkApplied(ChunkOutcome),
    /// The chunk of the last [`Action::CopyChunk`] was not read: this snapshot, and those before it,
    /// lack transactions that it must see. The stream goes on, and the chunk is requested again.
    ChunkPostponed(PgSnapshot),
    /// The write that was in flight has landed.
    WriteFinished,
    /// A snapshot of the source was taken.
    SnapshotTaken(PgSnapshot),
    /// A client has taken this write-checkpoint ticket.
    TicketTaken(Ticket),
    /// The worker is to end.
    Shutdown,
}

/// The state of the log writer after it was given work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterState {
    /// True while it has operations or records that no commit contains.
    pub has_uncommitted: bool,
    /// True while a write is in flight.
    pub is_writing: bool,
}

/// The outcome of an [`Action::CopyChunk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkOutcome {
    /// Rows that were read.
    pub rows: usize,
    /// The place up to which the chunk has read.
    pub end: ChunkEnd,
    /// The snapshot in which they were read.
    pub snapshot: PgSnapshot,
    /// A position of the source after the read.
    pub source_position: Lsn,
    /// The state of the log writer.
    pub writer: WriterState,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Apply these changes, then report [`Event::Applied`].
    Apply(ChangeBatch),
    /// Begin to commit what was applied. Report [`Event::WriteFinished`] once it has landed.
    Commit(CommitRequest),
    /// Wait until the write in flight has landed, then report [`Event::WriteFinished`].
    WaitForWrite,
    /// Tell the slot that everything up to this position is stored.
    Confirm(Lsn),
    /// Write a message into the source's log.
    EmitMessage(WalMessage),
    /// Read and apply a chunk of the initial copy, then report [`Event::ChunkApplied`].
    CopyChunk(ChunkRequest),
    /// Tell people that the copy of a table is complete.
    ReportCopied {
        /// The index of the table in the run.
        table: usize,
    },
    /// Take a snapshot of the source, then report [`Event::SnapshotTaken`].
    TakeSnapshot,
    /// Close the stream: the run has ended.
    Close,
}

/// A commit of everything that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRequest {
    /// The position up to which the stream was applied.
    pub position: StreamPosition,
    /// Readers stay at the former checkpoint until a commit has reached this position.
    pub visibility_barrier: Option<Lsn>,
    /// Readers keep the generation that they have until a commit has reached this position.
    pub switch_barrier: Option<Lsn>,
    /// The record of the initial copy, while there is one.
    pub copy: Option<CopyState>,
    /// The last transaction that was received whole.
    pub last_transaction: Option<LastTransaction>,
}

/// A position of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPosition {
    /// The end of a transaction, or the end of what the server has sent while it was idle.
    pub lsn: Lsn,
    /// The highest ticket whose message lies before it.
    pub ticket: Ticket,
}

/// A chunk of the initial copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRequest {
    /// Index of the table in the run.
    pub table: usize,
    /// The rows that it reads.
    pub range: ChunkRange,
    /// Rows to read at most. A table without a key is read whole in any case.
    pub rows_max: usize,
}

/// A reason to end the run, found in the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    /// A table is no longer as the run knows it.
    #[error(transparent)]
    TableChanged(#[from] TableChanged),
    /// The server was restored.
    #[error(transparent)]
    HistoryDiverged(#[from] HistoryDiverged),
    /// A message cannot be decoded.
    #[error("the stream sent a malformed change")]
    Malformed(#[from] Malformed),
    /// The stream is not what the replication protocol says.
    #[error("the stream sent {0}")]
    OutOfOrder(&'static str),
}
