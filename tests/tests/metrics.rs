//! Metrics of a running `tidewater dev`, scraped as Prometheus does it.

use std::time::Duration;

use anyhow::{Context, Result};
use tidewater_tests::{DevOptions, Postgres, Tidewater, eventually};

const SYNC_CONFIG: &str = "\
config:
  edition: 3
streams:
  notes:
    auto_subscribe: true
    query: SELECT id, body FROM notes
";

/// Timeout of each wait: long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Metrics that a process must have recorded when a commit is visible.
const RECORDED: [&str; 7] = [
    "tidewater_builder_buckets_due",
    "tidewater_ingest_batch_rows",
    "tidewater_ingest_commits_total",
    "tidewater_ingest_epoch",
    "tidewater_ingest_replication_lag_bytes",
    "tidewater_ingest_replication_lag_seconds",
    "tidewater_storage_calls_total",
];

#[tokio::test]
async fn a_running_process_serves_its_metrics_and_nothing_else() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(
            "CREATE TABLE notes (id text PRIMARY KEY, body text);
             CREATE PUBLICATION powersync FOR TABLE notes",
        )
        .await?;
    let options =
        DevOptions::new(&postgres.url("postgres"), SYNC_CONFIG).with(&["--metrics-listen", "0"]);
    let mut tidewater = Tidewater::dev_ready(options).await?;
    postgres.execute("INSERT INTO notes VALUES ('n1', 'hello')").await?;

    let url = tidewater.metrics_url().await?;
    let text = eventually("all metrics to be recorded", SOON, async || {
        let response = reqwest::get(&url).await?;
        let content_type = response.headers().get("content-type").context("no content type")?;
        assert!(content_type.to_str()?.starts_with("text/plain"), "{content_type:?}");

        let text = response.text().await?;
        let is_complete = RECORDED.iter().all(|name| text.contains(&format!("# TYPE {name} ")));
        Ok(is_complete.then_some(text))
    })
    .await?;
    assert!(!text.contains("hello"), "metrics must not contain row values");

    let elsewhere = url.replace("/metrics", "/");
    assert_eq!(reqwest::get(&elsewhere).await?.status(), 404);
    tidewater.terminate().await?;
    Ok(())
}
