//! The ingest worker: PostgreSQL's write-ahead log in, bucket operations out.
//!
//! One run of the worker holds the replication slot, which makes it the only worker, and owns one
//! epoch of the log. It applies transactions in commit order. Everything that a commit needs is stored
//! first, and one conditional write of the control record then commits it. Tables are copied in chunks
//! between the stream's transactions; a visibility barrier hides them until the stream has passed the
//! position of the last chunk.
//!
//! The folders are layers, each of which uses those above it only:
//!
//! | folder | job |
//! |---|---|
//! | `source` | PostgreSQL: connections, catalog, preflight, slot, `pgoutput` |
//! | `log` | stored records and segments: units of work, and the commit protocol |
//! | `apply` | from changed rows to bucket operations |
//! | `initial_copy` | chunks of tables, and the stored progress of the copy |
//! | `replication` | the stream: assembles transactions, and the loop that does the I/O |
//! | `start` | takes over the slot and the store |
//! | `verify` | compares the store with the source, beside the worker |
//! | `status` | reads the state of a deployment, beside the worker |
//! | `plan` | plans another sync config as a start would, beside the worker |
//! | `why` | follows one row to a user, beside the worker |
//!
//! [`run`] starts a worker; [`LogWriter`] and [`Applier`] are public for simulations. [`RunError`] is
//! sorted by what the worker's owner does next.

mod apply;
mod clock;
mod config;
mod error;
mod freshness;
#[doc(hidden)]
pub mod fuzzing;
mod initial_copy;
mod jitter;
mod log;
pub mod metrics;
mod plan;
mod replication;
mod restart;
mod run;
mod source;
mod start;
mod status;
#[cfg(test)]
mod test_support;
mod verify;
mod why;

pub use apply::applier::{Applier, RowRef, SyncedTable};
pub use config::{Config, OnError, Progress, SyncConfigErrors};
pub use error::{RunError, RunFailure};
pub use log::error::WriteError;
pub use log::record_cache::RecordRef;
pub use log::writer::{CommitOptions, LogWriter};
pub use metrics::describe_metrics;
pub use plan::{
    DefinitionFate, NewConfig, PlanError, PlanReport, PlannedDefinition, PlannedTable, TableReason,
    plan_config,
};
pub use replication::error::SessionError;
pub use replication::history_check::HistoryDiverged;
pub use run::run;
pub use source::catalog::{CheckFacts, ShapeFacts, SourceTable, UnsentColumn, UnsentReason};
pub use source::connect::ConnectError;
pub use source::database::{Database, Login, PasswordResult, Passwords};
pub use source::dsn::{DsnError, display_uri};
pub use source::error::{SourceError, TableChanged};
pub use source::inspection::{SourceReport, check_source, list_tables};
pub use source::preflight::{Finding, PreflightError};
pub use source::slot::SlotError;
pub use source::table_reader::{Reading, ReadingError};
pub use source::tls::TlsError;
pub use start::error::{ConfigurationError, StartError};
pub use status::{
    BucketScan, BucketStatus, CompactionStatus, ConfigState, ConfigStatus, CopyProgress, CopyStage,
    DefinitionStatus, KnownFacts, SlotStatus, SnapshotStatus, SourceAnswer, Status, StatusOptions,
    StoreSize, TableStatus, WorkerStatus, read_configs, read_status,
};
pub use verify::{
    ChangedColumn, DamagedBucket, Difference, DifferenceKind, DifferencePlace, RepairedTable,
    Selection, VerifiedTable, VerifyError, VerifyOptions, VerifyProgress, VerifyReport, copy_again,
    verify,
};
pub use why::{
    ConditionReport, DefinitionReport, Link, LinkName, LinkState, LookupReport, UserReport,
    WhyError, WhyOptions, WhyReport, why,
};

/// The parts of the worker that the simulation drives in place of [`run`]. Not a stable interface.
#[doc(hidden)]
pub mod simulation {
    pub use crate::apply::batch::{ApplyError, ApplyStep, BatchApplication, RowRequest};
    pub use crate::apply::changes::{Change, ChangeBatch, RowChange};
    pub use crate::initial_copy::state::{
        ChunkEnd, ChunkRange, CopiedTable, CopyState, GoneTable, TableCopy, WholeSnapshot,
    };
    pub use crate::initial_copy::table_numbers::NumberingError;
    pub use crate::replication::assembler::{
        AssemblerLimits, AssemblerStart, TransactionAssembler,
    };
    pub use crate::replication::events::{
        Action, AssemblyError, BARRIER_UNKNOWN, ChunkOutcome, ChunkRequest, CommitRequest, Event,
        StreamPosition, WriterState,
    };
    pub use crate::replication::relations::NewTables;
    pub use crate::replication::wal_message::{MESSAGE_PREFIX, WalMessage};
    pub use crate::source::pg_snapshot::PgSnapshot;
    pub use crate::source::pgoutput::encode;
    pub use crate::source::pgoutput::{Datum, Malformed, Relation, RelationColumn, TupleRange};
    pub use crate::start::generation::NewTags;
    pub use crate::start::stored::{StoredGeneration, read_stored_generation};
    pub use crate::start::takeover::{
        FoundTable, SlotPosition, TakeoverError, TakeoverInput, TakeoverKind, TakeoverPlan,
        plan_takeover,
    };
    pub use crate::start::{TakeoverSettings, take_over};
}
