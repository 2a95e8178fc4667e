//! `tidewater validate`: checks a sync config.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tidewater_sync_config::{Diagnostic, SyncConfig};

use crate::services::ingest_worker::reading_failure;
use crate::terminal::failure::Failure;
use crate::terminal::findings::FindingsReport;
use crate::terminal::format::Format;

const EXAMPLES: &str = "\
Examples:
  Check a file by itself (with TIDEWATER_DATABASE_URL unset):
    tidewater validate sync-config.yaml

  Also check that its tables and columns exist (reads the catalog and changes nothing):
    tidewater validate sync-config.yaml --database-url postgres://user@host/db

  For an editor or another program:
    tidewater validate sync-config.yaml --format json

The JSON is one object on standard output, the findings in the order of the file:
  {\"ok\": false, \"findings\": [{\"severity\": \"error\", \"line\": 5, \"column\": 12,
    \"message\": \"...\", \"hint\": \"...\"}]}
\"ok\" is true if there is no error. \"severity\" is \"error\" or \"warning\". Lines and columns start at 1,
and columns count characters. \"hint\" is null if there is none. If the file or the database cannot be
read, the reason is printed to standard error only.

Exit codes: 0 valid (warnings are possible), 1 the check could not be completed, 2 not valid, the file
cannot be read, or wrong arguments.";

/// Check a sync config: prints all errors with line and column
///
/// If the file has errors, these are printed. If it has none, it is compared with the database, and all
/// errors of that are printed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ValidateArgs {
    /// The sync config (YAML)
    file: PathBuf,
    /// Database in which the tables of the sync config must exist
    #[arg(long, env = "TIDEWATER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Format of the output: text with the affected lines, or one JSON object
    #[arg(long, env = "TIDEWATER_FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// Prints the findings to stdout.
pub(crate) async fn run(args: &ValidateArgs) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read the sync config '{file}'"))
        .map_err(Failure::usage)?;
    let (config, mut findings) = match SyncConfig::compile(&text) {
        Ok(config) => {
            let warnings = config.warnings().to_vec();
            (Some(config), warnings)
        }
        Err(findings) => (None, findings),
    };

    if let (Some(config), Some(url)) = (&config, &args.database_url) {
        findings.extend(check_schema(config, url).await?);
        findings.sort_by_key(|finding| (finding.line, finding.column));
    }

    let report = FindingsReport { file, text, config, findings };
    let output = report.render(args.format);
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    if report.is_valid() { Ok(()) } else { Err(Failure::AlreadyReported) }
}

async fn check_schema(config: &SyncConfig, url: &str) -> Result<Vec<Diagnostic>, Failure> {
    let checked = tidewater_ingest_worker::check_schema(url, config).await;
    checked.map_err(|error| reading_failure(error, "cannot compare with the database"))
}
