//! What the Lambda functions share: their settings, their logs, and their time limit.
#![warn(missing_docs)]

mod config;
mod logging;
mod time_limit;

pub use config::{ApiConfig, BuilderConfig};
pub use logging::log_json;
pub use time_limit::{set_stream_deadline, time_left};
