//! The sync API as a Lambda function, behind a function URL that streams.

use std::future::ready;

use axum::middleware::map_request;
use tidewater_functions::Settings;
use tidewater_lambda::{ApiConfig, log_json, set_stream_deadline};
use tidewater_storage_aws::AwsStore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    log_json();
    let ApiConfig { store, auth, keep_open } = ApiConfig::from_env()?;
    let storage = AwsStore::connect(&store).await?;
    // At a cold start there is time for it; a request would have to wait.
    auth.prefetch().await;
    let settings = Settings { keep_open: Some(keep_open), ..Settings::new(auth) };
    let timed = map_request(|request| ready(set_stream_deadline(request)));
    let router = tidewater_functions::router(storage, settings).layer(timed);
    lambda_http::run_with_streaming_response(router).await
}
