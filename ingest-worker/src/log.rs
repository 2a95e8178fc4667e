//! The log of bucket operations: assembles units of work, stores and commits them.

pub(crate) mod in_flight;
pub(crate) mod record_cache;
pub(crate) mod seen_rows;
pub(crate) mod writer;
