//! The sync API as a Lambda function, behind a function URL that streams or, with `InvokeMode=BUFFERED`,
//! sends whole answers.

use std::future::ready;

use axum::middleware::{map_request, map_response};
use tidewater_functions::Settings;
use tidewater_lambda::{ApiConfig, MetricsLog, log_json, set_stream_deadline};
use tidewater_storage::Measured;
use tidewater_storage_aws::AwsStore;

/// Maximum length of a stream in a buffered answer, in bytes. Lambda takes an answer of 6 MB (6,291,556
/// bytes), in which a stream is Base64, so that it grows by a third. Headers have some kilobytes.
const BUFFERED_BYTES_MAX: usize = 4_600_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    log_json();
    let ApiConfig { store, auth, keep_open, is_buffered, max_staleness, quotas, function } =
        ApiConfig::from_env()?;
    let metrics = MetricsLog::install(function)?;
    tidewater_functions::describe_metrics();
    tidewater_storage::describe_metrics();
    tidewater_storage_aws::describe_metrics();

    let storage = Measured::new(AwsStore::connect(&store).await?);
    // A cold start has time for this. Otherwise the first request would wait.
    auth.prefetch().await;

    let settings = Settings {
        keep_open: Some(keep_open),
        answer_bytes_max: is_buffered.then_some(BUFFERED_BYTES_MAX),
        max_staleness,
        quotas,
        ..Settings::new(auth)
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
