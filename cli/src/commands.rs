//! The commands, one file or folder each.

pub(crate) mod check;
pub(crate) mod compact;
pub(crate) mod cost;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod explain;
pub(crate) mod ingest;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod queue;
pub(crate) mod rows;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod validate;
pub(crate) mod verify;
pub(crate) mod why;
