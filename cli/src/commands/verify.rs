//! `tidewater verify`: compares the store with its source database.

mod report;

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use tidewater_ingest_worker::{
    ConnectError, Selection, VerifyError, VerifyOptions, VerifyProgress, verify,
};
use tidewater_storage::Storage;
use tokio::time::Instant;

use crate::process::data_dir;
use crate::services::database::DatabaseArgs;
use crate::services::ingest_worker::wrong_database_url;
use crate::services::store::{StoreArgs, with_store};
use crate::terminal::duration;
use crate::terminal::failure::Failure;

/// Interval between two lines of progress about the same step.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  Beside a worker that runs, with the store of `tidewater dev`:
    tidewater verify --database-url postgres://user@host/db

  A tenth of the buckets each night, another tenth each time, and everything on Sundays:
    0 3 * * 1-6  tidewater verify --sample 10% --store embedded:/var/lib/tidewater
    0 3 * * 0    tidewater verify --store embedded:/var/lib/tidewater

  What differs is repaired:
    tidewater verify --repair --store embedded:/var/lib/tidewater

  One table, and one bucket, as JSON:
    tidewater verify --table todos --json --database-url postgres://user@host/db
    tidewater verify --sync-bucket 'todos|0[\"u1\"]' --json --database-url postgres://user@host/db

The JSON is one object:
  {\"result\": \"different\", \"lsn\": \"0/1A2B3C4\", \"checkpoint\": \"1099511627790\",
   \"tables\": [{\"table\": \"public.todos\", \"rows\": 3, \"unsynced\": 0}],
   \"buckets\": 1, \"rows\": 3, \"answers\": 0, \"difference_count\": 1,
   \"differences\": [{\"kind\": \"changed\", \"bucket\": \"todos|0.k7m2qa[\\\"u1\\\"]\", \"type\": \"todos\",
      \"id\": \"t1\", \"table\": \"public.todos\", \"key\": \"t1\", \"store\": {...}, \"source\": {...},
      \"columns\": [{\"name\": \"title\", \"store\": \"old\", \"source\": \"new\"}]}],
   \"undecided\": [], \"unlisted_count\": 0, \"damaged_buckets\": [],
   \"repaired\": [{\"table\": \"public.todos\", \"all_rows\": false}]}
\"kind\" is missing (the store lacks the row), extra (the source lacks it) or changed. An answer to a
parameter lookup has \"lookup\" in place of \"bucket\", \"type\" and \"id\".

Exit codes: 0 equal, 1 different or not comparable, 2 wrong usage.";

/// Compare the store with the database, row by row, and print the differences
///
/// It compares at one position of the database, while everything runs. It reads
/// all tables of the sync config in one transaction, and the store as the sync API does, and needs
/// disk space in TMPDIR: some 100 bytes for each row in each bucket. The worker must run and follow.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Publication of the worker
    #[arg(long, env = "TIDEWATER_PUBLICATION", value_name = "NAME", default_value = "powersync")]
    publication: String,
    #[command(flatten)]
    store: StoreArgs,
    /// Table whose rows are compared, schema.table or a table of the schema public. Repeatable as a
    /// flag [default: all]
    #[arg(long = "table", env = "TIDEWATER_TABLE", value_name = "NAME")]
    tables: Vec<String>,
    /// Bucket whose rows are compared, like todos|0["u1"]. Repeatable as a flag [default: all]
    #[arg(long = "sync-bucket", env = "TIDEWATER_SYNC_BUCKET", value_name = "BUCKET")]
    buckets: Vec<String>,
    /// Share of the buckets that is compared, chosen at random: 10%. The tables are read whole
    #[arg(long, env = "TIDEWATER_SAMPLE", value_name = "PERCENT", value_parser = parse_share)]
    sample: Option<f64>,
    /// Differences that are printed. All are counted
    #[arg(long, env = "TIDEWATER_LIMIT", value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Time that the worker has to reach a position of the database, and time to compare rows again
    /// that change meanwhile
    #[arg(long, env = "TIDEWATER_TIMEOUT", value_name = "DURATION", default_value = "60s",
          value_parser = duration::parse_positive)]
    timeout: Duration,
    /// Let the worker copy tables with differences again: by difference, and then, if differences stay,
    /// with all of their rows, which devices download again
    #[arg(long, env = "TIDEWATER_REPAIR")]
    repair: bool,
    /// Time that the worker has to copy a table again, with --repair
    #[arg(long, env = "TIDEWATER_REPAIR_TIMEOUT", value_name = "DURATION", default_value = "1h",
          value_parser = duration::parse_positive)]
    repair_timeout: Duration,
    /// Print the result as one JSON object
    #[arg(long, env = "TIDEWATER_JSON")]
    json: bool,
}

