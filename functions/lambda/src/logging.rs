//! Logs in the form that CloudWatch can search.

use tracing_subscriber::EnvFilter;

/// The filter that applies unless `TIDEWATER_LOG` is set.
const DEFAULT_FILTER: &str = "warn,tidewater_functions=info,tidewater_snapshot_builder=info,\
    tidewater_storage_aws=info,snapshot_builder=info";

/// Writes events to stdout, each as a line of JSON. Lambda adds the time.
pub fn log_json() {
    let filter =
        EnvFilter::try_from_env("TIDEWATER_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    tracing_subscriber::fmt().json().without_time().with_env_filter(filter).init();
}
