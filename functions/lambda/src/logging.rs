//! Logs, as CloudWatch can search them.

use tracing_subscriber::EnvFilter;

/// What is logged where `TIDEWATER_LOG` does not say.
const USUAL: &str = "warn,tidewater_functions=info,tidewater_snapshot_builder=info,\
    tidewater_storage_aws=info,snapshot_builder=info";

/// Writes events to stdout, each a line of JSON. Lambda adds the time.
pub fn log_json() {
    let filter = EnvFilter::try_from_env("TIDEWATER_LOG").unwrap_or_else(|_| EnvFilter::new(USUAL));
    tracing_subscriber::fmt().json().without_time().with_env_filter(filter).init();
}
