//! The snapshot file: a bucket's current rows as SQLite databases, compressed as independent zstd
//! frames.
//!
//! The snapshot builder writes snapshots and clients read them. The crate handles local files only:
//! it uses no network and no clock, and all of its calls block. `FORMAT.md` beside this crate is the
//! specification in prose.
//!
//! # Core types
//!
//! - [`SnapshotWriter`] takes the rows of a bucket in ascending order of type, id and subkey, and
//!   writes one or more files. Each [`WrittenFile`] lists its frames, which the `snapshot` line of
//!   the sync stream announces.
//! - [`check_line`] checks the sizes in such a line, so that a client can use them as bounds.
//!   [`unpack_frame`] unpacks one frame and proves by its hash that it is the announced one.
//! - [`Snapshot`] opens an unpacked file. It verifies the header, the schema and the counts first;
//!   rows are verified as they are read. [`Snapshot::for_each_typed`] reads the rows of a
//!   [`TypedTable`], [`Snapshot::for_each_text`] those that fit into no table, and [`TableKeys`] the
//!   keys alone.
//!
//! # Errors
//!
//! All calls fail with [`SnapshotError`], whose variants tell what to do: fetch the snapshot again
//! ([`SnapshotError::Damaged`]), update the app ([`SnapshotError::NewerFormat`]), or make room on
//! the disk ([`SnapshotError::File`], [`SnapshotError::Sqlite`]). A file of any content is either
//! read or refused with one of these: it never panics and never runs SQL.
//!
//! # Example
//!
//! ```
//! use tidewater_protocol::{Checksum, OpId};
//! use tidewater_snapshot::{
//!     ExpectedFile, Snapshot, SnapshotError, SnapshotHeader, SnapshotOptions, SnapshotRow,
//!     SnapshotWriter, unpack_frame,
//! };
//!
//! let dir = tempfile::tempdir()?;
//! let to = OpId::ZERO;
//! let checksum = Checksum(5);
//! let header = SnapshotHeader { bucket: "todos[]".to_owned(), to, checksum };
//! let mut writer = SnapshotWriter::create(dir.path(), &header, &SnapshotOptions::default())?;
//! writer.push(&SnapshotRow {
//!     object_type: "todos",
//!     object_id: "t1",
//!     subkey: "0",
//!     op_id: to,
//!     checksum,
//!     data: r#"{"id":"t1","done":0}"#,
//! })?;
//! let files = writer.finish()?;
//!
//! // A client downloads `files[0].path`, and unpacks each frame separately.
//! let packed = std::fs::read(&files[0].path)?;
//! let raw = unpack_frame(&packed, &files[0].frames[0])?;
//! let path = dir.path().join("unpacked.sqlite");
//! std::fs::write(&path, raw)?;
//!
//! let raw_bytes = files[0].raw_bytes;
//! let expected = ExpectedFile { bucket: "todos[]", to, checksum, raw_bytes };
//! let snapshot = Snapshot::open(&path, &expected)?;
//! snapshot.for_each_row(|row| {
//!     assert_eq!(row.data, r#"{"id":"t1","done":0}"#);
//!     Ok::<_, SnapshotError>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
pub use reader::{ExpectedFile, Snapshot, TableKey, TableKeys, TypedRow};
pub use row::SnapshotRow;
pub use schema::{IdColumn, TypedTable};
pub use value::ColumnValue;
pub use writer::{SnapshotHeader, SnapshotOptions, SnapshotWriter, WrittenFile};

#[cfg(test)]
mod tests;
