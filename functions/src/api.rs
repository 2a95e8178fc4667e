//! The HTTP API: routes, requests and replies.

mod admin;
mod body_shape;
mod error;
mod old_sdk;
mod readiness;
mod replicated_checkpoint;
mod request;
mod router;
mod snapshot_file;
mod sync_stream;
mod web_socket;
mod write_checkpoint;

pub use router::router;
