//! `tidewater why`: says why a row does not arrive at a user.

mod text;

use std::io::Write;

use anyhow::Context;
use clap::Args;
use tidewater_ingest_worker::{WhyError, WhyOptions, WhyReport, why};
use tidewater_storage::Storage;

use crate::process::data_dir;
use crate::services::database::LoginArgs;
use crate::services::request_args::RequestArgs;
use crate::services::store::{StoreArgs, with_store};
use crate::terminal::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  Why does user u1 not see this row? On the store of `tidewater dev` in this folder, while it runs:
    tidewater why --user-id u1 --table todos --id 7 --database-url postgres://user@host/db

  With a claim that the config reads, and a stream that the app subscribes to:
    tidewater why --user-id u1 --table app.todos --id 7 --claims '{\"org_id\": \"acme\"}' \\
      --stream 'project={\"project\": 7}' --database-url postgres://user@host/db

  A table with two columns in its key:
    tidewater why --user-id u1 --table members --id '[\"acme\", 7]'

  A deployment on AWS, from the store alone, as JSON:
    tidewater why --user-id u1 --table todos --id 7 --json --store aws --bucket app-objects

It follows the row: publication, sync config in use, source, copy, definition, store, checkpoint, user,
client. Each link holds (ok), fails (FAILS), or is not known (?). Conditions and buckets are those of the
sync config in use, at the checkpoint that devices have. Without --database-url the links that need the
source are not known. The output has values of your rows. docs/status.md describes the JSON.

Exit codes: 0 no link fails, 1 a link fails or the store cannot be read, 2 wrong usage.";

/// Say why a row does not arrive at a user: the first link that fails, and what to do
///
/// It reads the store, and with --database-url the row in the source. It changes nothing, and may run beside
/// everything else.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Table of PostgreSQL: schema.table, or a table in the schema public
    #[arg(long, env = "TIDEWATER_TABLE", value_name = "T")]
    table: String,
    /// Value of the table's key (or of its column id), or a JSON array with a value for each column of the key
    #[arg(long, env = "TIDEWATER_ID", value_name = "K")]
    id: String,
    #[command(flatten)]
    request: RequestArgs,
    /// Client of the user, whose write checkpoints are looked at
    #[arg(long, env = "TIDEWATER_CLIENT_ID", value_name = "ID", visible_alias = "client")]
    client_id: Option<String>,
    /// Source database [default: the store alone]
    #[arg(long, env = "TIDEWATER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    #[command(flatten)]
    login: LoginArgs,
    /// Publication that lists the tables
    #[arg(long, env = "TIDEWATER_PUBLICATION", value_name = "NAME", default_value = "powersync")]
    publication: String,
    /// Print the chain as one JSON object
    #[arg(long, env = "TIDEWATER_JSON")]
    json: bool,
}

/// Prints the chain to stdout, and fails unless the row arrives.
pub(crate) async fn run(args: &WhyArgs) -> Result<(), Failure> {
    data_dir::create_private_files();
    args.store.must_exist()?;
    let report = with_store!(args.store, storage => follow(&storage, args).await);
    let report = report.context("cannot follow the row")?;

    let output = if args.json {
        serde_json::to_string(&report).context("the chain has no JSON form")? + "\n"
    } else {
        text::render(&report)
    };
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    if report.arrives { Ok(()) } else { Err(Failure::DoesNotArrive) }
}

async fn follow<S: Storage>(storage: &S, args: &WhyArgs) -> Result<WhyReport, WhyError> {
    let database = match &args.database_url {
        Some(url) => Some(args.login.database(url).await),
        None => None,
    };
    let options = WhyOptions {
        database,
        publication: &args.publication,
        table: &args.table,
        id: &args.id,
        user_id: &args.request.user_id,
        claims: &args.request.claims(),
        parameters: args.request.parameters.as_ref(),
        subscriptions: &args.request.streams,
        client_id: args.client_id.as_deref(),
    };
    Box::pin(why(storage, options)).await
}
