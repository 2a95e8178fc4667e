//! `tidewater dev`: runs everything in one process, for your own database.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tidewater_functions::{OpenStreamCount, Settings, WorkerProblem};
use tidewater_ingest_worker::OnError;
use tidewater_storage::Measured;

use crate::process::data_dir::{self, DataDir};
use crate::process::signals;
use crate::services::admin::{AdminArgs, AdminContext, AdminWorker};
use crate::services::api::{Api, AuthArgs, ListenArgs, ReadinessArgs};
use crate::services::builder::{self, RetentionArgs};
use crate::services::config_file::ConfigFile;
use crate::services::console;
use crate::services::copy_reports::CopyReports;
use crate::services::ingest_worker::{SourceArgs, Worker};
use crate::services::limits::LimitArgs;
use crate::services::metrics::{DEV_PORT, MetricsArgs};
use crate::services::store;
use crate::terminal::failure::Failure;
use crate::terminal::logging;
use crate::tokens::admin_token;

/// Pause between two passes of the snapshot builder. It is short, so that a developer sees snapshots
/// soon; a pass over an empty queue costs one read.
const BUILDER_PAUSE: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  A database on this machine. The role needs REPLICATION, and SELECT on the synced tables:
    psql -c 'CREATE PUBLICATION powersync FOR TABLE lists, todos'
    tidewater dev --sync-config sync-config.yaml \\
      --database-url 'postgres://user:password@localhost/app'

  Then, in another terminal, a token for the app:
    tidewater token --user-id u1

  With tokens of your own backend, instead of the development key:
    tidewater dev ... --jwks jwks.json --audience my-app

  With the keys that an identity provider publishes, for example Supabase:
    tidewater dev ... --audience authenticated \\
      --jwks https://REF.supabase.co/auth/v1/.well-known/jwks.json

  The URL contains a password. Keep it out of the process list:
    export TIDEWATER_DATABASE_URL=postgres://...

It prints \"listening on http://...\" at once. GET /probes/readiness answers 200 after the initial copy, and
503 while the checkpoint is older than --max-staleness. If the worker stops later, for example because a table was
dropped, devices still get the last checkpoint; the log and the probe say what to fix, and the worker tries again.
A change of the sync config's file is used at once; one with errors is reported, and the former one goes on.
Ctrl-C shuts it down. The next start continues where this one stopped. Metrics are at
http://127.0.0.1:9461/metrics.";

/// Run the ingest worker, the snapshot builder and the sync API in one process
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    listen: ListenArgs,
    /// Directory for synced data and the development key
    #[arg(long, env = "TIDEWATER_DATA_DIR", value_name = "DIR", default_value = data_dir::DEFAULT)]
    data_dir: PathBuf,
    #[command(flatten)]
    auth: AuthArgs,
    #[command(flatten)]
    readiness: ReadinessArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    retention: RetentionArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
}

/// Runs until a signal, until the API fails, or until the worker fails before it has ever replicated.
pub(crate) async fn run(args: &DevArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    let file = ConfigFile::read(&args.source.sync_config)?;
    args.auth.check_usage()?;
    let _locked = DataDir::open(&args.data_dir)?;
    let _metrics = args.metrics.start(DEV_PORT).await?;

    let auth = args.auth.authenticator_or_dev(&args.data_dir).await?;
    let embedded = store::open(&args.data_dir)?;
    let storage = Measured::new(embedded.clone());
    let worker_problem = WorkerProblem::default();
    let copies = CopyReports::default();
    let open_streams = OpenStreamCount::default();
    let context = AdminContext {
        storage: storage.clone(),
        embedded: Some(embedded),
        max_staleness: args.readiness.max_staleness,
        streams: open_streams.clone(),
        worker: Some(AdminWorker::of(&args.source, &worker_problem, &copies)),
    };
    let admin = args.admin.admin_of_dev(&args.data_dir, context)?;

    let api = Api::bind(&args.listen.listen, &args.limits).await?;
    api.announce()?;
    let next_steps = next_steps(args, api.address())?;

    let settings = Settings {
        max_staleness: args.readiness.max_staleness,
        quotas: args.limits.quotas(),
        worker_problem: worker_problem.clone(),
        admin: Some(admin),
        open_streams,
        shutdown: shutdown.clone(),
        ..Settings::new(auth)
    };
    let serving = tokio::spawn(api.serve(storage.clone(), settings));
    let building = {
        let options = args.retention.options(&args.source.threshold);
        let storage = storage.clone();
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            builder::run(&storage, &options, BUILDER_PAUSE, &shutdown).await;
        })
    };
    let place = args.data_dir.to_string_lossy();
    let worker = Worker {
        on_error: OnError::KeepTrying,
        problem: worker_problem,
        next_steps: Mutex::new(Some(next_steps)),
        copies,
        ..Worker::ending_with_its_error()
    };
    let worked = args.source.run_watching(file, storage, &place, &worker, &shutdown).await;

    // The worker could not begin, or another has taken over the store.
    shutdown.cancel();
    let served = serving.await.context("the sync API panicked");
    let built = building.await.context("the snapshot builder panicked");

    // The worker's error comes first: it is the reason why the others were shut down.
    worked?;
    served?;
    built?;
    Ok(())
}

/// Returns what to do once clients can sync.
fn next_steps(args: &DevArgs, address: SocketAddr) -> anyhow::Result<String> {
    let token = match args.auth.token_command(&args.data_dir) {
        Some(command) => format!("{command} > token.txt"),
        None => "put one that your keys have signed into token.txt".to_owned(),
    };
    let config = args.source.sync_config.display();

    let console = console(args, address)?;

    Ok(format!(
        "next:
    open the console:   {console}
    get a token:        {token}
    see a user's rows:  tidewater rows {config} --user-id USER
    sync a file:        tidewater sync --endpoint http://{address} --token @token.txt --schema app.sql app.db
    connect an app:     the SDK's endpoint is http://{address}"
    ))
}

/// Returns the console's address. On a terminal it has the token that opens it, as a fragment, which
/// browsers do not send. A log that goes elsewhere has no secret.
fn console(args: &DevArgs, address: SocketAddr) -> anyhow::Result<String> {
    let url = format!("http://{address}{}", console::PATH);
    if args.admin.is_on() {
        return Ok(format!("{url} with your admin token"));
    }
    if logging::on_terminal() {
        return Ok(format!("{url}#token={}", admin_token::ensure(&args.data_dir)?));
    }
    Ok(format!("{url} with the token in '{}'", admin_token::path(&args.data_dir).display()))
}
