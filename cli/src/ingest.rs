//! `tidewater ingest`: the worker alone.

use clap::Args;

use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::signals;
use crate::store::{StoreArg, StoreArgs, with_store};
use crate::worker::{ConfigFile, SourceArgs};

const EXAMPLES: &str = "\
Examples:
  The two halves of `tidewater dev` as processes of their own, on one machine:
    tidewater ingest --store embedded:/var/lib/tidewater --sync-config sync-config.yaml \\
      --database-url postgres://user@host/db
    tidewater serve --store embedded:/var/lib/tidewater --listen 0.0.0.0:8080 \\
      --jwks jwks.json --audience my-app

  Into the DynamoDB tables and the S3 bucket of a deployed stack:
    tidewater ingest --store aws --table-prefix app --bucket app-objects \\
      --sync-config sync-config.yaml --database-url postgres://user@host/db

One worker per store. SIGTERM lets it finish what it is writing; the next start goes on from there.";

/// Run the ingest worker: PostgreSQL in, bucket operations out
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs until a signal, or until the worker fails.
pub(crate) async fn run(args: &IngestArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    let file = ConfigFile::read(&args.source.sync_config)?;
    // On AWS the replication slot alone keeps a second worker out.
    let _ours = match &args.store.store {
        StoreArg::Embedded(dir) => Some(DataDir::open(dir)?),
        #[cfg(feature = "aws")]
        StoreArg::Aws => None,
    };
    let place = args.store.place();
    with_store!(&args.store, storage => {
        Box::pin(args.source.run_worker(&file, storage, &place, &shutdown)).await
    })
}
