//! `tidewater explain`: which buckets does this sync config make, and at what cost?

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tidewater_sync_config::{Explanation, SyncConfig};

use crate::failure::Failure;
use crate::format::Format;
use crate::validate::Report;

const EXAMPLES: &str = "\
Examples:
  For each stream its buckets, the rows in them and how a request finds them, then for each table
  what a change of one of its rows costs:
    tidewater explain sync-config.yaml

  For a program:
    tidewater explain sync-config.yaml --format json

A family is the buckets of one stream that differ in their parameters: in `by project_id` there is
one for each project. A lookup is an index that the sync API asks when a device connects. Values are
written as SQL, which may differ from the file's and means the same.

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
\"gives\"} or {\"kind\": \"equal\", \"left\", \"right\"}. What is absent is {\"conditions\", \"steps\",
\"absent\"}: if one of these is found, there is no bucket. Of a config that is not valid it is the
object that `tidewater validate --format json` prints, where \"ok\" is false.

Exit codes: 0 done, 2 a config that is not valid, or no file.";

/// Print which buckets a sync config makes, how requests find them, and what changes of rows cost
///
/// No database is asked. Warnings are for `tidewater validate`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// The sync config (YAML)
    file: PathBuf,
    /// For people, or one JSON object for programs
    #[arg(long, env = "TIDEWATER_FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// Prints the explanation, or what is wrong, on stdout.
pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read the sync config '{file}'"))
        .map_err(Failure::wrong)?;
    match SyncConfig::compile(&text) {
        Ok(config) => print(&render(&config.explain(), args.format)),
        Err(findings) => {
            let report = Report { file, text, config: None, findings };
            print(&report.render(args.format))?;
            Err(Failure::Told)
        }
    }
}

fn render(explanation: &Explanation, format: Format) -> String {
    match format {
        Format::Text => explanation.to_string(),
        Format::Json => {
            let Explanation { streams, tables } = explanation;
            format!("{}\n", json!({"ok": true, "streams": streams, "tables": tables}))
        }
    }
}

fn print(output: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}
