//! `tidewater validate` against a real database.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tidewater_ingest_worker::{Database, check_source};
use tidewater_sync_config::SyncConfig;
use tidewater_tests::{Postgres, Process, Scratch, Tidewater};

/// Timeout of the command: long enough for a debug build on a busy machine.
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
async fn findings_about_the_database_are_in_the_order_of_the_file() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute("CREATE TABLE lists (id text PRIMARY KEY, name text, owner_id text)").await?;

    let folder = Scratch::new()?;
    let file = folder.path().join("sync-config.yaml");
    std::fs::write(&file, CONFIG)?;
    let mut command = Tidewater::command()?;
    command.arg("validate").arg(&file).args(["--format", "json"]);
    command.args(["--database-url", &postgres.url("postgres")]);
    let output = Process::run(&mut command, SOON).await?;
    output.assert_code(2);

    let document: Value = serde_json::from_str(&output.stdout)?;
    assert_eq!(document["ok"], false);
    let findings = document["findings"].as_array().context("no findings")?;
    let positions: Vec<_> = findings
        .iter()
        .map(|finding| format!("{}:{} {}", finding["line"], finding["column"], finding["severity"]))
        .collect();
    // First the column that the table lacks, then the query that any client may use.
    assert_eq!(positions, ["4:38 \"error\"", "6:12 \"warning\""]);
    assert_eq!(findings[0]["message"], "the table `lists` has no column `owner`");
    Ok(())
}

/// A function of PostgreSQL's catalog fails if its table was dropped after the query found it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalog_can_be_read_while_tables_are_created_and_dropped() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute("CREATE TABLE lists (id text PRIMARY KEY, name text, owner text)").await?;

    let mut writers = Vec::new();
    for writer in 0..3 {
        let client = postgres.connect().await?;
        writers.push(tokio::spawn(async move {
            // Two transactions: nobody else sees a table that one transaction creates and drops.
            let create = format!("CREATE TABLE t{writer} (id int PRIMARY KEY)");
            let drop = format!("DROP TABLE t{writer}");
            while client.batch_execute(&create).await.is_ok()
                && client.batch_execute(&drop).await.is_ok()
            {}
        }));
    }

    let config = SyncConfig::compile(CONFIG).map_err(|findings| anyhow!("{findings:?}"))?;
    for _ in 0..100 {
        let report =
            check_source(&Database::new(postgres.url("postgres")), "powersync", None, &config)
                .await?;
        ensure!(report.diagnostics.is_empty(), "{report:?}");
    }
    ensure!(writers.iter().all(|writer| !writer.is_finished()), "a writer has ended");
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}
