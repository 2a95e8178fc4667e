//! Health: what the API does and says while its worker does not replicate.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tidewater_tests::{DevOptions, Postgres, SyncReader, Tidewater, eventually};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";

const NOTES: &str = "
    CREATE TABLE notes (id text PRIMARY KEY);
    ALTER PUBLICATION powersync ADD TABLE notes;
";

/// Starts PostgreSQL with the note `a`, and Tidewater with it.
async fn setup(arguments: &[&str]) -> Result<(Postgres, Tidewater)> {
    let postgres = Postgres::start().await?;
    let sql = format!("CREATE PUBLICATION powersync; {NOTES} INSERT INTO notes VALUES ('a')");
    postgres.execute(&sql).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG).with(arguments);
    Ok((postgres, Tidewater::dev_ready(options).await?))
}

/// Returns the status of the readiness probe and the reason in its body.
async fn readiness(tidewater: &Tidewater) -> Result<(u16, String)> {
    let reply = reqwest::get(format!("{}/probes/readiness", tidewater.url())).await?;
    let status = reply.status().as_u16();
    let body: Value = reply.json().await?;
    Ok((status, body["reason"].as_str().unwrap_or_default().to_owned()))
}

/// Returns the ids of the notes that a new device gets first.
async fn first_notes(tidewater: &Tidewater) -> Result<Vec<String>> {
    let token = tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    let mut connection = reader.connect(tidewater.url(), &token).await?;
    let completed = tokio::time::timeout(SOON, connection.completed()).await??;
    Ok(completed.rows.keys().map(|(_, id)| id.clone()).collect())
}

#[tokio::test]
async fn devices_get_the_last_checkpoint_while_the_worker_waits_for_a_dropped_table() -> Result<()>
{
    let (postgres, mut tidewater) =
        setup(&["--max-staleness", "20s", "--wal-receiver-timeout", "4s"]).await?;
    postgres.execute("DROP TABLE notes").await?;

    let reason = eventually("the probe to fail", SOON, async || {
        tidewater.must_run()?;
        let (status, reason) = readiness(&tidewater).await?;
        Ok((status == 503).then_some(reason))
    })
    .await?;
    ensure!(reason.contains("stopped, ") && reason.contains("notes"), "{reason}");
    assert_eq!(first_notes(&tidewater).await?, ["a"], "the last checkpoint");
    let log = tidewater.log()?;
    ensure!(log.contains("the ingest worker stopped"), "the log does not say it:\n{log}");

    postgres.execute(&format!("{NOTES} INSERT INTO notes VALUES ('b')")).await?;
    eventually("the worker to go on by itself", SOON, async || {
        Ok((readiness(&tidewater).await?.0 == 200).then_some(()))
    })
    .await?;
    assert_eq!(first_notes(&tidewater).await?, ["b"]);
    Ok(())
}

#[tokio::test]
async fn the_probe_fails_while_postgresql_is_down_and_passes_when_it_is_back() -> Result<()> {
    let (mut postgres, tidewater) =
        setup(&["--max-staleness", "20s", "--wal-receiver-timeout", "4s"]).await?;
    assert_eq!(readiness(&tidewater).await?, (200, String::new()));

    postgres.stop().await?;
    let reason = eventually("the probe to fail", SOON, async || {
        let (status, reason) = readiness(&tidewater).await?;
        Ok((status == 503).then_some(reason))
    })
    .await?;
    ensure!(reason.contains("reconnecting, "), "{reason}");
    assert_eq!(first_notes(&tidewater).await?, ["a"], "the last checkpoint");

    postgres.restart(&[]).await?;
    eventually("the probe to pass", SOON, async || {
        Ok((readiness(&tidewater).await?.0 == 200).then_some(()))
    })
    .await
}

/// Nothing changes, and no WAL is written: the checkpoint must not become stale by that.
#[tokio::test]
async fn an_idle_source_stays_ready() -> Result<()> {
    let (postgres, tidewater) =
        setup(&["--max-staleness", "30s", "--wal-receiver-timeout", "4s"]).await?;
    // Longer than the bound, by the server's clock.
    let asleep = postgres.execute("SELECT pg_sleep(45)");
    tokio::pin!(asleep);
    loop {
        tokio::select! {
            slept = &mut asleep => return slept,
            probed = readiness(&tidewater) => assert_eq!(probed?, (200, String::new())),
        }
    }
}
