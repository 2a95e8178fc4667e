//! `tidewater validate`: checks a sync config.

use std::path::PathBuf;

use clap::Args;

use crate::services::database::LoginArgs;
use crate::services::source_check::{self, SourceNameArgs};
use crate::terminal::failure::Failure;
use crate::terminal::format::Format;

const EXAMPLES: &str = "\
Examples:
  Check a file by itself (with TIDEWATER_DATABASE_URL unset):
    tidewater validate sync-config.yaml

  Also check that its tables and columns exist, and that the database is ready for replication, as
  `tidewater check` does (changes nothing):
    tidewater validate sync-config.yaml --database-url postgres://user@host/db

  For an editor or another program:
    tidewater validate sync-config.yaml --format json

The JSON is one object on standard output, the findings in the order of the file:
  {\"ok\": false, \"findings\": [{\"severity\": \"error\", \"line\": 5, \"column\": 12,
    \"message\": \"...\", \"hint\": \"...\"}]}
\"ok\" is true if there is no error. \"severity\" is \"error\" or \"warning\". Lines and columns start at 1,
and columns count characters. \"hint\" is null if there is none. With a database, the object also has the
findings about that:
  \"source\": [{\"severity\": \"error\", \"message\": \"...\", \"fix\": \"...\"}]
If the file or the database cannot be read, the reason is printed to standard error only.

Exit codes: 0 valid (warnings are possible), 1 the database is not ready or cannot be read, 2 not valid,
the file cannot be read, or wrong arguments.";

/// Check a sync config: prints all errors with line and column
///
/// If the file has errors, these are printed. If it has none, it is compared with the database, the
/// database is checked, and all errors of that are printed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ValidateArgs {
    /// The sync config (YAML)
    file: PathBuf,
    /// Database that the sync config is for
    #[arg(long, env = "TIDEWATER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    #[command(flatten)]
    login: LoginArgs,
    #[command(flatten)]
    names: SourceNameArgs,
    /// Format of the output: text with the affected lines, or one JSON object
    #[arg(long, env = "TIDEWATER_FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// Prints the findings to stdout.
pub(crate) async fn run(args: &ValidateArgs) -> Result<(), Failure> {
    let database = match &args.database_url {
        Some(url) => Some(args.login.database(url).await),
        None => None,
    };
    source_check::check(&args.file, database.as_ref(), &args.names).await?.finish(args.format)
}
