//! The ingest worker as the command line starts it.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use sha2::{Digest, Sha256};
use tidewater_ingest_worker::{Config, ConnectError, RunError};
use tidewater_storage::{FaultPlan, Faulty, Storage};
use tidewater_sync_config::{Diagnostic, Severity, SyncConfig};
use tokio_util::sync::CancellationToken;

use crate::builder::ThresholdArgs;
use crate::failure::Failure;
use crate::progress::Reporter;

/// What is synced, and from where.
#[derive(Args, Debug)]
pub(crate) struct SourceArgs {
    /// The source database: postgres://user:password@host/database, as libpq reads it, but with
    /// sslmode=verify-full where none is given
    #[arg(long, env = "TIDEWATER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: String,
    /// The sync config (YAML): which rows go to whom
    #[arg(long, env = "TIDEWATER_SYNC_CONFIG", value_name = "FILE")]
    pub(crate) sync_config: PathBuf,
    /// The publication that names the tables; you make it
    #[arg(long, env = "TIDEWATER_PUBLICATION", value_name = "NAME", default_value = "powersync")]
    pub(crate) publication: String,
    /// The replication slot, which Tidewater makes [default: one for this data directory]
    #[arg(long, env = "TIDEWATER_SLOT", value_name = "NAME")]
    pub(crate) slot: Option<String>,
    #[command(flatten)]
    pub(crate) threshold: ThresholdArgs,
    /// Calls of the store by the worker that go wrong, for tests: see `FaultPlan`
    #[arg(long, env = "TIDEWATER_FAULT", value_name = "PLAN", hide = true)]
    pub(crate) fault: Option<FaultPlan>,
}

/// A sync config that compiles.
pub(crate) struct ConfigFile {
    name: String,
    text: String,
    config: SyncConfig,
}

impl ConfigFile {
    /// Reads and compiles a file. What is wrong with it is told on stderr.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the sync config '{name}'"))
            .map_err(Failure::Wrong)?;
        Self::compile(name, text)
    }

    /// Compiles a text. What is wrong with it is told on stderr.
    pub(crate) fn compile(name: String, text: String) -> Result<Self, Failure> {
        match SyncConfig::compile(&text) {
            Ok(config) => {
                let file = Self { name, text, config };
                file.tell(file.config.warnings());
                Ok(file)
            }
            Err(findings) => {
                tell(&findings, &name, &text);
                Err(is_wrong(&name))
            }
        }
    }

    /// What it was compiled to.
    pub(crate) fn config(&self) -> &SyncConfig {
        &self.config
    }

    /// Tells on stderr what is wrong with it.
    pub(crate) fn check(&self, findings: &[Diagnostic]) -> Result<(), Failure> {
        self.tell(findings);
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(is_wrong(&self.name));
        }
        Ok(())
    }

    fn tell(&self, findings: &[Diagnostic]) {
        tell(findings, &self.name, &self.text);
    }
}

fn tell(findings: &[Diagnostic], name: &str, text: &str) {
    let text: String = findings.iter().map(|one| one.render(name, text) + "\n").collect();
    crate::logging::print_around_bars(&text);
}

fn is_wrong(name: &str) -> Failure {
    Failure::Wrong(anyhow!("the sync config '{name}' cannot be used"))
}

impl SourceArgs {
    /// Runs the worker until `shutdown`, or until it fails.
    pub(crate) async fn run_worker<S: Storage>(
        &self,
        file: &ConfigFile,
        storage: S,
        place: &str,
        shutdown: &CancellationToken,
    ) -> Result<(), Failure> {
        let slot = self.slot(&storage, place).await?;
        tracing::info!(slot, publication = self.publication, "starting the ingest worker");
        let config = Config {
            database_url: self.database_url.clone(),
            sync_config: file.text.clone(),
            publication: self.publication.clone(),
            slot,
            snapshot_threshold: self.threshold.snapshot_threshold,
        };
        let reporter = Reporter::new();
        let progress = |report| reporter.report(&report);
        let ended = match &self.fault {
            None => tidewater_ingest_worker::run(&config, storage, &progress, shutdown).await,
            Some(plan) => {
                let faulty = Faulty::new(storage, plan.clone());
                tidewater_ingest_worker::run(&config, faulty, &progress, shutdown).await
            }
        };
        ended.map_err(|error| failure(error, file))
    }

    /// The slot that was asked for, else the one the store was filled from, else one that only
    /// this deployment has: for a directory that is its path and this machine's name. Starting
    /// afresh after deleting it finds the slot again.
    async fn slot<S: Storage>(&self, storage: &S, place: &str) -> anyhow::Result<String> {
        if let Some(slot) = &self.slot {
            return Ok(slot.clone());
        }
        if let Some(control) = storage.control().await.context("cannot read the store")? {
            return Ok(control.source.slot);
        }
        // A deployment on AWS is the same one from whatever machine it is fed.
        let Ok(path) = std::fs::canonicalize(place) else {
            return Ok(slot_name("", Path::new(place)));
        };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(slot_name(host.trim(), &path))
    }
}

fn slot_name(host: &str, data_dir: &Path) -> String {
    let digest = Sha256::digest(format!("{host}\n{}", data_dir.display()));
    let digits: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("tidewater_{digits}")
}

/// Config errors are shown with their place in the file.
fn failure(error: RunError, file: &ConfigFile) -> Failure {
    if let RunError::SyncConfig(errors) = &error {
        file.tell(&errors.0);
        return is_wrong(&file.name);
    }
    sort(error, "the ingest worker has stopped")
}

/// A connection string that cannot be read is wrong input; for anything else the source, the
/// network or the store has to change.
pub(crate) fn sort(error: RunError, what: &'static str) -> Failure {
    if matches!(error, RunError::Connect(ConnectError::Dsn(_))) {
        Failure::Wrong(anyhow!(error).context("--database-url cannot be used"))
    } else {
        Failure::Failed(anyhow!(error).context(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_belongs_to_a_directory_of_a_machine() {
        let name = slot_name("host", Path::new("/a/.tidewater"));
        assert_eq!(name, slot_name("host", Path::new("/a/.tidewater")));
        assert_ne!(name, slot_name("host", Path::new("/b/.tidewater")));
        assert_ne!(name, slot_name("other", Path::new("/a/.tidewater")));
        assert!(name.len() < 64, "PostgreSQL cuts names at 63 bytes");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    }
}
