//! `tidewater validate`: is this sync config right?

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use tidewater_sync_config::{Diagnostic, Severity, SyncConfig};

use crate::failure::Failure;
use crate::format::Format;
use crate::worker;

const EXAMPLES: &str = "\
Examples:
  Check a file by itself:
    tidewater validate sync-config.yaml

  Check also that its tables and columns exist (reads the catalog, changes nothing):
    tidewater validate sync-config.yaml --database-url postgres://user@host/db

  For an editor or another program:
    tidewater validate sync-config.yaml --format json

The JSON is one object on standard output, the findings in the order of the file:
  {\"ok\": false, \"findings\": [{\"severity\": \"error\", \"line\": 5, \"column\": 12,
    \"message\": \"...\", \"hint\": \"...\"}]}
\"ok\" says that there is no error; \"severity\" is \"error\" or \"warning\"; lines and columns count
from 1, columns in characters; \"hint\" is null where there is none. What keeps the file from being
looked at (it cannot be read, the database cannot be asked) is told on standard error only.

Exit codes: 0 valid (there may be warnings), 1 the database cannot be asked, 2 not valid, or no file.";

/// Check a sync config: all errors at once, each with its place
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ValidateArgs {
    /// The sync config (YAML)
    file: PathBuf,
    /// Compare with the tables of this database
    #[arg(long, env = "TIDEWATER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// For people, with the lines concerned, or one JSON object for programs
    #[arg(long, env = "TIDEWATER_FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// Prints what it found on stdout.
pub(crate) async fn run(args: &ValidateArgs) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read the sync config '{file}'"))
        .map_err(Failure::wrong)?;
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
    let report = Report { file, text, config, findings };
    let output = report.render(args.format);
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    if report.is_valid() { Ok(()) } else { Err(Failure::Told) }
}

async fn check_schema(config: &SyncConfig, url: &str) -> Result<Vec<Diagnostic>, Failure> {
    let checked = tidewater_ingest_worker::check_schema(url, config).await;
    checked.map_err(|error| worker::sort(error, "cannot compare with the database"))
}

/// What is said about a file.
pub(crate) struct Report {
    pub(crate) file: String,
    pub(crate) text: String,
    pub(crate) config: Option<SyncConfig>,
    pub(crate) findings: Vec<Diagnostic>,
}

impl Report {
    /// What is printed.
    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Json => format!("{}\n", self.json()),
        }
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Diagnostic> {
        self.findings.iter().filter(move |finding| finding.severity == severity)
    }

    fn is_valid(&self) -> bool {
        self.of(Severity::Error).next().is_none()
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for finding in &self.findings {
            out.push_str(&finding.render(&self.file, &self.text));
            out.push('\n');
        }
        let (errors, warnings) =
            (self.of(Severity::Error).count(), self.of(Severity::Warning).count());
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let verdict = match &self.config {
            Some(config) if errors == 0 => format!(
                "is valid: {} over {}",
                counted(config.definitions().len(), "definition"),
                counted(config.tables().len(), "table"),
            ),
            _ => format!("is not valid: {}", counted(errors, "error")),
        };
        out.push_str(&format!("{} {verdict}", self.file));
        if warnings > 0 {
            out.push_str(&format!(", {}", counted(warnings, "warning")));
        }
        out.push('\n');
        out
    }

    fn json(&self) -> Value {
        let findings: Vec<Value> = self.findings.iter().map(finding_json).collect();
        json!({"ok": self.is_valid(), "findings": findings})
    }
}

fn finding_json(finding: &Diagnostic) -> Value {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    json!({
        "severity": severity,
        "line": finding.line,
        "column": finding.column,
        "message": finding.message,
        "hint": finding.hint,
    })
}
