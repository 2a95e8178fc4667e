//! `tidewater rows`: prints the buckets and rows that a user would get.

mod gather;
mod report;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use tidewater_sync_config::{Request, RequestLimits, SyncConfig};

use crate::services::config_file::ConfigFile;
use crate::services::database::DatabaseArgs;
use crate::services::request_args::RequestArgs;
use crate::terminal::failure::Failure;
use crate::terminal::format::Format;

const EXAMPLES: &str = "\
Examples:
  The rows that user u1 gets from streams with auto_subscribe:
    tidewater rows sync-config.yaml --database-url postgres://user@host/db --user-id u1

  With a claim that the config reads by auth.parameter('org_id'), and a subscription with a parameter
  that the config reads by subscription.parameter('project'):
    tidewater rows sync-config.yaml --database-url postgres://user@host/db --user-id u1 \\
      --claims '{\"org_id\": \"acme\"}' --stream 'project={\"project\": 7}'

  As JSON, with up to 1000 rows of each bucket:
    tidewater rows sync-config.yaml --database-url postgres://user@host/db --user-id u1 \\
      --format json --limit 1000

For each bucket, the output has its priority, its number of rows, and the first rows, one JSON object a
line: the table on the device, the id, and the row as it is sent. The JSON is one object:
  {\"buckets\": [{\"bucket\": \"todos|0[\\\"u1\\\"]\", \"definition\": \"todos|0\", \"parameters\": [\"u1\"],
      \"priority\": 3, \"row_count\": 1, \"rows\": [{\"type\": \"todos\", \"id\": \"t1\", \"data\": {...}}]}],
   \"streams\": [{\"name\": \"todos\", \"is_default\": true, \"errors\": []}],
   \"left_out\": [{\"message\": \"...\", \"row_count\": 1}]}
\"left_out\" counts the rows of all users for which a query cannot be evaluated.

Exit codes: 0 success, 1 cannot read the database, 2 wrong usage, or the config does not fit it.";

/// Print the buckets and rows that a user would get, read from the database
///
/// It needs no running Tidewater, no publication and no replication slot, and changes nothing. It
/// reads all tables of the sync config in one read-only transaction, so at one point in time. Each
/// table is read completely, tables with lookups twice. The user's rows, and the answers to lookups
/// for all users, are kept in memory. So run it on a large database when it is not busy. Row filters
/// of a publication and limits of the sync API are not applied.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RowsArgs {
    /// The sync config (YAML)
    file: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    request: RequestArgs,
    /// Maximum number of rows shown of each bucket. All rows are counted
    #[arg(long, env = "TIDEWATER_LIMIT", value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Format of the output
    #[arg(long, env = "TIDEWATER_FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// Prints the user's buckets and rows to stdout.
pub(crate) async fn run(args: &RowsArgs) -> Result<(), Failure> {
    let file = ConfigFile::read(&args.file)?;
    let claims = args.request.claims();
    let request = args.request.request(&claims);

    check_streams(file.config(), &request)?;
    let gathered = gather::gather(&file, &args.database.database().await, &request).await?;
    let output = match args.format {
        Format::Text => report::text(file.config(), &gathered, args.limit)?,
        Format::Json => report::json(file.config(), &gathered, args.limit)?,
    };
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}

/// Fails if a subscription names a stream that the config lacks. The sync API ignores such a
/// subscription, since the app may be newer than the config; here it is a spelling mistake.
fn check_streams(config: &SyncConfig, request: &Request<'_>) -> Result<(), Failure> {
    let prepared =
        config.prepare(request, &RequestLimits::UNLIMITED).map_err(anyhow::Error::from)?;
    let known = prepared.evaluation().finish().map_err(anyhow::Error::from)?.streams;
    for subscription in request.subscriptions {
        if known.iter().all(|known| known.name != subscription.stream) {
            let name = &subscription.stream;
            let error = anyhow!("the sync config has no stream '{name}' (--stream)");
            return Err(Failure::Usage(error));
        }
    }
    Ok(())
}
