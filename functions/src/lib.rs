//! The sync API: checks tokens, and serves checkpoints and operations.
//!
//! [`router`] is the whole API, over any store. It runs no task besides the requests that it serves and
//! the fetches of keys that they start.
//!
//! The folders are layers, and imports point downwards: `api` (routes and replies), `stream` (one
//! connection of `/sync/stream`), `checkpoint` (what is readable at a checkpoint), `auth` (tokens).
#![warn(missing_docs)]

mod admin;
mod api;
mod app_state;
mod auth;
mod checkpoint;
mod client_address;
mod clock;
mod content;
mod following;
pub mod metrics;
mod open_streams;
mod rate_limiter;
mod rsocket;
mod settings;
mod snapshot_url;
mod stream;
mod stream_log;
#[cfg(test)]
mod test_store;

pub use admin::{ADMIN_TOKEN_BYTES_MIN, Admin, AdminError, AdminTokenError};
pub use api::router;
pub use app_state::SyncStore;
pub use auth::{AuthConfigError, Authenticator};
pub use client_address::Network;
pub use metrics::describe_metrics;
pub use open_streams::OpenStreamCount;
pub use settings::{
    BUCKETS_MAX, ClientAddress, ClientStall, DEFAULT_BUCKETS_MAX, DEFAULT_MAX_STALENESS, Quotas,
    Rate, Settings, StreamDeadline, WorkerProblem,
};
