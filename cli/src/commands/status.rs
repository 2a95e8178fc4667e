//! `tidewater status`: prints the state of a deployment.

use std::io::Write;

use anyhow::Context;
use clap::Args;

use crate::process::data_dir;
use crate::services::status::StatusArgs;
use crate::terminal::failure::Failure;
use crate::terminal::status_text;

const EXAMPLES: &str = "\
Examples:
  The store of `tidewater dev` in this folder, while it runs:
    tidewater status

  With the replication slot, the estimated rows and the names of all tables:
    tidewater status --database-url postgres://user@host/db

  A deployment on AWS:
    tidewater status --store aws --table-prefix app --bucket app-objects

  An alarm from cron, which sends mail only if there is output:
    */5 * * * *  tidewater status --store embedded:/var/lib/tidewater >/tmp/tidewater || cat /tmp/tidewater

docs/status.md describes the output and the JSON. What is not known is absent. Definitions and largest
buckets come from the buckets that were examined (--scan-buckets): with more buckets, the others are not
among them. On AWS, each examined bucket costs one or two read units.

Exit codes: 0 healthy (warnings are possible), 1 not healthy or the store cannot be read, 2 wrong usage.";

/// Print the state of a deployment: worker, slot, sync configs, tables, buckets, sizes
///
/// It reads the store, and with --database-url the source database. It changes nothing, and may run beside
/// everything else.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusCommandArgs {
    #[command(flatten)]
    status: StatusArgs,
    /// Number of buckets that are examined for definitions and largest buckets
    #[arg(long, env = "TIDEWATER_SCAN_BUCKETS", value_name = "N", default_value_t = 2_000)]
    scan_buckets: usize,
    /// Print the state as one JSON object
    #[arg(long, env = "TIDEWATER_JSON")]
    json: bool,
}

/// Prints the state to stdout, and fails unless the deployment is healthy.
pub(crate) async fn run(args: &StatusCommandArgs) -> Result<(), Failure> {
    data_dir::create_private_files();
    let store = args.status.open().await?;
    let status = args.status.read(&store, args.scan_buckets).await?;

    let output = if args.json {
        serde_json::to_string(&status).context("the state has no JSON form")? + "\n"
    } else {
        status_text::render(&status)
    };
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    if status.healthy { Ok(()) } else { Err(Failure::NotHealthy) }
}
