//! `tidewater demo`: runs the whole pipeline on a temporary PostgreSQL and compares the results.

mod backend;
mod compare;
mod device;
mod pipeline;
mod postgres;
mod report;
mod source;
mod stage;

use std::path::Path;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::Map;
use tempfile::TempDir;
use tidewater_functions::Authenticator;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::process::clock::unix_time;
use crate::process::signals;
use crate::services::builder::ThresholdArgs;
use crate::services::config_file::ConfigFile;
use crate::services::database::{DatabaseArgs, DatabaseAuth, LoginArgs};
use crate::services::ingest_worker::SourceArgs;
use crate::terminal::failure::Failure;
use crate::tokens::claims::Claims;
use crate::tokens::dev_key::{self, DEV_AUDIENCE, SigningKey};
use backend::Backend;
use device::{Account, Device};
use pipeline::Pipeline;
use postgres::Postgres;
use report::{Report, grouped, megabytes, milliseconds, percentile, seconds};
use stage::{Stage, say};

const EXAMPLES: &str = "\
Examples:
  The whole demo, which takes one to a few minutes. The exit code is 0 only if all rows are equal:
    tidewater demo

  A fifth of the rows, and keep it running to look around:
    tidewater demo --scale 1 --keep

It needs PostgreSQL's server programs (initdb, postgres, pgbench) on this machine. `./demo` in the
repository finds or installs them, and builds this program first.";

/// Lifetime of the demo's tokens. It only has to outlast a demo that was left running with --keep.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// Seconds that `pgbench` runs at full speed.
const LOAD_SECONDS: &str = "3";
/// Number of timed updates, enough for a 99th percentile of three samples.
const PROBES: u32 = 300;
/// Pause between two timed updates, so that each is a commit of its own.
const PROBE_PAUSE: Duration = Duration::from_millis(20);

/// Try Tidewater on a temporary PostgreSQL: live changes, then a comparison row by row
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Number of rows to load, in units of 100,000
    #[arg(long, env = "TIDEWATER_SCALE", value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    scale: u32,
    /// Keep everything running at the end, and print how to connect
    #[arg(long, env = "TIDEWATER_KEEP")]
    keep: bool,
}

/// Runs the demo until its end or a signal.
pub(crate) async fn run(args: &DemoArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    let running = tokio::select! {
        running = Box::pin(show(args)) => running?,
        () = shutdown.cancelled() => return Err(anyhow!("the demo was interrupted").into()),
    };
    let equal = running.equal;
    if args.keep {
        running.print_how_to_connect()?;
        shutdown.cancelled().await;
    }
    running.stop().await?;
    if equal { Ok(()) } else { Err(anyhow!("a device and PostgreSQL differ (see above)").into()) }
}

/// The processes and tasks of the demo.
struct Running {
    // Fields are dropped in this order, so the server stops last.
    devices: Vec<Device>,
    pipeline: Pipeline,
    keys: Keys,
    equal: bool,
    _backend: Backend,
    _dir: TempDir,
    postgres: Postgres,
}

async fn show(args: &DemoArgs) -> anyhow::Result<Running> {
    say("Tidewater keeps SQLite databases on devices in sync with PostgreSQL. The demo:\n");
    let mut report = Report::default();
    let stage = Stage::begin("start a temporary PostgreSQL");
    let postgres = Postgres::start().await?;
    let database = postgres.connect().await?;
    let version: String = database.query_one("SHOW server_version", &[]).await?.get(0);
    stage.done(|_| format!("version {version}"));

    let stage = Stage::begin("fill it: pgbench accounts and a to-do app");
    source::fill(&postgres, &database, args.scale).await?;
    let rows = source::row_count(&database).await?;
    stage.done(|_| format!("{} rows", grouped(rows)));
    report.add("rows in PostgreSQL", grouped(rows));

    let dir = tempfile::Builder::new().prefix("tidewater-demo-").tempdir()?;
    let keys = Keys::make(dir.path())?;
    let stage = Stage::begin("copy it into the embedded store");
    let mut pipeline = start_pipeline(&postgres, &keys, dir.path()).await?;
    pipeline.ready().await?;
    let copy = stage.done(|time| per_second(rows, time));
    report.add("copy into the store", seconds(copy));

    let stage = Stage::begin("build snapshots");
    let built = pipeline.build_snapshots().await?;
    let building = stage.done(|time| per_second(built.rows, time));
    report.add("snapshots", seconds(building));

    let jwks = dev_key::path(dir.path());
    let backend = Backend::start(&postgres.url(), &jwks, DEV_AUDIENCE, &source::WRITABLE).await?;
    let mut devices = Vec::new();
    for user in source::USERS {
        let account = Account {
            user,
            token: keys.token(user)?,
            endpoint: &pipeline.endpoint,
            uploads: &backend.uploads,
        };
        devices.push(bootstrap(dir.path(), account, &mut report).await?);
    }
    live_changes(&postgres, &database, &devices, &mut report).await?;
    offline(&database, &devices).await?;
    let equal = compare_all(&database, &devices).await?;
    say(&format!("\n{}", report.text()));
    Ok(Running { devices, pipeline, keys, equal, _backend: backend, _dir: dir, postgres })
}

