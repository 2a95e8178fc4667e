//! `tidewater demo`: a real PostgreSQL, the whole pipeline, and a comparison at the end.

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

use crate::builder::ThresholdArgs;
use crate::dev_key::{self, DEV_AUDIENCE, SigningKey};
use crate::failure::Failure;
use crate::signals;
use crate::token::{self, Claims};
use crate::worker::{ConfigFile, SourceArgs};
use backend::Backend;
use device::{Account, Device};
use pipeline::Pipeline;
use postgres::Postgres;
use report::{Report, grouped, megabytes, milliseconds, percentile, seconds};
use stage::{Stage, say};

const EXAMPLES: &str = "\
Examples:
  The whole show, a minute or a few; the exit code is 0 only if everything was equal:
    tidewater demo

  A fifth of the rows, and leave it running to look around:
    tidewater demo --scale 1 --keep

It needs PostgreSQL's server programs (initdb, postgres, pgbench) on this machine; `./demo` in the
repository installs or finds them and builds this program first.";

/// Of the demo's tokens: longer than anybody watches.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// How long `pgbench` runs at full speed.
const LOAD_SECONDS: &str = "3";
/// Updates whose way to the client is timed.
const PROBES: u32 = 300;
/// Between two of them, so that each is a commit of its own.
const PROBE_PAUSE: Duration = Duration::from_millis(20);

/// Show it at work: a throwaway PostgreSQL, live changes, and a comparison row by row
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Rows to load, in units of 100,000
    #[arg(long, env = "TIDEWATER_SCALE", value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    scale: u32,
    /// Leave it running at the end, and say how to connect
    #[arg(long, env = "TIDEWATER_KEEP")]
    keep: bool,
}

/// Runs the demo; a signal ends it.
pub(crate) async fn run(args: &DemoArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    let running = tokio::select! {
        running = Box::pin(show(args)) => running?,
        () = shutdown.cancelled() => return Err(anyhow!("the demo was interrupted").into()),
    };
    let equal = running.equal;
    if args.keep {
        running.tell_how_to_connect()?;
        shutdown.cancelled().await;
    }
    running.stop().await?;
    if equal { Ok(()) } else { Err(anyhow!("a device and PostgreSQL differ: see above").into()) }
}

/// Everything that runs.
struct Running {
    // Dropped in this order: the server goes last.
    devices: Vec<Device>,
    pipeline: Pipeline,
    keys: Keys,
    equal: bool,
    _backend: Backend,
    _dir: TempDir,
    postgres: Postgres,
}

async fn show(args: &DemoArgs) -> anyhow::Result<Running> {
    say("Tidewater keeps PostgreSQL and SQLite databases on devices in sync. Watch:\n");
    let mut report = Report::default();
    let stage = Stage::begin("start a throwaway PostgreSQL");
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

    let stage = Stage::begin("build snapshots of it");
    let built = pipeline.build_snapshots().await?;
    let building = stage.done(|time| per_second(built.rows, time));
    report.add("snapshots", seconds(building));

    let jwks = dev_key::path(dir.path());
    let backend = Backend::start(&postgres.url(), &jwks, DEV_AUDIENCE, &source::WRITABLE).await?;
    let mut devices = Vec::new();
    for user in source::USERS {
        let (token, endpoint) = (keys.token(user)?, pipeline.endpoint.as_str());
        let account = Account { user, token, endpoint, uploads: &backend.uploads };
        devices.push(bootstrap(dir.path(), account, &mut report).await?);
    }
    live_changes(&postgres, &database, &devices, &mut report).await?;
    offline(&database, &devices).await?;
    let equal = compare_all(&database, &devices).await?;
    say(&format!("\n{}", report.text()));
    Ok(Running { devices, pipeline, keys, equal, _backend: backend, _dir: dir, postgres })
}

