//! The client as an app uses it.

pub(crate) mod client;
pub(crate) mod sync_once;
