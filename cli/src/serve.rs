//! `tidewater serve`: the sync API alone.

use clap::Args;

use crate::api::{Api, AuthArgs};
use crate::failure::Failure;
use crate::signals;
use crate::store::{self, StoreArg};

const EXAMPLES: &str = "\
Examples:
  Serve what `tidewater ingest` writes on the same machine:
    tidewater serve --store embedded:/var/lib/tidewater --listen 0.0.0.0:8080 \\
      --jwks jwks.json --audience my-app

It needs no access to PostgreSQL. GET /probes/readiness answers 200 once there is something to serve.";

/// Run the sync API on a store that `tidewater ingest` fills
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Where synced data is kept: embedded:DIR
    #[arg(long, env = "TIDEWATER_STORE", value_name = "STORE", default_value = store::DEFAULT)]
    store: StoreArg,
    /// Address of the sync API; port 0 takes a free one
    #[arg(
        long,
        env = "TIDEWATER_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    listen: String,
    #[command(flatten)]
    auth: AuthArgs,
}

/// Serves until a signal.
pub(crate) async fn run(args: &ServeArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    let auth = args.auth.authenticator()?;
    let StoreArg::Embedded(dir) = &args.store;
    let storage = store::open(dir)?;
    let api = Api::bind(&args.listen).await?;
    api.announce()?;
    Ok(api.serve(storage, auth, shutdown).await?)
}
