//! Services that several commands start, each with its flags: the store, the ingest worker, the
//! snapshot builder, the sync API and the metrics.

pub(crate) mod admin;
pub(crate) mod api;
pub(crate) mod builder;
pub(crate) mod config_file;
pub(crate) mod config_picture;
pub(crate) mod config_watch;
pub(crate) mod console;
pub(crate) mod copy_reports;
pub(crate) mod database;
pub(crate) mod ingest_worker;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod prices;
#[cfg(feature = "aws")]
mod rds_token;
#[cfg(feature = "aws")]
pub(crate) mod remote_config;
pub(crate) mod request_args;
pub(crate) mod server;
pub(crate) mod source_check;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod traffic;
