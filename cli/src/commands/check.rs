//! `tidewater check`: checks the source database as the start of the worker does.

use std::path::PathBuf;

use clap::Args;

use crate::services::database::DatabaseArgs;
use crate::services::source_check::{self, SourceNameArgs};
use crate::terminal::failure::Failure;
use crate::terminal::format::Format;

const EXAMPLES: &str = "\
Examples:
  Before the first start of a worker, with the role that it will have:
    tidewater check --sync-config sync-config.yaml --database-url postgres://user@host/db

  Beside a worker that runs, with the slot that it has logged at its start:
    tidewater check --sync-config sync-config.yaml --database-url postgres://user@host/db \\
      --slot tidewater_1234abcd

It checks the server (version, wal_level, free replication slots and WAL senders, encoding), the rights of
the role, the publication, and each table: privileges, row security, replica identity, columns that are not
published, unlogged and partitioned tables. All findings are printed, each with the SQL that fixes it. In
a database with the encoding SQL_ASCII it reads the tables whole, and names rows that are not UTF-8.

The JSON is that of `tidewater validate`.

Exit codes: 0 a worker can start (warnings are possible), 1 the database is not ready or cannot be read, 2
the sync config does not fit the database, or wrong arguments.";

/// Check whether the database is ready for the worker: prints all findings with their fixes
///
/// This is the check with which `tidewater dev` and `tidewater ingest` start. It changes nothing: it
/// creates no replication slot and needs no store.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// File with the sync config (YAML)
    #[arg(long, env = "TIDEWATER_SYNC_CONFIG", value_name = "FILE")]
    sync_config: PathBuf,
    #[command(flatten)]
    names: SourceNameArgs,
    /// Format of the output: text, or one JSON object
    #[arg(long, env = "TIDEWATER_FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// Prints the findings to stdout.
pub(crate) async fn run(args: &CheckArgs) -> Result<(), Failure> {
    let database = args.database.database().await;
    source_check::check(&args.sync_config, Some(&database), &args.names).await?.finish(args.format)
}
