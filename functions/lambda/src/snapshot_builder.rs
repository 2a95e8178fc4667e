//! The snapshot builder as a Lambda function: each invocation is one pass over what is due.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tidewater_lambda::{BuilderConfig, log_json, time_left};
use tidewater_snapshot_builder::{Options, Report, run_pass};
use tidewater_storage_aws::AwsStore;
use tokio::time::Instant;
use tracing::info;

/// What is left of a function's time for giving up in good order.
const RESERVE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_json();
    let BuilderConfig { store, snapshot_threshold } = BuilderConfig::from_env()?;
    let storage = &AwsStore::connect(&store).await?;
    let options = &Options { threshold: snapshot_threshold, ..Options::default() };
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        let end = Instant::now() + time_left(&event.context).saturating_sub(RESERVE);
        let report = run_pass(storage, options, unix_now()?, Some(end)).await?;
        Ok::<_, Error>(told(report))
    }))
    .await
}

/// For the log, and for who invokes the function by hand.
fn told(report: Report) -> Value {
    let Report { looked_at, published, rows, failed, left } = report;
    info!(looked_at, published, rows, failed, left, "pass ended");
    json!({
        "looked_at": looked_at, "published": published, "rows": rows, "failed": failed,
        "left": left,
    })
}

fn unix_now() -> Result<u64, Error> {
    #[expect(clippy::disallowed_methods, reason = "a `main` is where the time comes from")]
    let now = SystemTime::now();
    Ok(now.duration_since(UNIX_EPOCH)?.as_secs())
}
