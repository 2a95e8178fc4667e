//! The sync API as a Lambda function, behind a function URL that streams or, with `InvokeMode=BUFFERED`,
//! sends whole answers.

use std::future::ready;

use axum::middleware::{map_request, map_response};
use tidewater_functions::Settings;
use tidewater_lambda::{ApiConfig, MetricsLog, log_json, set_stream_deadline};
use tidewater_storage::Measured;
use tidewater_storage_aws::AwsStore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    log_json();
    let config = ApiConfig::from_env()?;
    let is_buffered = config.is_buffered;
    let metrics = MetricsLog::install(config.function)?;
    tidewater_functions::describe_metrics();
    tidewater_storage::describe_metrics();
    tidewater_storage_aws::describe_metrics();

    let storage = Measured::new(AwsStore::connect(&config.store).await?);
    // A cold start has time for this. Otherwise the first request would wait.
    config.auth.prefetch().await;

    let settings = Settings {
        keep_open: Some(config.keep_open),
        answer_bytes_max: Some(config.answer_bytes_max),
        max_staleness: config.max_staleness,
        quotas: config.quotas,
        ..Settings::new(config.auth)
    };
    let router = tidewater_functions::router(storage, settings)
        .layer(map_request(|request| ready(set_stream_deadline(request))))
        .layer(map_response(move |response| ready(metrics.clone().after(response))));
    // The two modes have different forms of an answer, and a function URL knows only its own.
    if is_buffered {
        lambda_http::run(router).await
    } else {
        lambda_http::run_with_streaming_response(router).await
    }
}