impl Running {
    fn print_how_to_connect(&self) -> anyhow::Result<()> {
        say("Still running. Press Ctrl-C to stop and remove everything.\n");
        say(&format!("  psql '{}'", self.postgres.url()));
        for device in &self.devices {
            say(&format!("  sqlite3 '{}'", device.path().display()));
        }
        say(&format!(
            "  curl -N -d '{{}}' -H 'Content-Type: application/json' \\\n    \
             -H 'Authorization: Bearer {}' \\\n    {}/sync/stream",
            self.keys.token(source::USERS[0])?,
            self.pipeline.endpoint
        ));
        Ok(())
    }

    /// Stops the devices, then the pipeline.
    async fn stop(self) -> anyhow::Result<()> {
        for device in &self.devices {
            device.disconnect().await;
        }
        self.pipeline.stop().await
    }
}

async fn start_pipeline(postgres: &Postgres, keys: &Keys, dir: &Path) -> anyhow::Result<Pipeline> {
    let file =
        ConfigFile::compile("the demo's sync config".to_owned(), source::SYNC_CONFIG.to_owned())
            .map_err(Failure::into_error)?;
    let source = SourceArgs {
        database: DatabaseArgs {
            database_url: postgres.url(),
            login: LoginArgs { database_auth: DatabaseAuth::Password },
        },
        sync_config: "sync-config.yaml".into(),
        publication: "powersync".to_owned(),
        slot: None,
        wal_receiver_timeout: Duration::from_secs(30),
        wal_budget: 10 << 30,
        rollback_grace: Duration::from_secs(3_600),
        threshold: ThresholdArgs { snapshot_threshold: 1_000 },
        fault: None,
    };
    Pipeline::start(source, file, keys.authenticator()?, dir).await
}

/// Creates a device, downloads its rows, and leaves it connected.
async fn bootstrap(
    dir: &Path,
    account: Account<'_>,
    report: &mut Report,
) -> anyhow::Result<Device> {
    let user = account.user;
    let stage = Stage::begin("first sync of a new device");
    let device = Device::new(dir, account)?;
    let synced = device.bootstrap().await?;
    stage.done(|time| format!("{user}: {}", per_second(synced.operations, time)));

    report.add(format!("first sync of {user}'s device"), seconds(synced.total));
    report.add("  rows", grouped(synced.operations));
    report.add("  bytes", megabytes(synced.bytes));

    device.connect()?;
    Ok(device)
}

async fn live_changes(
    postgres: &Postgres,
    database: &Client,
    devices: &[Device],
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(device) = devices.first() else { return Ok(()) };
    let stage = Stage::begin("single updates, timed from commit to SQLite");
    let mut samples = Vec::new();
    for number in 1..=PROBES {
        let name = format!("name {number}");
        source::rename_list(database, device.user, &name).await?;
        let committed = Instant::now();
        let seen = device.wait_for_list(&name).await?;
        samples.push(seen.saturating_duration_since(committed));
        tokio::time::sleep(PROBE_PAUSE).await;
    }
    let p50 = percentile(&mut samples, 50).map(milliseconds).unwrap_or_default();
    let p99 = percentile(&mut samples, 99).map(milliseconds).unwrap_or_default();
    stage.done(|_| format!("p50 {p50}, p99 {p99}"));
    report.add("commit to device, p50", p50);
    report.add("commit to device, p99", p99);

    let stage = Stage::begin("pgbench at full speed, until all caught up");
    source::pgbench(postgres, &["--no-vacuum", "--client", "2", "--time", LOAD_SECONDS]).await?;
    catch_up(database, devices, "after the load").await?;
    let history: i64 =
        database.query_one("SELECT count(*) FROM pgbench_history", &[]).await?.get(0);
    stage.done(|_| format!("{} transactions", grouped(history.unsigned_abs())));
    report.add("pgbench transactions followed", grouped(history.unsigned_abs()));
    Ok(())
}

