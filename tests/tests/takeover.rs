//! Two workers on one store: one of them owns it, and another takes over when it has ended. And a worker
//! whose clock jumps.

mod aws;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidewater_tests::{
    AUDIENCE, Lodging, Output, Postgres, Process, Scratch, Settings, Signal, SigningKey,
    SyncReader, Tidewater, WallClock, eventually,
};
use tokio::time::Instant;

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

/// The time that a takeover from a killed worker may take, up to the row that a device gets.
const TAKEOVER_MAX: Duration = Duration::from_secs(5);

/// Rounds for each seed of the settings: ten by default.
const ROUNDS_PER_SEED: u64 = 5;

/// The most rounds of a test.
const ROUNDS_MAX: u64 = 100;

/// The message of a worker that owns the store.
const OWNS: &str = "taking over the store";

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";

/// Returns the number of rounds of a test.
fn rounds() -> Result<usize> {
    let settings = Settings::from_env()?;
    Ok(usize::try_from((settings.seeds * ROUNDS_PER_SEED).min(ROUNDS_MAX))?)
}

/// Starts PostgreSQL with some notes.
async fn database(count: u32) -> Result<Postgres> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(&format!(
            "CREATE TABLE notes (id text PRIMARY KEY, body text);
             INSERT INTO notes SELECT i::text, 'first' FROM generate_series(1, {count}) AS i;
             CREATE PUBLICATION powersync FOR TABLE notes"
        ))
        .await?;
    Ok(postgres)
}

/// Returns the notes of the source by their ids.
async fn notes_of(postgres: &Postgres) -> Result<BTreeMap<String, String>> {
    let notes = "SELECT COALESCE(jsonb_object_agg(id, body), '{}')::text FROM notes";
    Ok(serde_json::from_str(&postgres.value(notes).await?)?)
}

/// A sync API, and the only device.
struct Api {
    url: String,
    key: SigningKey,
    reader: SyncReader,
}

impl Api {
    fn new(url: &str, key: SigningKey) -> Self {
        Self { url: url.to_owned(), key, reader: SyncReader::new() }
    }

    /// Waits until the device has exactly the notes of the source.
    async fn read_until_equal(&mut self, postgres: &Postgres) -> Result<()> {
        let expected = notes_of(postgres).await?;
        eventually("a device to have the notes of the source", SOON, async || {
            let token = self.key.token("u1").sign()?;
            let completed = self.reader.sync_once(&self.url, &token).await?;
            let mut found = BTreeMap::new();
            for ((_, id), row) in completed.rows.iter() {
                found.insert(id.clone(), row["body"].as_str().unwrap_or("null").to_owned());
            }
            let wrong = expected.iter().filter(|(id, body)| found.get(*id) != Some(body)).count();
            ensure!(wrong == 0 && found.len() == expected.len(), "{wrong} notes are wrong");
            Ok(Some(()))
        })
        .await
    }
}

