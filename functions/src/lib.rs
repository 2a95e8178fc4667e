//! The sync API: checks tokens, and serves checkpoints and operations.
//!
//! [`router`] is the whole of it, over any store. It needs no task besides the requests it
//! serves.
#![warn(missing_docs)]

mod access;
mod app;
mod auth;
mod clock;
mod coalesced;
mod data_line;
mod deadlines;
mod error;
mod generation;
mod position;
mod router;
mod sending;
mod served;
mod settings;
mod snapshot_line;
mod snapshot_url;
mod stream;
mod view;
mod write_checkpoint;

pub use auth::{AuthConfigError, Authenticator};
pub use router::router;
pub use settings::{EndsBy, Limits, Settings};
