//! `tidewater status` and `tidewater top` beside a running `tidewater dev`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidewater_tests::{
    DevOptions, Lodging, Output, Postgres, Process, Signal, Tidewater, eventually,
};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
  own: { auto_subscribe: true, query: SELECT * FROM todos WHERE owner = auth.user_id() }
";

const TABLES: &str = "
    CREATE TABLE notes (id text PRIMARY KEY);
    CREATE TABLE todos (id text PRIMARY KEY, owner text);
    CREATE PUBLICATION powersync FOR TABLE notes, todos;
    INSERT INTO todos SELECT i, 'u' || i % 3 FROM generate_series(1, 30) AS i;
    INSERT INTO todos SELECT i, 'many' FROM generate_series(100, 1199) AS i;
    ANALYZE notes, todos;
";

/// Runs `tidewater status` on the store of another process.
async fn status(tidewater: &Tidewater, arguments: &[&str]) -> Result<Output> {
    status_of(&tidewater.data_dir(), tidewater.folder(), arguments).await
}

async fn status_of(store: &Path, folder: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Tidewater::command()?;
    let store = format!("embedded:{}", store.display());
    command.arg("status").args(["--store", &store]).args(arguments);
    let lodging = Lodging { name: "status", logs: folder, end: Signal::Kill };
    Process::spawn(&mut command, lodging)?.wait(SOON).await
}

async fn setup() -> Result<(Postgres, Tidewater)> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG).with(&[
        "--snapshot-threshold",
        "100",
        "--wal-receiver-timeout",
        "4s",
    ]);
    Ok((postgres, Tidewater::dev_ready(options).await?))
}

/// Returns the only definition or table with a name.
fn named<'a>(list: &'a Value, name: &str) -> Result<&'a Value> {
    let list = list.as_array().context("no list")?;
    list.iter().find(|one| one["name"] == name).with_context(|| format!("no {name} in {list:?}"))
}

#[tokio::test]
async fn the_state_of_a_healthy_deployment_has_all_that_is_known() -> Result<()> {
    let (postgres, tidewater) = setup().await?;
    let url = postgres.url("postgres");
    let state = eventually("a snapshot of the large bucket", SOON, async || {
        let output = status(&tidewater, &["--json", "--database-url", &url]).await?;
        output.assert_code(0);
        let state: Value = serde_json::from_str(&output.stdout)?;
        Ok(state["largest_buckets"][0]["snapshot"].is_object().then_some(state))
    })
    .await?;

    assert_eq!((&state["healthy"], &state["problems"]), (&true.into(), &Value::Array(vec![])));
    assert_eq!(
        (&state["worker"]["epoch"], &state["worker"]["held_back"]),
        (&1.into(), &false.into())
    );
    ensure!(state["worker"]["age_ms"].as_u64().is_some_and(|age| age < 60_000), "{state}");
    let slot = &state["slot"];
    ensure!(slot["active"] == true && slot["budget_bytes"] == 10_u64 << 30, "{slot}");
    ensure!(slot["retained_bytes"].is_u64() && slot["lag_bytes"].is_u64(), "{slot}");
    ensure!(slot["left_bytes"].is_null(), "there is no limit: {slot}");

    assert_eq!(state["configs"].as_array().map(Vec::len), Some(1));
    assert_eq!(state["configs"][0]["state"], "in_use");
    let todos = named(&state["tables"], "public.todos")?;
    assert_eq!((&todos["copy"], &todos["estimated_rows"]), (&"done".into(), &1_130.into()));
    assert_eq!(todos["unsynced_rows"], 0);
    let own = named(&state["definitions"], "own|0")?;
    assert_eq!((&own["buckets"], &own["operations"]), (&4.into(), &1_130.into()));
    assert_eq!(own["is_complete"], true);

    let largest = &state["largest_buckets"][0];
    let name = largest["name"].as_str().unwrap_or_default();
    ensure!(name.starts_with("own|0.") && name.ends_with("[\"many\"]"), "{largest}");
    assert_eq!(
        (&largest["operations"], &largest["snapshot"]["rows"]),
        (&1_100.into(), &1_100.into())
    );
    ensure!(largest["snapshot"]["bytes"].as_u64() > Some(0), "{largest}");
    ensure!(state["store"]["database_bytes"].as_u64() > Some(0), "{}", state["store"]);
    ensure!(state["streams"].is_null(), "another process knows them: {state}");
    Ok(())
}

