//! `tidewater ingest`: runs the ingest worker alone.

use clap::Args;

use crate::process::data_dir::DataDir;
use crate::process::signals;
use crate::services::config_file::ConfigFile;
use crate::services::ingest_worker::{SourceArgs, Worker};
use crate::services::metrics::{INGEST_PORT, MetricsArgs, RunningMetrics};
#[cfg(feature = "aws")]
use crate::services::remote_config::RemoteConfig;
use crate::services::store::{StoreArg, StoreArgs, with_store};
use crate::terminal::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  The parts of `tidewater dev` as separate processes on one machine:
    tidewater ingest --store embedded:/var/lib/tidewater --sync-config sync-config.yaml \\
      --database-url postgres://user@host/db
    tidewater serve --store embedded:/var/lib/tidewater --listen 0.0.0.0:8080 \\
      --jwks jwks.json --audience my-app

  Into the DynamoDB tables and the S3 bucket of a deployed stack:
    tidewater ingest --store aws --table-prefix app --bucket app-objects \\
      --sync-config sync-config.yaml --database-url postgres://user@host/db

  Once an hour, from a scheduler, instead of all the time:
    tidewater ingest --until-caught-up --sync-config sync-config.yaml \\
      --database-url postgres://user@host/db

Run one worker per store. SIGTERM lets it finish the current write. The next start continues from
there.";

/// Run the ingest worker: it replicates PostgreSQL into the store
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    /// Exit once clients can sync everything that was committed in the database at the start. The
    /// replication slot stays, and retains WAL until the next run
    #[arg(long, env = "TIDEWATER_UNTIL_CAUGHT_UP")]
    until_caught_up: bool,
    /// Use a change of the sync config's file at once. One with errors is reported, and the former one
    /// goes on
    #[arg(long, env = "TIDEWATER_WATCH", conflicts_with = "until_caught_up")]
    watch: bool,
}

/// Runs until a signal, until the worker has caught up if that is asked for, or until the worker fails.
pub(crate) async fn run(args: &IngestArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    let file = sync_config(args).await?;
    // On AWS, only the replication slot prevents a second worker.
    let _locked = match &args.store.store {
        StoreArg::Embedded(dir) => Some(DataDir::open(dir)?),
        #[cfg(feature = "aws")]
        StoreArg::Aws => None,
    };
    let place = args.store.place();
    // A scheduled run must not warn about the port of a worker that runs all the time.
    let _metrics = if !args.until_caught_up || args.metrics.is_given() {
        args.metrics.start(INGEST_PORT).await?
    } else {
        RunningMetrics::default()
    };
    let worker =
        Worker { until_caught_up: args.until_caught_up, ..Worker::ending_with_its_error() };

    with_store!(&args.store, storage => {
        if args.watch {
            Box::pin(args.source.run_watching(file, storage, &place, &worker, &shutdown)).await
        } else {
            Box::pin(args.source.run_worker(&file, storage, &place, &worker, &shutdown)).await
        }
    })
}

/// Reads the sync config from a file or, with the feature `aws`, from S3.
async fn sync_config(args: &IngestArgs) -> Result<ConfigFile, Failure> {
    let path = &args.source.sync_config;
    #[cfg(feature = "aws")]
    if let Some(object) = RemoteConfig::parse(path)? {
        if args.watch {
            let cause =
                "--watch needs a sync config in a file, not on S3: start the worker again instead";
            return Err(Failure::Usage(anyhow::anyhow!(cause)));
        }
        return object.read().await;
    }
    ConfigFile::read(path)
}
