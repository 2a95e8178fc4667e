//! Turns changed rows into bucket operations.

pub(crate) mod applier;
pub(crate) mod batch;
pub(crate) mod bucket_contents;
pub(crate) mod bucket_digests;
pub(crate) mod changes;
pub(crate) mod difference;
pub(crate) mod digests;
pub(crate) mod extension;
pub(crate) mod fan_out;
pub(crate) mod out_of_line;
pub(crate) mod search_index;
pub(crate) mod source_row;
pub(crate) mod tags;
pub(crate) mod truncation;
pub(crate) mod unsynced_rows;
