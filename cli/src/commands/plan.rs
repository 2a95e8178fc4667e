//! `tidewater plan`: prints the consequences of another sync config.

mod text;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::json;
use tidewater_ingest_worker::{NewConfig, PlanError, PlanReport, plan_config};
use tidewater_storage::Storage;

use crate::process::data_dir;
use crate::services::config_file::ConfigFile;
use crate::services::database::DatabaseArgs;
use crate::services::store::{StoreArgs, with_store};
use crate::terminal::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  Before a deployment, with the store of `tidewater dev` in this folder, while it runs:
    tidewater plan new.yaml --database-url postgres://user@host/db

  In CI, for a deployment on AWS: fail unless somebody has agreed to a copy
    tidewater plan new.yaml --store aws --bucket app-objects --json > plan.json || [ \"$AGREED\" = yes ]

  With a rate of the copy, for the minutes (the worker's metric of copied rows has it):
    tidewater plan new.yaml --rows-per-second 50000

It makes the plan that a worker would make if it started now with the file, and writes nothing. A definition
is kept if its name and its rows are as in the sync config in use: a comment, another order, `priority`,
`auto_subscribe`, or another way to find the same buckets copies nothing. A definition whose query changed is
removed and new: devices download it again.

Rows are PostgreSQL's estimates (run ANALYZE), bytes those of its tables. How many rows fall into a bucket
is known after the copy. The store has no list of users: compare `tidewater rows` with both files for one.

Exit codes: 0 nothing is copied, 2 a table is copied, 1 the config cannot be used, or the store or the database
cannot be read. Wrong arguments also give 2, and print nothing to stdout.";

/// Print what another sync config would copy, keep and remove
///
/// It reads the store and the catalog of the source database. It changes nothing, and may run beside everything
/// else.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanArgs {
    /// The new sync config (YAML)
    file: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Publication that lists the tables
    #[arg(long, env = "TIDEWATER_PUBLICATION", value_name = "NAME", default_value = "powersync")]
    publication: String,
    /// Rows that are copied in a second, for the minutes [default: the minutes are not known]
    #[arg(long, env = "TIDEWATER_ROWS_PER_SECOND", value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    rows_per_second: Option<u64>,
    /// Print the plan as one JSON object
    #[arg(long, env = "TIDEWATER_JSON")]
    json: bool,
}

/// Prints the plan to stdout. The exit code says whether a table is copied.
pub(crate) async fn run(args: &PlanArgs) -> Result<(), Failure> {
    data_dir::create_private_files();
    // Exit code 2 is that of a copy.
    let report = plan(args).await.map_err(|failure| Failure::Failed(failure.into_error()))?;

    let seconds = args.rows_per_second.and_then(|rate| seconds_of(&report, rate));
    let output = if args.json {
        let mut document = json!(report);
        document["copies"] = json!(report.copies());
        if let Some(seconds) = seconds {
            document["estimated_seconds"] = json!(seconds);
        }
        format!("{document}\n")
    } else {
        text::render(&report, seconds)
    };
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    if report.copies() { Err(Failure::WouldCopy) } else { Ok(()) }
}

async fn plan(args: &PlanArgs) -> Result<PlanReport, Failure> {
    args.store.must_exist()?;
    let file = ConfigFile::read(&args.file)?;
    let database = args.database.database().await;
    let new = NewConfig { config: file.config(), text: file.text() };
    let planned = with_store!(args.store, storage =>
        make(&storage, &database, &args.publication, new).await);
    match planned {
        Ok(report) => Ok(report),
        Err(PlanError::SyncConfig(findings)) => {
            file.check(&findings)?;
            Err(Failure::Failed(anyhow!("the sync config does not fit the database")))
        }
        Err(error) => Err(anyhow::Error::from(error).context("cannot plan the deployment").into()),
    }
}

async fn make<S: Storage>(
    storage: &S,
    database: &tidewater_ingest_worker::Database,
    publication: &str,
    new: NewConfig<'_>,
) -> Result<PlanReport, PlanError> {
    Box::pin(plan_config(storage, database, publication, new)).await
}

/// Returns the time of the copy; `None` if a table has no estimate.
fn seconds_of(report: &PlanReport, rows_per_second: u64) -> Option<u64> {
    let mut rows = 0_u64;
    for table in &report.tables {
        rows = rows.saturating_add(table.estimated_rows?);
    }
    Some(rows.div_ceil(rows_per_second))
}
