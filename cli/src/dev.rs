//! `tidewater dev`: everything in one process, for a database of your own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::api::{Api, AuthArgs, ListenArgs};
use crate::builder::{self, RetentionArgs};
use crate::data_dir::{self, DataDir};
use crate::failure::Failure;
use crate::signals;
use crate::store;
use crate::worker::{ConfigFile, SourceArgs};

/// Between two looks of the builder at its work list.
const BUILDER_PAUSE: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  A database on this machine. The role needs REPLICATION, and SELECT on what is synced:
    psql -c 'CREATE PUBLICATION powersync FOR TABLE lists, todos'
    tidewater dev --sync-config sync-config.yaml \\
      --database-url 'postgres://user:password@localhost/app?sslmode=disable'

  Then, in another terminal, a token for the app:
    tidewater token --user-id u1

  With tokens of your own backend instead of the development key:
    tidewater dev ... --jwks jwks.json --audience my-app

  With the keys that an identity provider publishes, Supabase for example:
    tidewater dev ... --audience authenticated \\
      --jwks https://REF.supabase.co/auth/v1/.well-known/jwks.json

  The URL holds a password; out of sight it is safer:
    export TIDEWATER_DATABASE_URL=postgres://...

It prints \"listening on http://...\" at once; GET /probes/readiness answers 200 when the first copy
is done. Ctrl-C ends it in order; the next start goes on where this one ended.";

/// Run the ingest worker, the snapshot builder and the sync API in one process, on a store in a directory
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    listen: ListenArgs,
    /// Where synced data and the development key are kept
    #[arg(long, env = "TIDEWATER_DATA_DIR", value_name = "DIR", default_value = data_dir::DEFAULT)]
    data_dir: PathBuf,
    #[command(flatten)]
    auth: AuthArgs,
    #[command(flatten)]
    retention: RetentionArgs,
}

/// Runs until a signal, or until a part of it fails.
pub(crate) async fn run(args: &DevArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    let file = ConfigFile::read(&args.source.sync_config)?;
    args.auth.check_usage()?;
    let _ours = DataDir::open(&args.data_dir)?;
    let auth = args.auth.authenticator_or_dev(&args.data_dir).await?;
    let storage = store::open(&args.data_dir)?;
    let api = Api::bind(&args.listen.listen).await?;
    api.announce()?;

    let serving = tokio::spawn(api.serve(storage.clone(), auth, shutdown.clone()));
    let options = args.retention.options(&args.source.threshold);
    let (building, stop) = (storage.clone(), shutdown.clone());
    let building = tokio::spawn(async move {
        builder::run(&building, &options, BUILDER_PAUSE, &stop).await;
    });
    let worker =
        args.source.run_worker(&file, storage, &args.data_dir.to_string_lossy(), &shutdown).await;
    // Without the worker the API would serve what grows old; it ends too, and in order.
    shutdown.cancel();
    let served = serving.await.unwrap_or_else(|panic| Err(anyhow::anyhow!(panic)));
    let built = building.await;
    worker?;
    served?;
    built.context("the snapshot builder broke off")?;
    Ok(())
}
