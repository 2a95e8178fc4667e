//! The sync API: checks tokens, and serves checkpoints and operations.
//!
//! [`router`] is the whole of it, over any store. It needs no task besides the requests it
//! serves.
#![warn(missing_docs)]

mod api;
mod app_state;
mod auth;
mod checkpoint;
mod clock;
mod settings;
mod snapshot_url;
mod stream;
#[cfg(test)]
mod test_store;

pub use api::router;
pub use auth::{AuthConfigError, Authenticator};
pub use settings::{Quotas, Settings, StreamDeadline};
