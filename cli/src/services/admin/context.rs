//! The process that serves the admin API: its store, and its worker if it has one.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidewater_functions::{AdminError, OpenStreamCount, WorkerProblem};
use tidewater_ingest_worker::{
    ConfigStatus, KnownFacts, Status, StatusOptions, read_configs, read_status,
};
use tidewater_protocol::ErrorChain;
use tidewater_storage::{Embedded, Storage};
use tracing::error;

use crate::services::copy_reports::CopyReports;
use crate::services::database::DatabaseArgs;
use crate::services::ingest_worker::SourceArgs;
use crate::services::status::size_of;

/// Buckets that are examined for one answer.
const BUCKETS_EXAMINED_MAX: usize = 200;

/// The facts and connections of the process that serves the admin API.
pub(crate) struct AdminContext<S> {
    pub(crate) storage: S,
    /// The store, if it is embedded: its size is known.
    pub(crate) embedded: Option<Embedded>,
    pub(crate) max_staleness: Duration,
    pub(crate) streams: OpenStreamCount,
    /// The worker of this process, if it runs one. Others have no connection to the source.
    pub(crate) worker: Option<AdminWorker>,
}

/// The worker of this process, and its source.
pub(crate) struct AdminWorker {
    pub(crate) database: DatabaseArgs,
    pub(crate) publication: String,
    pub(crate) wal_budget_bytes: u64,
    /// The file of the sync config, which the worker watches.
    pub(crate) sync_config: PathBuf,
    pub(crate) problem: WorkerProblem,
    pub(crate) copies: CopyReports,
}

impl AdminWorker {
    /// Returns the worker that a command runs with these flags.
    pub(crate) fn of(source: &SourceArgs, problem: &WorkerProblem, copies: &CopyReports) -> Self {
        Self {
            database: source.database.clone(),
            publication: source.publication.clone(),
            wal_budget_bytes: source.wal_budget,
            sync_config: source.sync_config.clone(),
            problem: problem.clone(),
            copies: copies.clone(),
        }
    }
}

/// The context as the routes share it.
pub(super) type Shared<S> = Arc<AdminContext<S>>;

impl<S: Storage> AdminContext<S> {
    /// Reads the state of the deployment.
    pub(super) async fn status(&self) -> Result<Status, AdminError> {
        let known = KnownFacts {
            store: match &self.embedded {
                Some(embedded) => size_of(embedded).await,
                None => None,
            },
            streams: Some(self.streams.get()),
            worker_problem: self.worker.as_ref().and_then(|worker| worker.problem.get()),
            copies: self.worker.as_ref().map(|one| one.copies.progress()).unwrap_or_default(),
        };

        let options = StatusOptions {
            database: match &self.worker {
                Some(worker) => Some(worker.database.database().await),
                None => None,
            },
            wal_budget_bytes: self.worker.as_ref().map_or(u64::MAX, |one| one.wal_budget_bytes),
            max_staleness: self.max_staleness,
            buckets_examined_max: BUCKETS_EXAMINED_MAX,
            known,
        };
        Box::pin(read_status(&self.storage, options)).await.map_err(|cause| internal(&cause))
    }

    /// Returns the worker of this process.
    pub(super) fn worker(&self, to_do: &str) -> Result<&AdminWorker, AdminError> {
        self.worker.as_ref().ok_or_else(|| {
            AdminError::new(
                422,
                "PSYNC_S4105",
                format!(
                    "This process has no connection to the source database and cannot {to_do}: ask a \
                     `tidewater dev`, or use the command line"
                ),
            )
        })
    }

    /// Returns the configs that the worker maintains.
    pub(super) async fn configs(&self) -> Result<Vec<ConfigStatus>, AdminError> {
        read_configs(&self.storage).await.map_err(|cause| internal(&cause))
    }

    /// Returns the slot that the store was filled from.
    pub(super) async fn slot(&self) -> Result<Option<String>, AdminError> {
        let control = self.storage.control().await.map_err(|cause| internal(&cause))?;
        Ok(control.map(|control| control.source.slot))
    }
}

/// Logs an error of the server, and returns the reply, which does not name it.
pub(super) fn internal(cause: &(dyn Error + 'static)) -> AdminError {
    error!(error = %ErrorChain(cause), "a request of the admin API failed");
    AdminError::new(500, "PSYNC_S2001", "Something went wrong: the log of the server has the cause")
}

/// Returns an error of the source database, which its owner may read.
pub(super) fn source_failed(cause: &(dyn Error + 'static)) -> AdminError {
    AdminError::new(502, "PSYNC_S2001", "The source database cannot be read")
        .with_details(ErrorChain(cause).to_string())
}
