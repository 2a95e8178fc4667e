//! The client as an app uses it.

pub(crate) mod client;
pub(crate) mod options;
mod sync_once;

pub use sync_once::SyncReport;
