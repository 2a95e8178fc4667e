//! Transactions that PostgreSQL decodes in a way of its own: prepared ones, large ones that it writes to
//! disk, and those that are open while the slot is created.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidewater_tests::{DevOptions, Postgres, PostgresOptions, SyncReader, Tidewater, eventually};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";

const NOTES: &str = "
    CREATE TABLE notes (id int PRIMARY KEY, body text);
    CREATE PUBLICATION powersync FOR TABLE notes";

/// Starts a server with two prepared transactions at most, and decodes more than 64 kB on disk.
async fn source() -> Result<Postgres> {
    let options = PostgresOptions::default()
        .set("max_prepared_transactions", "2")
        .set("logical_decoding_work_mem", "64kB");
    let postgres = Postgres::with(options).await?;
    postgres.execute(NOTES).await?;
    Ok(postgres)
}

fn options(postgres: &Postgres) -> DevOptions {
    DevOptions::new(&postgres.url("postgres"), CONFIG)
}

/// Reads up to a checkpoint with the note `last`, and returns all checkpoints on the way as texts: each
/// has the ids with their bodies.
async fn checkpoints_until(tidewater: &Tidewater, last: &str) -> Result<Vec<String>> {
    let mut reader = SyncReader::new();
    let mut seen = Vec::new();
    let read = async {
        let mut connection = tidewater.connect(&mut reader, "u1").await?;
        loop {
            let completed = connection.completed().await?;
            let notes = completed
                .rows
                .iter()
                .map(|((_, id), row)| format!("{id}={}", row["body"].as_str().unwrap_or("null")));
            seen.push(notes.collect::<Vec<_>>().join(" "));
            if completed.rows.keys().any(|(_, id)| id == last) {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(SOON, read).await.with_context(|| format!("no note {last}"))??;
    Ok(seen)
}

/// Fault F14. The slot does not decode what is prepared, so it is a transaction as of its commit.
#[tokio::test]
async fn a_prepared_transaction_appears_when_it_is_committed_and_not_if_it_is_rolled_back()
-> Result<()> {
    let postgres = source().await?;
    let tidewater = Tidewater::dev_ready(options(&postgres)).await?;
    let session = postgres.connect().await?;
    let prepare = "BEGIN; INSERT INTO notes VALUES (1, 'kept'); PREPARE TRANSACTION 'kept';
                   BEGIN; INSERT INTO notes VALUES (2, 'lost'); PREPARE TRANSACTION 'lost'";
    session.batch_execute(prepare).await?;
    session.batch_execute("INSERT INTO notes VALUES (3, '')").await?;
    assert_eq!(checkpoints_until(&tidewater, "3").await?.last().map(String::as_str), Some("3="));

    // A restart of the worker does not lose what was prepared before it.
    let mut tidewater = tidewater;
    tidewater.terminate().await?.assert_code(0);
    session.batch_execute("ROLLBACK PREPARED 'lost'").await?;
    session.batch_execute("COMMIT PREPARED 'kept'").await?;
    tidewater.start().await?;
    let seen = checkpoints_until(&tidewater, "1").await?;
    assert_eq!(seen.last().map(String::as_str), Some("1=kept 3="));

    session.batch_execute("INSERT INTO notes VALUES (4, '')").await?;
    let seen = checkpoints_until(&tidewater, "4").await?;
    ensure!(seen.iter().all(|notes| !notes.contains("lost")), "{seen:?}");
    Ok(())
}

/// Faults F13 and F14. The server spills the transaction to disk, with all of its subtransactions.
#[tokio::test]
async fn a_spilled_transaction_has_only_its_committed_subtransactions() -> Result<()> {
    let postgres = source().await?;
    let tidewater = Tidewater::dev_ready(options(&postgres)).await?;
    let mut sql = "BEGIN;".to_owned();
    for number in 0..200 {
        let first = number * 20;
        let last = first + 19;
        let end = if number % 2 == 0 { "RELEASE" } else { "ROLLBACK TO" };
        sql.push_str(&format!(
            "SAVEPOINT s; INSERT INTO notes SELECT i, 'of {number}' FROM generate_series({first}, {last}) AS i;
             UPDATE notes SET body = body || '!' WHERE id = {first}; {end} SAVEPOINT s;"
        ));
    }
    sql.push_str("INSERT INTO notes VALUES (9999, 'end'); COMMIT");
    postgres.execute(&sql).await?;

    let seen = checkpoints_until(&tidewater, "9999").await?;
    let expected = postgres
        .value(
            "SELECT string_agg(id || '=' || body, ' ' ORDER BY id::text COLLATE \"C\") FROM notes",
        )
        .await?;
    ensure!(seen.last() == Some(&expected), "the rows differ from those of the source");
    let is_whole = |notes: &String| notes.is_empty() || *notes == expected;
    ensure!(seen.iter().all(is_whole), "a part was visible");

    let spilled = "SELECT sum(spill_txns) > 0 FROM pg_stat_replication_slots";
    eventually("the server to report that it has spilled", SOON, async || {
        Ok((postgres.value(spilled).await? == "t").then_some(()))
    })
    .await
}

/// Fault F20.
#[tokio::test]
async fn a_worker_that_waits_for_open_transactions_says_so_and_goes_on_after_them() -> Result<()> {
    let postgres = source().await?;
    let open = postgres.connect().await?;
    open.batch_execute("BEGIN; INSERT INTO notes VALUES (1, 'open')").await?;
    let prepared = "BEGIN; INSERT INTO notes VALUES (2, 'prepared'); PREPARE TRANSACTION 'one'";
    postgres.execute(prepared).await?;

    let mut tidewater = Tidewater::dev(options(&postgres)).await?;
    eventually("a log line that names the cause", SOON, async || {
        tidewater.must_run()?;
        let log = tidewater.log()?;
        let is_named = log.contains("PostgreSQL waits for transactions that were open before");
        Ok((is_named && log.contains("pg_prepared_xacts")).then_some(()))
    })
    .await?;
    open.batch_execute("COMMIT").await?;
    open.batch_execute("COMMIT PREPARED 'one'").await?;
    tidewater.ready().await?;
    let seen = checkpoints_until(&tidewater, "2").await?;
    assert_eq!(seen.last().map(String::as_str), Some("1=open 2=prepared"));
    Ok(())
}