impl Running {
    fn tell_how_to_connect(&self) -> anyhow::Result<()> {
        say("Still running; Ctrl-C ends it and removes everything.\n");
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

    /// Ends everything in order.
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
        database_url: postgres.url(),
        sync_config: "sync-config.yaml".into(),
        publication: "powersync".to_owned(),
        slot: None,
        threshold: ThresholdArgs { snapshot_threshold: 1_000 },
        fault: None,
    };
    Pipeline::start(source, file, keys.authenticator()?, dir).await
}

/// A new device downloads its share, and stays connected.
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
    let (p50, p99) = (percentile(&mut samples, 50), percentile(&mut samples, 99));
    let figure = |time: Option<Duration>| time.map(milliseconds).unwrap_or_default();
    stage.done(|_| format!("p50 {}, p99 {}", figure(p50), figure(p99)));
    report.add("commit to device, p50", figure(p50));
    report.add("commit to device, p99", figure(p99));

    let stage = Stage::begin("pgbench at full speed, until all caught up");
    source::pgbench(postgres, &["--no-vacuum", "--client", "2", "--time", LOAD_SECONDS]).await?;
    catch_up(database, devices, "after the load").await?;
    let history: i64 =
        database.query_one("SELECT count(*) FROM pgbench_history", &[]).await?.get(0);
    stage.done(|_| format!("{} transactions", grouped(history.unsigned_abs())));
    report.add("pgbench transactions followed", grouped(history.unsigned_abs()));
    Ok(())
}

/// One device is cut off while both sides write.
async fn offline(database: &Client, devices: &[Device]) -> anyhow::Result<()> {
    let Some(cut_off) = devices.last() else { return Ok(()) };
    let stage = Stage::begin("one device goes offline, all sides write");
    cut_off.disconnect().await;
    let mut changed = 0;
    for device in devices {
        changed += source::change_on_server(database, device.user).await?;
        device.write(&source::changes_on_device(device.user))?;
    }
    let waiting = cut_off.queue_length();
    stage.done(|_| format!("{changed} rows on the server, {waiting} writes wait"));

    let stage = Stage::begin("it comes back: uploads, then catches up");
    cut_off.connect()?;
    for device in devices {
        device.wait_until_uploaded().await?;
    }
    catch_up(database, devices, "all together again").await?;
    let (mut arrived, mut sent) = (0, 0);
    for device in devices {
        let (found, wanted) = source::arrived(database, device.user).await?;
        arrived += found;
        sent += wanted;
    }
    if arrived != sent {
        bail!("of {sent} to-dos noted on devices {arrived} are in PostgreSQL");
    }
    stage.done(|_| format!("{arrived} of {sent} new to-dos arrived"));
    Ok(())
}

/// Returns once every device has seen a change that was made just now, and with it all before.
async fn catch_up(database: &Client, devices: &[Device], name: &str) -> anyhow::Result<()> {
    for device in devices {
        source::rename_list(database, device.user, name).await?;
    }
    for device in devices {
        device.wait_for_list(name).await?;
    }
    Ok(())
}

/// Compares what each device holds with PostgreSQL.
async fn compare_all(database: &Client, devices: &[Device]) -> anyhow::Result<bool> {
    let mut equal = true;
    for device in devices {
        let stage = Stage::begin("compare with PostgreSQL, row by row");
        let mut rows = 0;
        let mut differences = Vec::new();
        for table in source::synced_tables(device.user) {
            let comparison = device.compare(database, &table).await?;
            rows += comparison.rows;
            let named = |text| format!("\n      {}: {text}", table.name);
            differences.extend(comparison.differences.into_iter().map(named));
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

/// A rate, for the eye.
fn per_second(rows: u64, time: Duration) -> String {
    let micros = time.as_micros().max(1);
    let rate = u128::from(rows) * 1_000_000 / micros;
    format!("{} rows/s", grouped(u64::try_from(rate).unwrap_or(u64::MAX)))
}

/// The key that the demo's tokens are signed with.
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
        claims.sign(&self.key, token::unix_time()?)
    }
}
