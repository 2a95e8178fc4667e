//! `tidewater validate` against a real database.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tidewater_ingest_worker::check_schema;
use tidewater_sync_config::SyncConfig;
use tidewater_tests::{Lodging, Postgres, Process, Scratch, Signal, Tidewater};

/// Long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "\
config: { edition: 3 }
streams:
  mine:
    query: SELECT * FROM lists WHERE owner = auth.user_id()
  any:
    query: SELECT * FROM lists WHERE name = connection.parameter('name')
";

#[tokio::test]
async fn what_the_database_lacks_stands_in_the_order_of_the_file() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute("CREATE TABLE lists (id text PRIMARY KEY, name text, owner_id text)").await?;
    let folder = Scratch::new()?;
    let file = folder.path().join("sync-config.yaml");
    std::fs::write(&file, CONFIG)?;
    let mut command = Tidewater::command()?;
    command.arg("validate").arg(&file).args(["--format", "json"]);
    command.args(["--database-url", &postgres.url("postgres")]);
    let lodging = Lodging { name: "validate", logs: folder.path(), end: Signal::Kill };
    let output = Process::spawn(&mut command, lodging)?.wait(SOON).await?;
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    let document: Value = serde_json::from_str(&output.stdout)?;
    assert_eq!(document["ok"], false);
    let findings = document["findings"].as_array().context("findings")?;
    let shown: Vec<_> = findings
        .iter()
        .map(|one| format!("{}:{} {}", one["line"], one["column"], one["severity"]))
        .collect();
    // The column, which the database lacks, then the query that any client may use.
    assert_eq!(shown, ["4:38 \"error\"", "6:12 \"warning\""]);
    assert_eq!(findings[0]["message"], "the table `lists` has no column `owner`");
    Ok(())
}

/// What the catalog's functions are asked of may be gone by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalog_is_read_while_tables_come_and_go() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute("CREATE TABLE lists (id text PRIMARY KEY, name text, owner text)").await?;
    let mut writers = Vec::new();
    for writer in 0..3 {
        let client = postgres.connect().await?;
        writers.push(tokio::spawn(async move {
            // Each by itself: what one transaction makes and drops nobody sees.
            let create = format!("CREATE TABLE t{writer} (id int PRIMARY KEY)");
            let drop = format!("DROP TABLE t{writer}");
            while client.batch_execute(&create).await.is_ok()
                && client.batch_execute(&drop).await.is_ok()
            {}
        }));
    }
    let config = SyncConfig::compile(CONFIG).map_err(|findings| anyhow!("{findings:?}"))?;
    for _ in 0..100 {
        let findings = check_schema(&postgres.url("postgres"), &config).await?;
        ensure!(findings.is_empty(), "{findings:?}");
    }
    ensure!(writers.iter().all(|writer| !writer.is_finished()), "a writer has ended");
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}