#[tokio::test]
async fn the_store_alone_names_tables_that_the_config_names_and_no_slot() -> Result<()> {
    let (_postgres, tidewater) = setup().await?;
    let output = status(&tidewater, &["--json", "--scan-buckets", "3"]).await?;
    output.assert_code(0);
    let state: Value = serde_json::from_str(&output.stdout)?;
    let todos = named(&state["tables"], "public.todos")?;
    assert_eq!((&todos["copy"], &todos["estimated_rows"]), (&"done".into(), &Value::Null));
    named(&state["tables"], "public.notes")?;
    ensure!(state["slot"].is_null() && state["source"].is_null(), "{state}");
    assert_eq!(state["bucket_scan"]["is_complete"], false, "3 of 4 buckets were examined");

    let text = status(&tidewater, &[]).await?;
    text.assert_code(0);
    ensure!(text.stdout.starts_with("state       healthy\n"), "{}", text.stdout);
    ensure!(text.stdout.contains("\npublic.todos"), "{}", text.stdout);
    Ok(())
}

#[tokio::test]
async fn a_deployment_that_is_not_healthy_says_why_and_exits_with_1() -> Result<()> {
    let (mut postgres, mut tidewater) = setup().await?;
    let url = postgres.url("postgres");
    tidewater.terminate().await?;

    let output = status(&tidewater, &["--max-staleness", "1s"]).await?;
    ensure!(
        output.code == Some(0) || output.stdout.contains("confirmed the checkpoint"),
        "{output:?}"
    );
    let stale = eventually("the checkpoint to be stale", SOON, async || {
        let output = status(&tidewater, &["--max-staleness", "1s"]).await?;
        Ok((output.code == Some(1)).then_some(output.stdout))
    })
    .await?;
    ensure!(stale.contains("problem     the ingest worker confirmed the checkpoint"), "{stale}");

    postgres
        .execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        .await?;
    let output = status(&tidewater, &["--max-staleness", "1h", "--database-url", &url]).await?;
    output.assert_code(1);
    ensure!(output.stdout.contains("does not have the replication slot"), "{}", output.stdout);

    postgres.execute("CREATE DATABASE other").await?;
    let other = postgres.url("other");
    let output = status(&tidewater, &["--max-staleness", "1h", "--database-url", &other]).await?;
    output.assert_code(1);
    ensure!(
        output.stdout.contains("filled from another database: 'postgres'"),
        "{}",
        output.stdout
    );

    postgres.stop().await?;
    let output = status(&tidewater, &["--max-staleness", "1h", "--database-url", &url]).await?;
    output.assert_code(1);
    ensure!(output.stdout.contains("source database cannot be read"), "{}", output.stdout);
    Ok(())
}

#[tokio::test]
async fn without_a_store_nothing_is_created_and_the_exit_code_is_2() -> Result<()> {
    let folder = tidewater_tests::Scratch::new()?;
    let store = folder.path().join("store");
    let output = status_of(&store, folder.path(), &[]).await?;
    output.assert_code(2);
    ensure!(output.stderr.contains("there is no store in"), "{}", output.stderr);
    ensure!(!store.exists(), "it was created");

    let mut command = Tidewater::command()?;
    command.arg("top").args(["--store", &format!("embedded:{}", store.display())]);
    let lodging = Lodging { name: "top", logs: folder.path(), end: Signal::Kill };
    let output = Process::spawn(&mut command, lodging)?.wait(SOON).await?;
    output.assert_code(2);
    ensure!(output.stderr.contains("needs a terminal"), "{}", output.stderr);
    Ok(())
}