/// Returns the index of the only process of which a condition holds, once it holds of one.
async fn first_that(
    what: &str,
    pair: &mut [Process; 2],
    condition: impl Fn(&mut Process) -> Result<bool>,
) -> Result<usize> {
    let found = eventually(what, SOON, async || {
        for (at, process) in pair.iter_mut().enumerate() {
            if condition(process)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    })
    .await?;
    ensure!(!condition(&mut pair[1 - found])?, "it is true of both: {what}");
    Ok(found)
}

/// Prints the times from the kill of a worker to the row that its successor brought, and asserts that
/// they are short.
fn assert_short(store: &str, mut takeovers: Vec<Duration>) -> Result<()> {
    takeovers.sort();
    let median = takeovers[takeovers.len() / 2];
    let longest = takeovers.last().context("no round")?;
    eprintln!("{store}: {} takeovers, median {median:?}, longest {longest:?}", takeovers.len());
    // A single one may be slow on a busy machine.
    ensure!(median < TAKEOVER_MAX, "{takeovers:?}");
    Ok(())
}

/// A directory as the store, with `tidewater serve` on it.
struct Directory {
    api: Api,
    _serve: Process,
    postgres: Postgres,
    folder: Scratch,
}

impl Directory {
    async fn start() -> Result<Self> {
        let postgres = database(100).await?;
        let folder = Scratch::new()?;
        std::fs::write(folder.path().join("sync-config.yaml"), CONFIG)?;
        let initial = Self::ingest(&postgres, &folder, &["--until-caught-up"])?;
        Self::spawn(&folder, "initial", initial)?.wait(SOON).await?.assert_code(0);

        let key = SigningKey::random("test");
        key.write_jwk_set(folder.path())?;
        let mut command =
            Self::command(&folder, "serve", &["--listen", "127.0.0.1:0", "--audience", AUDIENCE])?;
        command.arg("--jwks").arg(folder.path().join("test.jwks.json"));
        let mut serve = Self::spawn(&folder, "serve", command)?;
        let url = serve.listening(SOON).await?;
        Ok(Self { api: Api::new(&url, key), _serve: serve, postgres, folder })
    }

    /// Returns a command on the directory of a folder.
    fn command(folder: &Scratch, subcommand: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = Tidewater::command()?;
        command.arg(subcommand).args(arguments);
        command.arg("--store").arg(format!("embedded:{}", folder.path().join("data").display()));
        Ok(command)
    }

    fn ingest(postgres: &Postgres, folder: &Scratch, arguments: &[&str]) -> Result<Command> {
        let mut command = Self::command(folder, "ingest", arguments)?;
        command.args(["--database-url", &postgres.url("postgres")]);
        command.arg("--sync-config").arg(folder.path().join("sync-config.yaml"));
        Ok(command)
    }

    fn spawn(folder: &Scratch, name: &str, mut command: Command) -> Result<Process> {
        let lodging = Lodging { name, logs: folder.path(), end: Signal::Kill };
        Process::spawn(&mut command, lodging)
    }

    /// Starts a worker.
    fn worker(&self, name: &str) -> Result<Process> {
        Self::spawn(&self.folder, name, Self::ingest(&self.postgres, &self.folder, &[])?)
    }
}

/// Fault F3, on one machine: the first worker locks the directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_workers_that_start_together_on_a_directory_one_runs_and_the_other_ends()
-> Result<()> {
    let mut directory = Directory::start().await?;
    let mut takeovers = Vec::new();
    for round in 0..rounds()? {
        directory.postgres.execute(&format!("UPDATE notes SET body = 'round {round}'")).await?;
        let mut pair = [directory.worker("one")?, directory.worker("other")?];
        let ended = |process: &mut Process| Ok(process.try_wait()?.is_some());
        let loser = first_that("one of two workers to end", &mut pair, ended).await?;
        let output: Output = pair[loser].wait(SOON).await?;
        output.assert_code(1);
        output.assert_says(&["is in use by another tidewater process"]);
        directory.api.read_until_equal(&directory.postgres).await?;
        pair[1 - loser].must_run()?;

        // Whatever supervises the worker starts it again at once.
        pair[1 - loser].kill()?;
        let killed = Instant::now();
        directory.postgres.execute("UPDATE notes SET body = body || '!' WHERE id = '1'").await?;
        let mut next = directory.worker("next")?;
        directory.api.read_until_equal(&directory.postgres).await?;
        takeovers.push(killed.elapsed());
        next.must_run()?;
        next.kill()?;
    }
    assert_short("directory", takeovers)
}

/// Fault F4. Only the sync API has the right time, which it compares with tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_of_the_worker_and_of_the_builder_that_jump_change_no_row() -> Result<()> {
    let mut directory = Directory::start().await?;
    let clock = WallClock::new()?;
    let mut command =
        Directory::ingest(&directory.postgres, &directory.folder, &["--snapshot-threshold", "10"])?;
    clock.configure(&mut command);
    let mut worker = Directory::spawn(&directory.folder, "jumping", command)?;

    for (round, hours) in [0, 1, -1, 24, -24 * 365, 24 * 365, 0].into_iter().enumerate() {
        clock.set(hours * 3_600)?;
        directory
            .postgres
            .execute(&format!(
                "UPDATE notes SET body = 'round {round}'; DELETE FROM notes WHERE id = '{round}'"
            ))
            .await?;
        directory.api.read_until_equal(&directory.postgres).await?;

        // The builder deletes what has expired by its clock.
        let arguments = ["--once", "--snapshot-threshold", "10", "--log-horizon", "30m"];
        let mut compact = Directory::command(&directory.folder, "compact", &arguments)?;
        compact.args(["--delete-grace", "30m"]);
        clock.configure(&mut compact);
        Directory::spawn(&directory.folder, "compact", compact)?.wait(SOON).await?.assert_code(0);
        directory.api.read_until_equal(&directory.postgres).await?;
        directory.api.reader.clear();
        directory.api.read_until_equal(&directory.postgres).await?;
        worker.must_run()?;
    }
    ensure!(worker.stderr()?.matches(OWNS).count() == 1, "the worker had to begin again");
    Ok(())
}
