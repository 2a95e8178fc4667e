//! The ingest worker: its flags, and how commands run it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use sha2::{Digest, Sha256};
use tidewater_functions::WorkerProblem;
use tidewater_ingest_worker::{
    Config, ConfigurationError, ConnectError, OnError, Progress, ReadingError, RunError,
};
use tidewater_storage::{FaultPlan, Faulty, Storage};
use tokio_util::sync::CancellationToken;

use super::builder::ThresholdArgs;
use super::config_file::ConfigFile;
use super::copy_reports::CopyReports;
use super::database::DatabaseArgs;
use crate::terminal::failure::Failure;
use crate::terminal::logging;
use crate::terminal::progress::ProgressReporter;
use crate::terminal::{bytes, duration};

/// The flags that name the source database and the sync config.
#[derive(Args, Debug)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// File with the sync config (YAML), which decides who gets which rows. `tidewater ingest` also reads
    /// it from S3: s3://BUCKET/FOLDER/NAME
    #[arg(long, env = "TIDEWATER_SYNC_CONFIG", value_name = "FILE")]
    pub(crate) sync_config: PathBuf,
    /// Publication that lists the tables. You create it with CREATE PUBLICATION
    #[arg(long, env = "TIDEWATER_PUBLICATION", value_name = "NAME", default_value = "powersync")]
    pub(crate) publication: String,
    /// Replication slot. Tidewater creates it [default: a name derived from the data directory]
    #[arg(long, env = "TIDEWATER_SLOT", value_name = "NAME")]
    pub(crate) slot: Option<String>,
    /// Duration without any message of PostgreSQL, keepalives included, after which the worker
    /// connects again
    #[arg(long, env = "TIDEWATER_WAL_RECEIVER_TIMEOUT", value_name = "DURATION",
          default_value = "30s", value_parser = duration::parse_positive)]
    pub(crate) wal_receiver_timeout: Duration,
    /// WAL that the replication slot may retain on the server before the worker warns
    #[arg(long, env = "TIDEWATER_WAL_BUDGET", value_name = "SIZE", default_value = "10GB",
          value_parser = bytes::parse_positive)]
    pub(crate) wal_budget: u64,
    /// Duration for which a sync config that was replaced is kept up to date, so that it can be deployed
    /// again at once
    #[arg(long, env = "TIDEWATER_ROLLBACK_GRACE", value_name = "DURATION", default_value = "1h",
          value_parser = duration::parse)]
    pub(crate) rollback_grace: Duration,
    #[command(flatten)]
    pub(crate) threshold: ThresholdArgs,
    /// Storage calls of the worker that fail, for tests: see `FaultPlan`
    #[arg(long, env = "TIDEWATER_FAULT", value_name = "PLAN", hide = true)]
    pub(crate) fault: Option<FaultPlan>,
}

/// The way in which a command runs its worker.
pub(crate) struct Worker {
    pub(crate) on_error: OnError,
    /// It ends once readers see everything that was committed when it started.
    pub(crate) until_caught_up: bool,
    /// The worker's problem, for the readiness probe of the same process.
    pub(crate) problem: WorkerProblem,
    /// The rows that it has copied, for the admin API of the same process.
    pub(crate) copies: CopyReports,
    /// True once the run has replicated or copied anything.
    pub(crate) has_begun: AtomicBool,
    /// Text to print once, when clients can sync for the first time.
    pub(crate) next_steps: Mutex<Option<String>>,
}

impl Worker {
    /// Returns the way of a command that ends with its worker.
    pub(crate) fn ending_with_its_error() -> Self {
        Self {
            on_error: OnError::Stop,
            until_caught_up: false,
            problem: WorkerProblem::default(),
            copies: CopyReports::default(),
            has_begun: AtomicBool::new(false),
            next_steps: Mutex::default(),
        }
    }

    /// Prints what to do next, after the first report that clients can sync.
    fn advise(&self, report: &Progress) {
        if !matches!(report, Progress::Ready) {
            return;
        }
        let steps = self.next_steps.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(steps) = steps {
            tracing::info!("{steps}");
        }
    }

    /// Keeps the problem up to date.
    fn note(&self, report: &Progress) {
        if matches!(report, Progress::Ready | Progress::Copying { .. } | Progress::Copied { .. }) {
            self.has_begun.store(true, Ordering::Relaxed);
        }
        match report {
            Progress::Ready => self.problem.set(None),
            Progress::Stopped(why) => self.problem.set(Some(format!("stopped, {why}"))),
            Progress::StoreFailed(why) => {
                self.problem.set(Some(format!("the store failed, {why}")));
            }
            Progress::Reconnecting(why) => self.problem.set(Some(format!("reconnecting, {why}"))),
            Progress::WalBudget(warning) => self.problem.set_warning("wal", warning.clone()),
            Progress::UnsyncedRows(count) => {
                let warning = format!(
                    "{} not synced: see the log of the ingest worker",
                    if *count == 1 { "1 row is".to_owned() } else { format!("{count} rows are") }
                );
                self.problem.set_warning("rows", (*count > 0).then_some(warning));
            }
            Progress::Waiting(_)
            | Progress::Advice(_)
            | Progress::CaughtUp
            | Progress::Copying { .. }
            | Progress::Copied { .. } => {}
        }
    }
}

