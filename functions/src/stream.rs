//! `/sync/stream`: sends a client the buckets it may read, checkpoint by checkpoint.
//!
//! `connection` does the I/O. `checkpoint_state` decides which lines the client gets, `sending` reads and
//! writes the operations of a bucket, and `deadlines` knows when to write or end.

mod bucket_cursor;
mod checkpoint_state;
mod chunk_buffer;
mod connection;
mod current_state;
mod data_line;
mod deadlines;
mod resume_point;
mod send_plan;
mod sending;
mod snapshot_line;

pub(crate) use connection::{Connection, StreamParams};
pub(crate) use deadlines::HAND_OVER_TOLD_SECONDS;
