//! The state of a deployment, for people and alarms.
//!
//! It is read beside the worker: from the store, and from the source if a database is named. What is read is
//! bounded. No log is read, and of the buckets only the heads and catalogs of some. What is not known is
//! absent.

mod buckets;
mod report;
mod source_side;
mod store_side;
mod verdict;

use std::time::Duration;

use tidewater_protocol::ErrorChain;
use tidewater_storage::{Storage, StorageError};

pub use report::{
    BucketScan, BucketStatus, CompactionStatus, ConfigState, ConfigStatus, CopyProgress, CopyStage,
    DefinitionStatus, SlotStatus, SnapshotStatus, SourceAnswer, Status, StoreSize, TableStatus,
    WorkerStatus,
};

use crate::clock::unix_millis;
use crate::source::database::Database;
use crate::status::buckets::scan_buckets;
pub(crate) use crate::status::source_side::difference;
use crate::status::source_side::{SourceFacts, SourceQuestions};
use crate::status::store_side::StoreFacts;

/// Number of compaction tasks that are counted.
const COMPACTION_TASKS_MAX: usize = 1_000;

/// The bounds of [`read_status`], and what its caller knows.
#[derive(Debug)]
pub struct StatusOptions {
    /// The source database; `None` to read the store alone.
    pub database: Option<Database>,
    /// The WAL that the slot may retain on the server.
    pub wal_budget_bytes: u64,
    /// Time since the checkpoint was last known to be current, beyond which the deployment is not healthy.
    pub max_staleness: Duration,
    /// Buckets whose heads are read.
    pub buckets_examined_max: usize,
    /// Facts that only the calling process knows.
    pub known: KnownFacts,
}

/// Facts that only one process knows, such as the one that runs the worker.
#[derive(Clone, Debug, Default)]
pub struct KnownFacts {
    /// The size of the store.
    pub store: Option<StoreSize>,
    /// The number of open streams.
    pub streams: Option<u64>,
    /// The reason why the worker does not replicate.
    pub worker_problem: Option<String>,
    /// The rows that the worker has copied in this run, by `schema.table`.
    pub copies: Vec<(String, CopyProgress)>,
}

/// Reads the configs that the worker maintains: the one in use first.
///
/// # Errors
/// When the store cannot be read.
pub async fn read_configs<S: Storage>(storage: &S) -> Result<Vec<ConfigStatus>, StorageError> {
    let facts = StoreFacts::read(storage).await?;
    Ok(facts.map(|facts| facts.configs()).unwrap_or_default())
}

/// Reads the state of a deployment. A source that cannot be read is a problem that the state names.
///
/// # Errors
/// When the store cannot be read.
pub async fn read_status<S: Storage>(
    storage: &S,
    options: StatusOptions,
) -> Result<Status, StorageError> {
    let now = unix_millis();
    let facts = StoreFacts::read(storage).await?;
    let mut status =
        Status { store: options.known.store, streams: options.known.streams, ..Status::default() };

    if let Some(facts) = &facts {
        let scanned = scan_buckets(storage, facts, options.buckets_examined_max, now).await?;
        status.definitions = scanned.definitions;
        status.largest_buckets = scanned.largest;
        status.bucket_scan = Some(scanned.scan);
        let due = storage.due_tasks(now / 1_000, COMPACTION_TASKS_MAX).await?.len();
        status.compaction =
            Some(CompactionStatus { due: due as u64, is_complete: due < COMPACTION_TASKS_MAX });
        status.worker = Some(facts.worker(now, options.known.worker_problem));
        status.configs = facts.configs();
    }

    let mut source = None;
    if let Some(database) = &options.database {
        let questions = facts.as_ref().map(|facts| SourceQuestions {
            identity: &facts.control.source,
            table_oids: facts.table_oids(),
            budget_bytes: options.wal_budget_bytes,
        });
        let read = SourceFacts::read(database, questions).await;
        let error = read.as_ref().err().map(|error| ErrorChain(error).to_string());
        status.source = Some(SourceAnswer { reachable: error.is_none(), error });
        source = read.ok();
    }
    if let Some(facts) = &facts {
        status.tables = facts.tables(source.as_ref(), &options.known.copies);
    }
    let other_source = source.as_ref().and_then(|source| source.other_source.clone());
    status.slot = source.and_then(|source| source.slot);

    status.problems = verdict::problems(&status, options.max_staleness, other_source);
    status.warnings = verdict::warnings(&status);
    status.healthy = status.problems.is_empty();
    Ok(status)
}
