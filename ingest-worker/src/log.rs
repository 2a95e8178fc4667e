//! The log of bucket operations: assembles units of work, stores and commits them.
//!
//! `unit` is what is being assembled, `record_cache` the stored records that it reads and changes,
//! `in_flight` the commit protocol step by step, and `committer` the owner of the control record.
//! `writer` puts them together.

pub(crate) mod committer;
pub(crate) mod error;
pub(crate) mod in_flight;
pub(crate) mod record_cache;
pub(crate) mod retry;
pub(crate) mod seen_rows;
pub(crate) mod unit;
pub(crate) mod writer;
