//! `/sync/stream`: sends a client the buckets it may read, checkpoint by checkpoint.

mod bucket_cursor;
mod connection;
mod data_line;
mod deadlines;
mod resume_point;
mod sending;
mod snapshot_line;

pub(crate) use connection::{Connection, StreamParams};
