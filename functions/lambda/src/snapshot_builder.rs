//! The snapshot builder as a Lambda function: each invocation is one pass over what is due.

use std::time::{SystemTime, UNIX_EPOCH};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tidewater_lambda::{BuilderConfig, log_json};
use tidewater_snapshot_builder::{Options, Report, run_pass};
use tidewater_storage_aws::Aws;
use tracing::info;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_json();
    let BuilderConfig { store, snapshot_threshold } = BuilderConfig::from_env()?;
    let storage = &Aws::connect(&store).await?;
    let options = &Options { threshold: snapshot_threshold, ..Options::default() };
    lambda_runtime::run(service_fn(async move |_event: LambdaEvent<Value>| {
        let report = run_pass(storage, options, unix_now()?).await?;
        Ok::<_, Error>(told(report))
    }))
    .await
}

/// For the log, and for who invokes the function by hand.
fn told(report: Report) -> Value {
    let Report { looked_at, published, rows, failed } = report;
    info!(looked_at, published, rows, failed, "pass ended");
    json!({ "looked_at": looked_at, "published": published, "rows": rows, "failed": failed })
}

fn unix_now() -> Result<u64, Error> {
    #[expect(clippy::disallowed_methods, reason = "a `main` is where the time comes from")]
    let now = SystemTime::now();
    Ok(now.duration_since(UNIX_EPOCH)?.as_secs())
}