/// Prints the result to stdout, and fails unless everything is equal.
pub(crate) async fn run(args: &VerifyArgs) -> Result<(), Failure> {
    data_dir::create_private_files();
    args.store.must_exist()?;
    with_store!(&args.store, storage => compare(args, &storage).await)
}

async fn compare<S: Storage>(args: &VerifyArgs, storage: &S) -> Result<(), Failure> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).context("no random numbers")?;
    let options = VerifyOptions {
        database: args.database.database().await,
        publication: args.publication.clone(),
        selection: Selection {
            tables: args.tables.clone(),
            buckets: args.buckets.clone(),
            sample: args.sample,
            seed: u64::from_le_bytes(seed),
        },
        repair: args.repair.then_some(args.repair_timeout),
        timeout: args.timeout,
    };

    let progress = ProgressLog::default();
    let verified = Box::pin(verify(storage, &options, &|step| progress.report(&step))).await;
    let found = verified.map_err(failure)?;
    let output = match args.json {
        true => report::json(&found, args.limit).to_string() + "\n",
        false => report::text(&found, args.limit),
    };
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    if found.is_equal() { Ok(()) } else { Err(Failure::NotEqual) }
}

fn failure(error: VerifyError) -> Failure {
    match error {
        VerifyError::Selection(_) => Failure::usage(error),
        VerifyError::Connect(ConnectError::Dsn(_)) => wrong_database_url(error),
        VerifyError::Connect(_)
        | VerifyError::NoCheckpoint
        | VerifyError::WorkerBehind(_)
        | VerifyError::OtherSource { .. }
        | VerifyError::Changing(_)
        | VerifyError::Config(_)
        | VerifyError::Numbering(_)
        | VerifyError::Source(_)
        | VerifyError::Storage(_)
        | VerifyError::Spill(_) => {
            Failure::Failed(anyhow!(error).context("the store could not be compared"))
        }
    }
}

/// Parses `10%` or `0.5%` as a share of 1.
fn parse_share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    percent
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "expected a percentage above 0% and up to 100%: 10%".to_owned())
}

/// Progress as log lines.
#[derive(Default)]
struct ProgressLog {
    /// The last step that was logged, and when.
    last: Mutex<Option<(String, Instant)>>,
}

impl ProgressLog {
    fn report(&self, step: &VerifyProgress) {
        let (name, count) = match step {
            VerifyProgress::Reading { table, rows } => (format!("reading {table}"), *rows),
            VerifyProgress::Waiting => ("waiting for the ingest worker".to_owned(), 0),
            VerifyProgress::Buckets(count) => ("reading buckets".to_owned(), *count),
            VerifyProgress::Repairing(table) => (format!("copying {} again", table.name), 0),
            VerifyProgress::Again(count) => ("comparing again".to_owned(), *count as u64),
        };

        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_due = last
            .as_ref()
            .is_none_or(|(logged, at)| *logged != name || at.elapsed() >= PROGRESS_INTERVAL);
        if is_due {
            tracing::info!(count, "{name}");
            *last = Some((name, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!(parse_share("10%"), Ok(0.1));
        assert_eq!(parse_share("100%"), Ok(1.0));
        for bad in ["10", "0%", "101%", "%", "-1%", "NaN%", "x%"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }
}
