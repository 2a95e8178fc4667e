//! The replication slot: the WAL that it retains on the server, and its loss.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidewater_tests::{
    DevOptions, Postgres, PostgresOptions, Signal, SyncReader, Tidewater, eventually,
};
use tokio_postgres::{Client, NoTls};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";

const NOTES: &str = "
    CREATE TABLE notes (id text PRIMARY KEY, body text);
    CREATE TABLE unpublished (id int);
    INSERT INTO notes VALUES ('gone', ''), ('kept', ''), ('changed', '');
    CREATE PUBLICATION powersync FOR TABLE notes;
";

/// Starts PostgreSQL with some notes, and Tidewater with it.
async fn setup(options: PostgresOptions, arguments: &[&str]) -> Result<(Postgres, Tidewater)> {
    let postgres = Postgres::with(options).await?;
    postgres.execute(NOTES).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG).with(arguments);
    Ok((postgres, Tidewater::dev_ready(options).await?))
}

/// Connects to a database.
async fn connect(postgres: &Postgres, database: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(&postgres.url(database), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Writes so many MB of WAL.
async fn write_wal(client: &Client, megabytes: usize) -> Result<()> {
    for _ in 0..megabytes {
        let message = "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1048576))";
        client.batch_execute(message).await?;
    }
    Ok(())
}

/// Returns the only slot's value of an expression.
async fn slot(postgres: &Postgres, expression: &str) -> Result<String> {
    postgres.value(&format!("SELECT {expression} FROM pg_replication_slots")).await
}

/// Writes more WAL than the server keeps for a slot, and waits until the slot is lost.
async fn lose_slot(postgres: &Postgres) -> Result<()> {
    // In another database, so that nothing of it is sent: a server whose client does not read could not
    // end its stream.
    let client = connect(postgres, "template1").await?;
    eventually("the slot to be lost", SOON, async || {
        write_wal(&client, 20).await?;
        postgres.execute("CHECKPOINT").await?;
        Ok((slot(postgres, "wal_status").await? == "lost").then_some(()))
    })
    .await
}

/// Returns status and body of the readiness probe.
async fn readiness(tidewater: &Tidewater) -> Result<(u16, Value)> {
    let reply = reqwest::get(format!("{}/probes/readiness", tidewater.url())).await?;
    Ok((reply.status().as_u16(), reply.json().await?))
}

/// Returns the ids of the notes that a device gets, and waits until they are these.
async fn read_until(
    tidewater: &Tidewater,
    reader: &mut SyncReader,
    expected: &[&str],
) -> Result<()> {
    let mut last = Vec::new();
    // The server ends a stream when the tables are copied again, or the process is paused.
    eventually("a device to have the notes", SOON, async || {
        let mut connection = tidewater.connect(reader, "u1").await?;
        loop {
            let completed = tokio::time::timeout(SOON, connection.completed()).await??;
            last = completed
                .rows
                .iter()
                .map(|((_, id), row)| format!("{id}{}", row["body"].as_str().unwrap_or("null")))
                .collect();
            if last == expected {
                return Ok(Some(()));
            }
        }
    })
    .await
    .with_context(|| format!("the device has {last:?}, not {expected:?}"))
}

/// Fault F11. The position of an idle source is confirmed, so no message of our own is needed.
#[tokio::test]
async fn the_slot_follows_while_only_others_write() -> Result<()> {
    let arguments = ["--wal-receiver-timeout", "4s"];
    let (postgres, mut tidewater) = setup(PostgresOptions::default(), &arguments).await?;
    postgres.execute("CREATE DATABASE other").await?;
    for database in ["other", "postgres"] {
        let client = connect(&postgres, database).await?;
        write_wal(&client, 40).await?;
        let rows = "CREATE TABLE others AS SELECT generate_series(1, 1000) AS id";
        client.batch_execute(rows).await?;

        let end = postgres.value("SELECT pg_current_wal_lsn()").await?;
        let follows = format!("confirmed_flush_lsn >= '{end}' AND restart_lsn >= '{end}'");
        eventually("the slot to follow", SOON, async || {
            tidewater.must_run()?;
            // PostgreSQL moves the restart position at such records, which it writes by itself in time.
            postgres.execute("CHECKPOINT").await?;
            Ok((slot(&postgres, &follows).await? == "t").then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// An open transaction makes the slot retain WAL, although everything is confirmed.
#[tokio::test]
async fn a_slot_beyond_its_wal_budget_is_reported_while_it_is() -> Result<()> {
    let arguments = ["--wal-budget", "8MB", "--metrics-listen", "0"];
    let (postgres, tidewater) = setup(PostgresOptions::default(), &arguments).await?;
    let (status, body) = readiness(&tidewater).await?;
    ensure!(status == 200 && body.get("warnings").is_none(), "{body}");

    let open = postgres.connect().await?;
    open.batch_execute("BEGIN; INSERT INTO unpublished VALUES (1)").await?;
    write_wal(&postgres.connect().await?, 20).await?;
    let warnings = eventually("a warning", SOON, async || {
        let (status, body) = readiness(&tidewater).await?;
        ensure!(status == 200, "a warning is no failure: {body}");
        Ok(body.get("warnings").map(ToString::to_string))
    })
    .await?;
    ensure!(warnings.contains("retains") && warnings.contains("--wal-budget"), "{warnings}");
    let retained = tidewater.metric("tidewater_ingest_wal_retained_bytes").await?;
    ensure!(retained.context("no metric")? > 8e6, "{retained:?}");
    ensure!(
        tidewater.metric("tidewater_ingest_wal_left_bytes").await?.is_none(),
        "no limit is set"
    );

    open.batch_execute("COMMIT").await?;
    eventually("the warning to end", SOON, async || {
        postgres.execute("CHECKPOINT").await?;
        Ok(readiness(&tidewater).await?.1.get("warnings").is_none().then_some(()))
    })
    .await?;
    let log = tidewater.log()?;
    ensure!(log.contains("is within its WAL budget"), "the log does not say it:\n{log}");
    Ok(())
}

/// A server that keeps 32 MB for a slot.
fn small_limit() -> PostgresOptions {
    PostgresOptions::default().set("max_slot_wal_keep_size", "32MB")
}

const CHANGES: &str = "
    DELETE FROM notes WHERE id = 'gone';
    UPDATE notes SET body = '!' WHERE id = 'changed';
    INSERT INTO notes VALUES ('new', '')";

/// Fault F7. The copy waits for a lock, so that the time of the stale checkpoint can be observed.
#[tokio::test]
async fn a_slot_that_was_lost_while_the_worker_was_stopped_is_made_again() -> Result<()> {
    let arguments = ["--max-staleness", "2s", "--metrics-listen", "0"];
    let (postgres, mut tidewater) = setup(small_limit(), &arguments).await?;
    let mut reader = SyncReader::new();
    let before = ["changed", "gone", "kept"];
    read_until(&tidewater, &mut reader, &before).await?;
    let left = tidewater.metric("tidewater_ingest_wal_left_bytes").await?;
    ensure!(left.context("no metric")? > 0.0, "{left:?}");
    tidewater.terminate().await?.assert_code(0);

    postgres.execute(CHANGES).await?;
    lose_slot(&postgres).await?;
    let lock = postgres.connect().await?;
    lock.batch_execute("BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE").await?;
    tidewater.start().await?;
    let reason = eventually("the probe to fail", SOON, async || {
        tidewater.must_run()?;
        let (status, body) = readiness(&tidewater).await?;
        let reason = body["reason"].as_str().unwrap_or_default().to_owned();
        Ok((status == 503 && reason.contains("holds the checkpoint back")).then_some(reason))
    })
    .await?;
    read_until(&tidewater, &mut SyncReader::new(), &before).await.context(reason)?;

    lock.batch_execute("COMMIT").await?;
    read_until(&tidewater, &mut reader, &["changed!", "kept", "new"]).await?;
    eventually("the probe to pass", SOON, async || {
        Ok((readiness(&tidewater).await?.0 == 200).then_some(()))
    })
    .await?;
    let log = tidewater.log()?;
    ensure!(log.contains("max_slot_wal_keep_size"), "the log does not say why:\n{log}");
    ensure!(slot(&postgres, "wal_status").await? == "reserved");
    Ok(())
}

/// Fault F7, with a worker that does not read while the server ends its stream.
#[tokio::test]
async fn a_slot_that_is_lost_while_the_worker_runs_is_made_again() -> Result<()> {
    let (postgres, mut tidewater) = setup(small_limit(), &[]).await?;
    let mut reader = SyncReader::new();
    read_until(&tidewater, &mut reader, &["changed", "gone", "kept"]).await?;

    tidewater.signal(Signal::Stop)?;
    postgres.execute(CHANGES).await?;
    lose_slot(&postgres).await?;
    tidewater.signal(Signal::Cont)?;
    // The stream may have brought these changes before it ended.
    read_until(&tidewater, &mut reader, &["changed!", "kept", "new"]).await?;
    eventually("a new slot", SOON, async || {
        tidewater.must_run()?;
        Ok((slot(&postgres, "wal_status").await? == "reserved").then_some(()))
    })
    .await?;

    // And the stream goes on.
    postgres.execute("INSERT INTO notes VALUES ('last', '')").await?;
    read_until(&tidewater, &mut reader, &["changed!", "kept", "last", "new"]).await
}

/// Fault F7. PostgreSQL 18 can invalidate slots that nobody has read for a time.
#[tokio::test]
async fn a_slot_that_the_server_invalidates_for_its_idleness_is_made_again() -> Result<()> {
    let options = PostgresOptions::default().set("idle_replication_slot_timeout", "1s");
    if Postgres::start().await?.major_version().await? < 18 {
        return Ok(());
    }
    let (postgres, mut tidewater) = setup(options, &[]).await?;
    let mut reader = SyncReader::new();
    read_until(&tidewater, &mut reader, &["changed", "gone", "kept"]).await?;
    tidewater.terminate().await?.assert_code(0);

    postgres.execute(CHANGES).await?;
    eventually("the slot to be invalidated", SOON, async || {
        postgres.execute("CHECKPOINT").await?;
        let reason = slot(&postgres, "COALESCE(invalidation_reason, 'none')").await?;
        Ok((reason == "idle_timeout").then_some(()))
    })
    .await?;
    tidewater.start().await?;
    read_until(&tidewater, &mut reader, &["changed!", "kept", "new"]).await?;
    let log = tidewater.log()?;
    ensure!(log.contains("idle_replication_slot_timeout"), "the log does not say why:\n{log}");
    Ok(())
}
