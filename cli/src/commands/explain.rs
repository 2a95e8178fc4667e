//! `tidewater explain`: prints the buckets of a sync config and the cost of changes.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use tidewater_sync_config::{Explanation, SyncConfig};

use crate::services::config_picture::Picture;
use crate::terminal::failure::Failure;
use crate::terminal::findings::FindingsReport;
use crate::terminal::format::Format;

const EXAMPLES: &str = "\
Examples:
  Print, for each stream, its buckets, their rows and how a request finds them; then, for each table,
  the cost of a change of one row:
    tidewater explain sync-config.yaml

  For a program:
    tidewater explain sync-config.yaml --format json

  As a picture, for a page that shows Mermaid (GitHub does), or for Graphviz:
    tidewater explain sync-config.yaml --format mermaid
    tidewater explain sync-config.yaml --format dot | dot -Tsvg > sync-config.svg

A family is the set of buckets of one stream that differ only in their parameters: `by project_id` has
one bucket for each project. A lookup is an index that the sync API reads when a device connects.
Values are shown as SQL, which may be written differently from the file and means the same.

The JSON is one object:
  {\"ok\": true,
   \"streams\": [{\"name\": \"todos\", \"is_bucket_definition\": false, \"auto_subscribe\": true,
     \"priority\": 3, \"families\": [{\"name\": \"todos|0\",
       \"rows\": [{\"table\": \"public.todos\", \"output_table\": \"todos\", \"columns\": [\"*\"],
         \"without_underscore\": false, \"arrays\": [], \"conditions\": [], \"keys\": [\"list_id\"],
         \"reads\": [\"*\"]}],
       \"found_by\": [{\"priority\": 3, \"conditions\": [], \"steps\": [...],
         \"parameters\": [\"lists.id\"], \"absent\": []}]}]}],
   \"tables\": [{\"table\": \"public.todos\", \"families\": 1, \"lookups\": 0, \"reads\": [\"*\"]}]}
A step is {\"kind\": \"value\", \"value\"}, {\"kind\": \"elements\", \"array\", \"conditions\", \"gives\"},
{\"kind\": \"lookup\", \"lookup\", \"table\", \"alias\", \"arrays\", \"keys\": [{\"row\", \"value\"}], \"conditions\",
\"gives\"} or {\"kind\": \"equal\", \"left\", \"right\"}. An element of \"absent\" is
{\"conditions\", \"steps\", \"absent\"}: if it is found, there is no bucket. For a config that is not
valid, the output is that of `tidewater validate --format json`, where \"ok\" is false.

Exit codes: 0 success, 2 the config is not valid, the file cannot be read, or wrong arguments.";

/// Print the buckets of a sync config, how requests find them, and the cost of changes
///
/// It reads no database. `tidewater validate` prints warnings.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// The sync config (YAML)
    file: PathBuf,
    /// Format of the output
    #[arg(long, env = "TIDEWATER_FORMAT", value_enum, default_value_t)]
    format: ExplainFormat,
}

/// The output format of the explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ExplainFormat {
    /// Text for people
    #[default]
    Text,
    /// One JSON object for programs
    Json,
    /// A picture in the language of Mermaid
    Mermaid,
    /// A picture in the language of Graphviz
    Dot,
}

/// Prints the explanation, or the errors of the config, to stdout.
pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read the sync config '{file}'"))
        .map_err(Failure::usage)?;
    match SyncConfig::compile(&text) {
        Ok(config) => print(&render(&config.explain(), args.format)),
        Err(findings) => {
            let report = FindingsReport { file, text, config: None, findings, source: None };
            let format = match args.format {
                ExplainFormat::Json => Format::Json,
                ExplainFormat::Text | ExplainFormat::Mermaid | ExplainFormat::Dot => Format::Text,
            };
            print(&report.render(format))?;
            Err(Failure::AlreadyReported)
        }
    }
}

fn render(explanation: &Explanation, format: ExplainFormat) -> String {
    match format {
        ExplainFormat::Text => explanation.to_string(),
        ExplainFormat::Mermaid => Picture::new(explanation).mermaid(),
        ExplainFormat::Dot => Picture::new(explanation).dot(),
        ExplainFormat::Json => {
            let Explanation { streams, tables } = explanation;
            format!("{}\n", json!({"ok": true, "streams": streams, "tables": tables}))
        }
    }
}

fn print(output: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}
