//! HTTP requests: to the sync API, for the files of snapshots, and to the app's backend.

pub(crate) mod fetch;
pub(crate) mod http;
pub(crate) mod http_connector;
