//! The parts that both Lambda functions share: settings, logs, metrics, and the time limit.
#![warn(missing_docs)]

mod config;
mod logging;
mod metrics_log;
mod time_limit;

pub use config::{ApiConfig, BuilderConfig};
pub use logging::log_json;
pub use metrics_log::MetricsLog;
pub use time_limit::{set_stream_deadline, time_left};
