//! `tidewater ingest --until-caught-up`: a worker that ends once readers see everything that was
//! committed when it started.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidewater_tests::{
    AUDIENCE, Lodging, Output, Postgres, Process, Scratch, Signal, SigningKey, SyncReader,
    Tidewater, eventually,
};

/// Timeout of a run: long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";

/// Starts PostgreSQL with `count` notes, and a table that is not synced.
async fn database(count: u32) -> Result<Postgres> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(&format!(
            "CREATE TABLE notes (id int PRIMARY KEY, note text); CREATE TABLE other (id int);
             INSERT INTO notes SELECT i, 'first' FROM generate_series(1, {count}) AS i;
             CREATE PUBLICATION powersync FOR TABLE notes"
        ))
        .await?;
    Ok(postgres)
}

/// Runs the worker on the data directory `data` of a folder until it ends by itself.
async fn drain(postgres: &Postgres, folder: &Path) -> Result<Output> {
    std::fs::write(folder.join("sync-config.yaml"), CONFIG)?;
    let mut command = Tidewater::command()?;
    command.args(["ingest", "--until-caught-up", "--slot", "drained"]);
    command.args(["--database-url", &postgres.url("postgres")]);
    command.arg("--sync-config").arg(folder.join("sync-config.yaml"));
    command.arg("--store").arg(format!("embedded:{}", folder.join("data").display()));
    let lodging = Lodging { name: "ingest", logs: folder, end: Signal::Kill };
    Process::spawn(&mut command, lodging)?.wait(SOON).await
}

/// Returns the notes that a device gets from `tidewater serve`, while no worker runs: how many of them
/// have each text.
async fn served(folder: &Path) -> Result<BTreeMap<String, usize>> {
    let key = SigningKey::random("test");
    key.write_jwk_set(folder)?;
    let mut command = Tidewater::command()?;
    command.args(["serve", "--listen", "127.0.0.1:0", "--audience", AUDIENCE]);
    command.arg("--store").arg(format!("embedded:{}", folder.join("data").display()));
    command.arg("--jwks").arg(folder.join("test.jwks.json"));
    let lodging = Lodging { name: "serve", logs: folder, end: Signal::Kill };
    let mut process = Process::spawn(&mut command, lodging)?;
    let url = process.listening(SOON).await?;

    let completed = SyncReader::new().sync_once(&url, &key.token("u1").sign()?).await?;
    let mut counts = BTreeMap::new();
    for row in completed.rows.values() {
        let text = format!("{row:?}");
        let word = ["first", "second", "third"].into_iter().find(|word| text.contains(word));
        *counts.entry(word.context("a note without text")?.to_owned()).or_insert(0) += 1;
    }
    Ok(counts)
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|&(word, count)| (word.to_owned(), count)).collect()
}

#[tokio::test]
async fn rows_that_were_committed_before_a_run_are_visible_after_it() -> Result<()> {
    let postgres = database(30_000).await?;
    let folder = Scratch::new()?;

    let output = drain(&postgres, folder.path()).await?;
    output.assert_code(0);
    output.assert_says(&["caught up", "replication slot drained stays and retains WAL"]);
    assert_eq!(served(folder.path()).await?, counts(&[("first", 30_000)]));
    let active = "SELECT active FROM pg_replication_slots WHERE slot_name = 'drained'";
    assert_eq!(postgres.value(active).await?, "f", "the slot stays");

    // The next run continues: nothing is copied.
    postgres.execute("UPDATE notes SET note = 'second' WHERE id <= 10000").await?;
    postgres.execute("DELETE FROM notes WHERE id > 20000").await?;
    let output = drain(&postgres, folder.path()).await?;
    output.assert_code(0);
    ensure!(!output.stderr.contains("copying"), "{}", output.stderr);
    assert_eq!(served(folder.path()).await?, counts(&[("first", 10_000), ("second", 10_000)]));
    Ok(())
}

#[tokio::test]
async fn a_run_ends_soon_where_nothing_or_nothing_that_is_synced_has_changed() -> Result<()> {
    let postgres = database(10).await?;
    let folder = Scratch::new()?;
    drain(&postgres, folder.path()).await?.assert_code(0);
    let confirmed = "SELECT confirmed_flush_lsn FROM pg_replication_slots";
    let first = postgres.value(confirmed).await?;

    drain(&postgres, folder.path()).await?.assert_code(0);
    postgres.execute("INSERT INTO other SELECT generate_series(1, 1000)").await?;
    let position = postgres.value("SELECT pg_current_wal_insert_lsn()").await?;
    drain(&postgres, folder.path()).await?.assert_code(0);

    // The slot has passed it, so its WAL can be removed.
    let is_passed = format!(
        "SELECT confirmed_flush_lsn >= '{position}'::pg_lsn AND '{position}'::pg_lsn > '{first}'::pg_lsn
         FROM pg_replication_slots"
    );
    eventually("the server to take the confirmation", SOON, async || {
        Ok((postgres.value(&is_passed).await? == "t").then_some(()))
    })
    .await?;
    assert_eq!(served(folder.path()).await?, counts(&[("first", 10)]));
    Ok(())
}

/// A source that is never idle must not keep the run from ending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_while_the_source_goes_on_writing() -> Result<()> {
    let postgres = database(10).await?;
    let folder = Scratch::new()?;
    let client = postgres.connect().await?;
    let writer = tokio::spawn(async move {
        let mut id = 1_000;
        loop {
            id += 1;
            client.execute("INSERT INTO notes VALUES ($1, 'third')", &[&id]).await?;
        }
        #[expect(unreachable_code, reason = "names the type of the error")]
        Ok::<(), tokio_postgres::Error>(())
    });

    let output = drain(&postgres, folder.path()).await?;
    output.assert_code(0);
    ensure!(!writer.is_finished(), "the writer has failed");
    writer.abort();
    assert_eq!(served(folder.path()).await?.get("first"), Some(&10));
    Ok(())
}
