//! `tidewater queue`: shows and changes the local writes of a SQLite file that wait or were rejected.

mod report;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use tidewater_client::{Client, ClientError, Options};

use crate::terminal::failure::Failure;
use crate::terminal::format::Format;

const EXAMPLES: &str = "\
Examples:
  What waits, what the backend rejected and why:
    tidewater queue list app.db

  Send rejected transaction 12 again, after its cause is gone:
    tidewater queue retry app.db 12

  Give up transaction 13, which blocks the queue or was rejected:
    tidewater queue discard app.db 13

A local transaction blocks those after it until the backend answers with a verdict. A retried one gets a
new number at the end of the queue. Rows of a discarded one show the server's state after the next sync.
The commands work while `tidewater sync` or an app has the file open.

Exit codes: 0 success, 1 a transaction is unknown or cannot be retried, 2 wrong usage.";

/// Show, retry or discard local writes that wait or were rejected
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QueueArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the local transactions that wait, and those that the backend rejected
    List {
        /// The SQLite file
        #[arg(value_name = "DB.sqlite")]
        database: PathBuf,
        /// Format of the output. The JSON also has the values
        #[arg(long, env = "TIDEWATER_FORMAT", value_enum, default_value_t)]
        format: Format,
    },
    /// Make the changes of rejected transactions again, and send them
    Retry(Selection),
    /// Delete transactions that wait or were rejected
    Discard(Selection),
}

#[derive(Args, Debug)]
struct Selection {
    /// The SQLite file
    #[arg(value_name = "DB.sqlite")]
    database: PathBuf,
    /// Numbers of transactions, as `list` prints them
    #[arg(value_name = "N", required_unless_present = "all_rejected")]
    transactions: Vec<i64>,
    /// All rejected transactions
    #[arg(long, env = "TIDEWATER_ALL_REJECTED", conflicts_with = "transactions")]
    all_rejected: bool,
}

/// Carries out the action.
pub(crate) fn run(args: &QueueArgs) -> Result<(), Failure> {
    match &args.action {
        Action::List { database, format } => list(database, *format),
        Action::Retry(selection) => {
            for_each(selection, "retried", |client, transaction| client.retry_rejected(transaction))
        }
        Action::Discard(selection) => for_each(selection, "discarded", |client, transaction| {
            Ok(client.discard_rejected(transaction)? || client.discard_queued(transaction)?)
        }),
    }
}

fn list(database: &Path, format: Format) -> Result<(), Failure> {
    let client = open(database)?;
    // In this order a transaction that is rejected meanwhile is shown twice, and never missing.
    let waiting = client.queued().map_err(failed)?;
    let rejected = client.rejected().map_err(failed)?;

    let output = match format {
        Format::Text => report::text(&waiting, &rejected),
        Format::Json => report::json(&waiting, &rejected),
    };
    write(&output)
}

/// Does something to each selected transaction, and says so. Stops at the first that fails.
fn for_each(
    selection: &Selection,
    done: &str,
    act: impl Fn(&Client, i64) -> Result<bool, ClientError>,
) -> Result<(), Failure> {
    let client = open(&selection.database)?;
    let transactions = if selection.all_rejected {
        let rejected = client.rejected().map_err(failed)?;
        rejected.iter().map(|upload| upload.transaction.transaction_id).collect()
    } else {
        selection.transactions.clone()
    };

    for transaction in transactions {
        if !act(&client, transaction).map_err(failed)? {
            let error = anyhow!(
                "no transaction {transaction} to be {done}: `tidewater queue list` shows what there is"
            );
            return Err(Failure::from(error));
        }
        write(&format!("transaction {transaction} {done}\n"))?;
    }
    Ok(())
}

fn open(database: &Path) -> Result<Client, Failure> {
    Client::open_existing(database, Options::default()).map_err(failed)
}

fn failed(error: ClientError) -> Failure {
    Failure::from(anyhow::Error::from(error))
}

fn write(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}
