//! HTTP requests: to the sync API, for the files of snapshots, and to the app's backend.
//!
//! The outcomes of requests are types of `core/`: this layer imports them, never the reverse.

mod content_coding;
pub(crate) mod fetch;
pub(crate) mod http;
pub(crate) mod http_connector;
