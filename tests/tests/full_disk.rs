//! Disks that are full: whoever writes says so and stops, and goes on once there is room.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use tidewater_tests::{
    Completed, DevOptions, Device, Output, Postgres, SmallDisk, SyncReader, Tidewater,
};

/// Long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const SMALL_KIB: u64 = 8 << 10;
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

/// Rows of a KiB that does not compress, in one transaction.
fn insert(rows: std::ops::RangeInclusive<u32>) -> String {
    let (first, last) = (rows.start(), rows.end());
    format!(
        "INSERT INTO notes SELECT 'n' || n, (SELECT string_agg(md5(n || ' ' || part), '') \
         FROM generate_series(1, 32) part) FROM generate_series({first}, {last}) n"
    )
}

async fn source(postgres: &Postgres) -> Result<BTreeMap<String, String>> {
    let rows = postgres.connect().await?.query("SELECT id, body FROM notes", &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn received(done: &Completed) -> BTreeMap<String, String> {
    let body = |row: &serde_json::Map<_, serde_json::Value>| {
        row.get("body").and_then(|body| body.as_str()).unwrap_or_default().to_owned()
    };
    done.rows.iter().map(|((_, id), row)| (id.clone(), body(row))).collect()
}

/// Ended as one that has no room ends.
fn assert_full(output: &Output) {
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("full"), "no cause in:\n{}", output.stderr);
    // The worker speaks of the store, a device of its database file.
    let advice = ["free some space", "Make room for the database file"];
    assert!(advice.iter().any(|words| output.stderr.contains(words)), "{}", output.stderr);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
}

async fn until_equal(
    reader: &mut SyncReader,
    tidewater: &Tidewater,
    expected: &BTreeMap<String, String>,
) -> Result<()> {
    let token = tidewater.token("u1")?;
    let mut connection = reader.connect(tidewater.url(), &token).await?;
    let equal = connection.completed_with(|done| received(done) == *expected);
    tokio::time::timeout(SOON, equal).await.context("the reader never equals the source")??;
    Ok(())
}

#[tokio::test]
async fn a_worker_without_room_stops_and_goes_on_when_there_is_room() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    postgres.execute(&insert(1..=100)).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let mut tidewater = Tidewater::prepare(options)?.on(SmallDisk::new(SMALL_KIB).await?);
    tidewater.start().await?;
    tidewater.ready().await?;
    let mut reader = SyncReader::new();
    until_equal(&mut reader, &tidewater, &source(&postgres).await?).await?;

    for block in 1..=40 {
        postgres.execute(&insert(block * 500..=block * 500 + 499)).await?;
    }
    assert_full(&tidewater.wait(SOON).await?);
    // Nothing is mended by starting again.
    assert_full(&tidewater.run_to_end(SOON).await?);
    // The source goes on meanwhile, over what was stored and what was not.
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
    until_equal(&mut reader, &tidewater, &expected).await?;
    until_equal(&mut SyncReader::new(), &tidewater, &expected).await?;
    assert_eq!(tidewater.terminate().await?.code, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_copy_that_finds_no_room_goes_on_when_there_is_room() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    postgres.execute(&insert(1..=20_000)).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let mut tidewater = Tidewater::prepare(options)?.on(SmallDisk::new(SMALL_KIB).await?);
    assert_full(&tidewater.run_to_end(SOON).await?);
    postgres.execute("DELETE FROM notes WHERE id LIKE '%8'").await?;
    tidewater.disk().context("no disk")?.grow(LARGE_KIB)?;
    tidewater.start().await?;
    tidewater.ready().await?;
    let mut reader = SyncReader::new();
    until_equal(&mut reader, &tidewater, &source(&postgres).await?).await?;
    Ok(())
}

#[tokio::test]
async fn a_device_without_room_keeps_what_it_shows_and_goes_on_when_there_is_room() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    postgres.execute(&insert(1..=100)).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let tidewater = Tidewater::dev_ready(options).await?;
    let token = tidewater.token("u1")?;
    let mut device = Device::new(SCHEMA)?.on(SmallDisk::new(SMALL_KIB).await?);
    let output = device.sync_once(tidewater.url(), &token, &[], SOON).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    const ROWS: &str = "SELECT id || ' ' || body FROM notes ORDER BY id";
    let before = device.column(ROWS)?;
    assert_eq!(before.len(), 100);

    postgres.execute("UPDATE notes SET body = 'changed' WHERE id LIKE '%7'").await?;
    postgres.execute(&insert(101..=20_000)).await?;
    let expected = source(&postgres).await?;
    until_equal(&mut SyncReader::new(), &tidewater, &expected).await?;
    for _ in 0..2 {
        assert_full(&device.sync_once(tidewater.url(), &token, &[], SOON).await?);
        assert_eq!(device.column(ROWS)?, before, "a part of a checkpoint is shown");
    }
    device.disk().context("no disk")?.grow(LARGE_KIB)?;
    let output = device.sync_once(tidewater.url(), &token, &[], SOON).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let expected: Vec<_> = expected.iter().map(|(id, body)| format!("{id} {body}")).collect();
    assert_eq!(device.column(ROWS)?, expected);
    Ok(())
}