/// Disconnects one device while both sides write, then lets it catch up.
async fn offline(database: &Client, devices: &[Device]) -> anyhow::Result<()> {
    let Some(cut_off) = devices.last() else { return Ok(()) };
    let stage = Stage::begin("one device goes offline, everyone writes");
    cut_off.disconnect().await;
    let mut changed = 0;
    for device in devices {
        changed += source::change_on_server(database, device.user).await?;
        device.write(&source::changes_on_device(device.user))?;
    }
    let waiting = cut_off.queue_length();
    stage.done(|_| format!("{changed} rows on the server, {waiting} writes queued"));

    let stage = Stage::begin("it reconnects, uploads and catches up");
    cut_off.connect()?;
    for device in devices {
        device.wait_until_uploaded().await?;
    }
    catch_up(database, devices, "after reconnecting").await?;
    let mut arrived = 0;
    let mut sent = 0;
    for device in devices {
        let (found, wanted) = source::arrived(database, device.user).await?;
        arrived += found;
        sent += wanted;
    }
    if arrived != sent {
        bail!("{arrived} of {sent} to-dos of the devices are in PostgreSQL");
    }
    stage.done(|_| format!("{arrived} of {sent} new to-dos arrived"));
    Ok(())
}

/// Makes a change and returns when every device has it, and with it all earlier changes.
async fn catch_up(database: &Client, devices: &[Device], name: &str) -> anyhow::Result<()> {
    for device in devices {
        source::rename_list(database, device.user, name).await?;
    }
    for device in devices {
        device.wait_for_list(name).await?;
    }
    Ok(())
}

/// Compares the rows of each device with PostgreSQL. Returns whether all are equal.
async fn compare_all(database: &Client, devices: &[Device]) -> anyhow::Result<bool> {
    let mut equal = true;

    for device in devices {
        let stage = Stage::begin("compare with PostgreSQL, row by row");
        let mut rows = 0;
        let mut differences = Vec::new();
        for table in source::synced_tables(device.user) {
            let comparison = device.compare(database, &table).await?;
            rows += comparison.rows;
            for difference in comparison.differences {
                differences.push(format!("\n      {}: {difference}", table.name));
            }
        }

        if differences.is_empty() {
            stage.done(|_| format!("{}: {} rows equal", device.user, grouped(rows)));
        } else {
            equal = false;
            stage.failed(&format!("{} differs:{}", device.user, differences.concat()));
        }
    }
    Ok(equal)
}

/// Formats a rate in rows per second.
fn per_second(rows: u64, time: Duration) -> String {
    let micros = time.as_micros().max(1);
    let rate = u128::from(rows) * 1_000_000 / micros;
    format!("{} rows/s", grouped(u64::try_from(rate).unwrap_or(u64::MAX)))
}

/// The key that signs the demo's tokens.
struct Keys {
    key: SigningKey,
    set: String,
}

impl Keys {
    fn make(dir: &Path) -> anyhow::Result<Self> {
        dev_key::ensure(dir)?;
        let file = dev_key::path(dir);
        Ok(Self { key: SigningKey::read(&file)?, set: std::fs::read_to_string(file)? })
    }

    fn authenticator(&self) -> anyhow::Result<Authenticator> {
        Ok(Authenticator::new(&[&self.set], vec![DEV_AUDIENCE.to_owned()])?)
    }

    fn token(&self, user: &str) -> anyhow::Result<String> {
        let audience = [DEV_AUDIENCE.to_owned()];
        let claims = Claims {
            user_id: user,
            audience: &audience,
            lifetime: TOKEN_LIFETIME,
            more: Map::new(),
        };
        claims.sign(&self.key, unix_time()?)
    }
}
