//! The check of a sync config and of its source database.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use tidewater_ingest_worker::{Database, SourceReport, check_source};
use tidewater_sync_config::SyncConfig;

use crate::services::ingest_worker::reading_failure;
use crate::terminal::failure::Failure;
use crate::terminal::findings::FindingsReport;

/// The flags that say what a worker would use in the source database.
#[derive(Args, Debug)]
pub(crate) struct SourceNameArgs {
    /// Publication that lists the tables
    #[arg(long, env = "TIDEWATER_PUBLICATION", value_name = "NAME", default_value = "powersync")]
    publication: String,
    /// Replication slot of the worker, if it has run before. Otherwise one must be free
    #[arg(long, env = "TIDEWATER_SLOT", value_name = "NAME")]
    slot: Option<String>,
}

/// Checks the file of a sync config and, with a connection string, its source database.
pub(crate) async fn check(
    file: &Path,
    database: Option<&Database>,
    names: &SourceNameArgs,
) -> Result<FindingsReport, Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the sync config '{name}'"))
        .map_err(Failure::usage)?;
    let (config, mut findings) = match SyncConfig::compile(&text) {
        Ok(config) => {
            let warnings = config.warnings().to_vec();
            (Some(config), warnings)
        }
        Err(findings) => (None, findings),
    };

    let mut source = None;
    if let (Some(config), Some(database)) = (&config, database) {
        let SourceNameArgs { publication, slot } = names;
        let checked = check_source(database, publication, slot.as_deref(), config).await;
        let SourceReport { findings: found, diagnostics, .. } =
            checked.map_err(|error| reading_failure(error, "cannot check the database"))?;
        findings.extend(diagnostics);
        findings.sort_by_key(|finding| (finding.line, finding.column));
        source = Some(found);
    }
    Ok(FindingsReport { file: name, text, config, findings, source })
}
