//! `tidewater serve`: runs the sync API alone.

use clap::Args;
use tidewater_functions::{OpenStreamCount, Settings};

use crate::process::{data_dir, signals};
use crate::services::admin::{AdminArgs, AdminContext};
use crate::services::api::{Api, AuthArgs, ListenArgs, ReadinessArgs};
use crate::services::limits::LimitArgs;
use crate::services::metrics::{MetricsArgs, SERVE_PORT};
use crate::services::store::{StoreArgs, with_store};
use crate::terminal::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  Serve the data that `tidewater ingest` writes on the same machine:
    tidewater serve --store embedded:/var/lib/tidewater --listen 0.0.0.0:8080 \\
      --jwks jwks.json --audience my-app

  With the keys that an identity provider publishes, for example Supabase:
    tidewater serve --store embedded:/var/lib/tidewater --audience authenticated \\
      --jwks https://REF.supabase.co/auth/v1/.well-known/jwks.json

It needs no access to PostgreSQL. GET /probes/readiness answers 200 after the initial copy, and 503 while
the worker has not confirmed the checkpoint for --max-staleness.";

/// Run the sync API on a store that `tidewater ingest` fills
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    auth: AuthArgs,
    #[command(flatten)]
    readiness: ReadinessArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
}

/// Serves until a signal.
pub(crate) async fn run(args: &ServeArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    data_dir::create_private_files();
    let auth = args.auth.authenticator().await?;
    let api = Api::bind(&args.listen.listen, &args.limits).await?;
    let _metrics = args.metrics.start(SERVE_PORT).await?;

    with_store!(&args.store, storage => {
        let max_staleness = args.readiness.max_staleness;
        let quotas = args.limits.quotas();
        let embedded = if args.admin.is_on() { args.store.embedded()? } else { None };
        let open_streams = OpenStreamCount::default();
        let admin = args.admin.admin(|| AdminContext {
            storage: storage.clone(),
            embedded,
            max_staleness,
            streams: open_streams.clone(),
            worker: None,
        })?;
        api.announce()?;
        let settings = Settings {
            shutdown,
            max_staleness,
            quotas,
            admin,
            open_streams,
            ..Settings::new(auth)
        };
        api.serve(storage, settings).await;
        Ok(())
    })
}
