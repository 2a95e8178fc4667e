//! `tidewater schema`: prints the schema of a client, or the JSON Schema of sync configs.

mod client;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use tidewater_ingest_worker::list_tables;

use crate::services::config_file::ConfigFile;
use crate::services::database::LoginArgs;
use crate::services::ingest_worker::reading_failure;
use crate::terminal::failure::Failure;
use crate::terminal::logging;
use client::ClientLanguage;

const SCHEMA: &str = include_str!("../../../libs/sync-config/sync-config.schema.json");

const EXAMPLES: &str = "\
Examples:
  The tables that an app gets, for an official SDK:
    tidewater schema sync-config.yaml --client ts --database-url postgres://user@host/db > schema.ts

  For `tidewater sync` and the Rust client, as SQL of SQLite:
    tidewater schema sync-config.yaml --client sqlite --database-url postgres://user@host/db

  The JSON Schema of sync configs, next to the sync config, which names it in its first line. This works in
  editors that use yaml-language-server (VS Code with its YAML extension, Neovim, Helix and others):
    tidewater schema > sync-config.schema.json

    # yaml-language-server: $schema=./sync-config.schema.json
    config:
      edition: 3

With --client the tables and columns are those of the queries of the sync config; their types follow from the
database. Expressions whose type is not known are texts. Columns of bytes are not synced. A table whose
name the config takes from a pattern is listed if it exists now.

The editor completes and explains keys, and marks unknown ones. It does not check the queries; `tidewater
validate` does.

Exit codes: 0 success, 1 the database cannot be read, 2 the sync config cannot be used, or wrong arguments.";

/// Print a client's schema, or the JSON Schema of sync configs for editors
///
/// With --client it prints the tables that devices get in the language of an app. Without, it prints JSON
/// Schema draft 2020-12. Nothing else is printed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SchemaArgs {
    /// The sync config (YAML), for --client
    #[arg(requires = "client")]
    file: Option<PathBuf>,
    /// Language of the app
    #[arg(long, env = "TIDEWATER_CLIENT", value_enum)]
    client: Option<ClientLanguage>,
    /// Source database, for --client
    #[arg(long, env = "TIDEWATER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    #[command(flatten)]
    login: LoginArgs,
    /// Publication that lists the tables
    #[arg(long, env = "TIDEWATER_PUBLICATION", value_name = "NAME", default_value = "powersync")]
    publication: String,
}

/// Prints the schema to stdout.
pub(crate) async fn run(args: &SchemaArgs) -> Result<(), Failure> {
    let text = match args.client {
        None => SCHEMA.to_owned(),
        Some(language) => client_schema(args, language).await?,
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}

async fn client_schema(args: &SchemaArgs, language: ClientLanguage) -> Result<String, Failure> {
    let (Some(file), Some(url)) = (&args.file, &args.database_url) else {
        return Err(Failure::Usage(anyhow!(
            "--client needs the sync config and --database-url: the types of columns are those of the database"
        )));
    };
    let file = ConfigFile::read(file)?;
    let database = args.login.database(url).await;
    let tables = list_tables(&database, &args.publication)
        .await
        .map_err(|error| reading_failure(error, "cannot read the database"))?;

    let schemas: Vec<_> =
        tables.into_iter().filter(|table| table.kind == 'r').map(|table| table.schema).collect();
    file.check(&file.config().check(&schemas))?;
    let mut output = file.config().output_tables(&schemas).or_else(|findings| {
        file.check(&findings)?;
        Err(Failure::Usage(anyhow!("the sync config does not fit the database")))
    })?;
    for warning in client::without_refused(&mut output, language) {
        logging::eprint(&format!("warning: {warning}\n"));
    }
    Ok(client::render(&output, language))
}