impl SourceArgs {
    /// Runs the worker until `shutdown`, or until it fails.
    pub(crate) async fn run_worker<S: Storage>(
        &self,
        file: &ConfigFile,
        storage: S,
        place: &str,
        worker: &Worker,
        shutdown: &CancellationToken,
    ) -> Result<(), Failure> {
        let slot = self.slot(&storage, place).await?;
        tracing::info!(slot, publication = self.publication, "starting the ingest worker");
        let config = Config {
            database: self.database.database().await,
            sync_config: file.text().to_owned(),
            publication: self.publication.clone(),
            slot,
            snapshot_threshold: self.threshold.snapshot_threshold,
            receiver_timeout: self.wal_receiver_timeout,
            wal_budget_bytes: self.wal_budget,
            rollback_grace: self.rollback_grace,
            on_error: worker.on_error,
            until_caught_up: worker.until_caught_up,
        };
        let reporter = ProgressReporter::new();
        let on_progress: &(dyn Fn(_) + Send + Sync) = &|report| {
            worker.note(&report);
            worker.copies.note(&report);
            reporter.report(&report);
            worker.advise(&report);
        };

        let ended = match &self.fault {
            None => tidewater_ingest_worker::run(&config, storage, on_progress, shutdown).await,
            Some(plan) => {
                let faulty = Faulty::new(storage, plan.clone());
                tidewater_ingest_worker::run(&config, faulty, on_progress, shutdown).await
            }
        };
        ended.map_err(|error| failure(error, file))
    }

    /// Returns the slot of the flag, else the slot that the store was filled from, else a name that
    /// only this deployment has.
    ///
    /// For a data directory, the name is derived from its path and the machine's name. So a deployment
    /// whose directory was deleted finds its slot again, instead of leaving a slot that retains WAL.
    async fn slot<S: Storage>(&self, storage: &S, place: &str) -> anyhow::Result<String> {
        if let Some(slot) = &self.slot {
            return Ok(slot.clone());
        }
        if let Some(control) = storage.control().await.context("cannot read the store")? {
            return Ok(control.source.slot);
        }
        // A deployment on AWS keeps its name when the worker moves to another machine.
        let Ok(path) = std::fs::canonicalize(place) else {
            return Ok(slot_name("", Path::new(place)));
        };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(slot_name(host.trim(), &path))
    }
}

/// Returns a slot name of 32 bits of a hash: enough for the deployments that share a server.
fn slot_name(host: &str, data_dir: &Path) -> String {
    let digest = Sha256::digest(format!("{host}\n{}", data_dir.display()));
    format!("tidewater_{}", hex::encode(&digest[..4]))
}

/// Converts an error of the worker. Errors of the sync config are printed with their place in the file.
fn failure(error: RunError, file: &ConfigFile) -> Failure {
    let RunError::Configuration(cause) = &error else { return worker_stopped(error) };
    match cause {
        ConfigurationError::SyncConfig(errors) => match file.check(&errors.0) {
            Err(failure) => failure,
            Ok(()) => Failure::Failed(anyhow!(error)),
        },
        ConfigurationError::SyncConfigAndSource(errors, source) => {
            logging::eprint(&format!("error: {source}\n\n"));
            match file.check(&errors.0) {
                Err(failure) => failure,
                Ok(()) => Failure::Failed(anyhow!(error)),
            }
        }
        ConfigurationError::Connect(ConnectError::Dsn(_)) => wrong_database_url(error),
        ConfigurationError::Connect(_)
        | ConfigurationError::Numbering(_)
        | ConfigurationError::Preflight(_)
        | ConfigurationError::Slot(_)
        | ConfigurationError::Source(_)
        | ConfigurationError::ForeignSource { .. } => worker_stopped(error),
    }
}

fn worker_stopped(error: RunError) -> Failure {
    Failure::Failed(anyhow!(error).context("the ingest worker stopped"))
}

/// Converts an error of a read of the database. A malformed connection string is wrong usage; for any
/// other error, the source or the network has to change.
pub(crate) fn reading_failure(error: ReadingError, what: &'static str) -> Failure {
    if matches!(error, ReadingError::Connect(ConnectError::Dsn(_))) {
        wrong_database_url(error)
    } else {
        Failure::Failed(anyhow!(error).context(what))
    }
}

pub(crate) fn wrong_database_url(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Usage(anyhow!(error).context("--database-url cannot be used"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_name_is_derived_from_directory_and_machine() {
        let name = slot_name("host", Path::new("/a/.tidewater"));
        assert_eq!(name, slot_name("host", Path::new("/a/.tidewater")));
        assert_ne!(name, slot_name("host", Path::new("/b/.tidewater")));
        assert_ne!(name, slot_name("other", Path::new("/a/.tidewater")));
        assert!(name.len() < 64, "PostgreSQL truncates names at 63 bytes");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    }
}
