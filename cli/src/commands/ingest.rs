//! `tidewater ingest`: runs the ingest worker alone.

use clap::Args;

use crate::process::data_dir::DataDir;
use crate::process::signals;
use crate::services::config_file::ConfigFile;
use crate::services::ingest_worker::{SourceArgs, Worker};
use crate::services::metrics::{INGEST_PORT, MetricsArgs};
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
}

/// Runs until a signal, or until the worker fails.
pub(crate) async fn run(args: &IngestArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    let file = ConfigFile::read(&args.source.sync_config)?;
    // On AWS, only the replication slot prevents a second worker.
    let _locked = match &args.store.store {
        StoreArg::Embedded(dir) => Some(DataDir::open(dir)?),
        #[cfg(feature = "aws")]
        StoreArg::Aws => None,
    };
    let place = args.store.place();
    args.metrics.start(INGEST_PORT).await?;
    let worker = Worker::ending_with_its_error();

    with_store!(&args.store, storage => {
        Box::pin(args.source.run_worker(&file, storage, &place, &worker, &shutdown)).await
    })
}
