//! Full disks: the worker or device reports the cause, keeps what it has, and resumes when there is space.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result};
use tidewater_tests::{
    Completed, DevOptions, Device, Output, Postgres, SmallDisk, SyncReader, Tidewater, eventually,
};

/// Timeout of each wait: long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Size of a disk that the first rows fit on, and not the others.
const SMALL_KIB: u64 = 8 << 10;

/// Size of a disk that all rows fit on.
const LARGE_KIB: u64 = 256 << 10;

const TABLES: &str = "
    CREATE TABLE notes (id text PRIMARY KEY, body text);
    CREATE PUBLICATION powersync FOR TABLE notes;
";

const CONFIG: &str = "
config:
  edition: 3
streams:
  notes:
    auto_subscribe: true
    query: SELECT * FROM notes
";

const SCHEMA: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, body TEXT)";

/// Returns SQL that inserts rows in one transaction. A row has 1 KiB that cannot be compressed.
fn insert(rows: RangeInclusive<u32>) -> String {
    let first = rows.start();
    let last = rows.end();
    format!(
        "INSERT INTO notes SELECT 'n' || n, (SELECT string_agg(md5(n || ' ' || part), '') \
         FROM generate_series(1, 32) part) FROM generate_series({first}, {last}) n"
    )
}

/// Starts PostgreSQL with the table and its first rows.
async fn database(rows: RangeInclusive<u32>) -> Result<Postgres> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    postgres.execute(&insert(rows)).await?;
    Ok(postgres)
}

/// Returns the bodies of PostgreSQL's rows, by their id.
async fn source(postgres: &Postgres) -> Result<BTreeMap<String, String>> {
    let rows = postgres.connect().await?.query("SELECT id, body FROM notes", &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Returns the bodies of a checkpoint's rows, by their id.
fn received(completed: &Completed) -> BTreeMap<String, String> {
    let mut bodies = BTreeMap::new();
    for ((_, id), row) in &*completed.rows {
        let body = row.get("body").and_then(|body| body.as_str()).unwrap_or_default();
        bodies.insert(id.clone(), body.to_owned());
    }
    bodies
}

/// Asserts that a process has failed because of a full disk.
fn assert_full(output: &Output) {
    output.assert_code(1);
    assert_says_full(output);
}

/// Asserts that a process has reported a full disk with the remedy.
fn assert_says_full(output: &Output) {
    output.assert_says(&["full"]);
    // The remedy of the worker is about the store, that of a device about its database file.
    let remedies = ["free some space", "Make room for the database file"];
    assert!(remedies.iter().any(|text| output.stderr.contains(text)), "{}", output.stderr);
}

/// Waits until the worker has stopped for want of space. The process goes on: it serves the last
/// checkpoint, and the worker tries again.
async fn wait_until_full(tidewater: &mut Tidewater) -> Result<()> {
    eventually("the worker to stop on the full disk", SOON, async || {
        tidewater.must_run()?;
        Ok(tidewater.log()?.contains("no space is left in the store").then_some(()))
    })
    .await
}

async fn wait_until_equal(
    reader: &mut SyncReader,
    tidewater: &Tidewater,
    expected: &BTreeMap<String, String>,
) -> Result<()> {
    let mut connection = tidewater.connect(reader, "u1").await?;
    let equal = connection.completed_with(|done| received(done) == *expected);
    tokio::time::timeout(SOON, equal).await.context("the reader does not equal the source")??;
    Ok(())
}

#[tokio::test]
async fn a_worker_on_a_full_disk_stops_and_resumes_when_there_is_space() -> Result<()> {
    let postgres = database(1..=100).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let mut tidewater = Tidewater::prepare(options)?.on(SmallDisk::new(SMALL_KIB).await?);
    tidewater.start().await?;
    tidewater.ready().await?;
    let mut reader = SyncReader::new();
    wait_until_equal(&mut reader, &tidewater, &source(&postgres).await?).await?;

    for block in 1..=40 {
        postgres.execute(&insert(block * 500..=block * 500 + 499)).await?;
    }
    wait_until_full(&mut tidewater).await?;
    tidewater.terminate().await?.assert_code(0);
    // The next process meets the full disk, too. It ends by itself if its first attempt has failed. But the
    // end of the former one may have freed enough space for a beginning: then it tries again.
    let output = tidewater.run_until_logged("no space is left in the store", SOON).await?;
    assert!(matches!(output.code, Some(0 | 1)), "{:?}\n{}", output.code, output.stderr);
    assert_says_full(&output);

    // Meanwhile the source changes rows that were stored and rows that were not.
    postgres
        .execute(
            "UPDATE notes SET body = 'changed' WHERE id LIKE '%7'; \
             DELETE FROM notes WHERE id LIKE '%8'",
        )
        .await?;
    tidewater.disk().context("no disk")?.grow(LARGE_KIB)?;
    tidewater.start().await?;
    tidewater.ready().await?;
    let expected = source(&postgres).await?;
    wait_until_equal(&mut reader, &tidewater, &expected).await?;
    wait_until_equal(&mut SyncReader::new(), &tidewater, &expected).await?;
    tidewater.terminate().await?.assert_code(0);
    Ok(())
}

#[tokio::test]
async fn a_copy_that_a_full_disk_interrupts_is_resumed_when_there_is_space() -> Result<()> {
    let postgres = database(1..=20_000).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let mut tidewater = Tidewater::prepare(options)?.on(SmallDisk::new(SMALL_KIB).await?);
    tidewater.start().await?;
    wait_until_full(&mut tidewater).await?;

    postgres.execute("DELETE FROM notes WHERE id LIKE '%8'").await?;
    tidewater.disk().context("no disk")?.grow(LARGE_KIB)?;
    tidewater.ready().await?;
    let mut reader = SyncReader::new();
    wait_until_equal(&mut reader, &tidewater, &source(&postgres).await?).await?;
    Ok(())
}

/// Fault F29, for a full disk.
#[tokio::test]
async fn a_device_on_a_full_disk_keeps_its_rows_and_resumes_when_there_is_space() -> Result<()> {
    const ROWS: &str = "SELECT id || ' ' || body FROM notes ORDER BY id";

    let postgres = database(1..=100).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let tidewater = Tidewater::dev_ready(options).await?;
    let token = tidewater.token("u1")?;
    let mut device = Device::new(SCHEMA)?.on(SmallDisk::new(SMALL_KIB).await?);
    device.sync_once(tidewater.url(), &token, &[], SOON).await?.assert_code(0);
    let before = device.column(ROWS)?;
    assert_eq!(before.len(), 100);

    postgres.execute("UPDATE notes SET body = 'changed' WHERE id LIKE '%7'").await?;
    postgres.execute(&insert(101..=20_000)).await?;
    let expected = source(&postgres).await?;
    wait_until_equal(&mut SyncReader::new(), &tidewater, &expected).await?;
    for _ in 0..2 {
        assert_full(&device.sync_once(tidewater.url(), &token, &[], SOON).await?);
        assert_eq!(device.column(ROWS)?, before, "a part of a checkpoint is visible");
    }

    device.disk().context("no disk")?.grow(LARGE_KIB)?;
    device.sync_once(tidewater.url(), &token, &[], SOON).await?.assert_code(0);
    let expected: Vec<_> = expected.iter().map(|(id, body)| format!("{id} {body}")).collect();
    assert_eq!(device.column(ROWS)?, expected);
    Ok(())
}
