//! The snapshot builder as a Lambda function: each invocation is one pass over the buckets that are
//! due.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tidewater_lambda::{BuilderConfig, MetricsLog, log_json, time_left};
use tidewater_snapshot_builder::{Options, Report, run_pass};
use tidewater_storage::Measured;
use tidewater_storage_aws::AwsStore;
use tokio::time::Instant;
use tracing::info;

/// The part of a function's time that is reserved for ending a pass: the bucket at hand is finished
/// or left for the next pass, and what was published is recorded.
const RESERVED_TIME: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_json();
    let BuilderConfig { store, snapshot_threshold, function } = BuilderConfig::from_env()?;
    let metrics = &MetricsLog::install(function)?;
    tidewater_snapshot_builder::describe_metrics();
    tidewater_storage::describe_metrics();
    tidewater_storage_aws::describe_metrics();

    let storage = &Measured::new(AwsStore::connect(&store).await?);
    let options = &Options { threshold: snapshot_threshold, ..Options::default() };
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        let end = Instant::now() + time_left(&event.context).saturating_sub(RESERVED_TIME);
        let report = run_pass(storage, options, unix_now()?, Some(end)).await;
        // Also after a failure, which is when the metrics matter.
        metrics.write();
        Ok::<_, Error>(log_report(report?))
    }))
    .await
}

/// Logs a report, and returns it for a user who invokes the function by hand.
fn log_report(report: Report) -> Value {
    let Report { examined, published, rows, failed, left } = report;
    info!(examined, published, rows, failed, left, "pass ended");
    json!({
        "looked_at": examined, "published": published, "rows": rows, "failed": failed,
        "left": left,
    })
}

fn unix_now() -> Result<u64, Error> {
    #[expect(clippy::disallowed_methods, reason = "a `main` is where the time comes from")]
    let now = SystemTime::now();
    Ok(now.duration_since(UNIX_EPOCH)?.as_secs())
}
