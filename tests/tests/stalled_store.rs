//! A store that answers nothing for longer than PostgreSQL waits for a sign of life.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidewater_client::rusqlite::Connection;
use tidewater_tests::{DevOptions, Postgres, SyncReader, Tidewater, eventually};
use tokio::time::sleep;

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

/// The time for which the store does not answer: three times as long as the server waits for a sign
/// of life. By PostgreSQL's default of 60 s it would be three minutes.
const STALL: Duration = Duration::from_secs(12);

/// Rows of 10 kB that the source writes meanwhile.
const ROWS: usize = 10_000;

/// The growth of the worker's memory that is allowed, and far below what the source writes.
const GROWTH_MAX_BYTES: u64 = 64 << 20;

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: 'SELECT id, length(body) AS length FROM notes' }
";

/// Fault F12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_outlives_a_store_that_does_not_answer() -> Result<()> {
    let postgres = Postgres::start().await?;
    let notes = "CREATE TABLE notes (id int PRIMARY KEY, body text);
                 CREATE PUBLICATION powersync FOR TABLE notes";
    postgres.execute(notes).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let mut tidewater =
        Tidewater::dev_ready(options.with(&["--wal-receiver-timeout", "4s"])).await?;
    let walsender = "SELECT active_pid FROM pg_replication_slots";
    let first = postgres.value(walsender).await?;
    let peak_before = tidewater.peak_rss_bytes()?;

    // A lock of the database is a store that does not answer.
    let lock = Connection::open(tidewater.data_dir().join("tidewater.db"))?;
    lock.busy_timeout(SOON)?;
    lock.execute_batch("BEGIN IMMEDIATE")?;
    for chunk in 0..10 {
        let from = chunk * ROWS / 10 + 1;
        let to = (chunk + 1) * ROWS / 10;
        let insert = format!(
            "INSERT INTO notes SELECT i, repeat('x', 10000) FROM generate_series({from}, {to}) AS i"
        );
        postgres.execute(&insert).await?;
    }
    // The time of the fault, and not a wait for a condition.
    sleep(STALL).await;
    tidewater.must_run()?;
    ensure!(postgres.value(walsender).await? == first, "the worker has connected again");
    let growth = tidewater.peak_rss_bytes()? - peak_before;
    eprintln!("the worker's memory has grown by {} MB", growth >> 20);
    ensure!(growth < GROWTH_MAX_BYTES, "the worker's memory has grown by {growth} bytes");

    lock.execute_batch("ROLLBACK")?;
    drop(lock);
    let mut reader = SyncReader::new();
    eventually("a device to have all rows", SOON, async || {
        let mut connection = tidewater.connect(&mut reader, "u1").await?;
        let read = connection.completed_with(|done| done.rows.len() == ROWS);
        tokio::time::timeout(SOON, read).await.context("too few rows")??;
        Ok(Some(()))
    })
    .await?;
    ensure!(postgres.value(walsender).await? == first, "the worker has connected again");
    Ok(())
}
