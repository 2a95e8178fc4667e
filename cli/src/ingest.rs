//! `tidewater ingest`: the worker alone.

use clap::Args;

use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::signals;
use crate::store::{self, StoreArg};
use crate::worker::{ConfigFile, SourceArgs};

const EXAMPLES: &str = "\
Examples:
  The two halves of `tidewater dev` as processes of their own, on one machine:
    tidewater ingest --store embedded:/var/lib/tidewater --sync-config sync-config.yaml \\
      --database-url postgres://user@host/db
    tidewater serve --store embedded:/var/lib/tidewater --listen 0.0.0.0:8080 \\
      --jwks jwks.json --audience my-app

One worker per store. SIGTERM lets it finish what it is writing; the next start goes on from there.";

/// Run the ingest worker: PostgreSQL in, bucket operations out
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Where synced data is kept: embedded:DIR
    #[arg(long, env = "TIDEWATER_STORE", value_name = "STORE", default_value = store::DEFAULT)]
    store: StoreArg,
}

/// Runs until a signal, or until the worker fails.
pub(crate) async fn run(args: &IngestArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    let file = ConfigFile::read(&args.source.sync_config)?;
    let StoreArg::Embedded(dir) = &args.store;
    let _ours = DataDir::open(dir)?;
    let storage = store::open(dir)?;
    args.source.run_worker(&file, storage, dir, &shutdown).await
}
