//! The snapshot file: a bucket's live rows as SQLite databases, compressed as independent zstd
//! frames. Written by the builder, read by clients and by the server that turns it into data lines.
//!
//! Files only: no network, no clock. All calls block. `FORMAT.md` beside this crate is the
//! specification in prose.
#![warn(missing_docs)]

mod error;
mod frame;
mod reader;
mod row;
mod row_text;
mod schema;
mod value;
mod writer;

pub use error::SnapshotError;
pub use frame::{FRAME_RAW_BYTES_MAX, check_line, frame_matches, unpack_frame};
pub use reader::{Expected, Key, Keys, Snapshot, TypedRow};
pub use row::SnapshotRow;
pub use schema::{IdColumn, TypedTable};
pub use value::Value;
pub use writer::{SnapshotHeader, SnapshotOptions, SnapshotWriter, WrittenFile};

#[cfg(test)]
mod tests;
