//! The contract between Tidewater's servers and clients: op ids, operations, checksums, and the
//! lines of the sync stream. The crate does no I/O and reads neither clock nor environment.
//!
//! `PROTOCOL.md` beside this crate is the specification in prose. A change of anything that it
//! describes raises [`PROTOCOL_VERSION`].
//!
//! # Core types
//!
//! - [`OpId`] is the position of an operation. Op ids grow over the whole deployment and are never
//!   reused. An id consists of an [`Epoch`], which is one run of the ingest worker on its
//!   replication slot, and a sequence number within that epoch. Ids from 2^62 on are *markers*:
//!   positions inside a snapshot.
//! - [`Operation`] is one entry of a bucket's history: an op id, a checksum and a [`Body`] (PUT,
//!   REMOVE, MOVE or CLEAR). [`RowKey`] identifies the row that a body is about.
//! - [`Checksum`] is a 32-bit hash, or a sum of several. A server and a client that agree on a
//!   bucket's sum hold the same operations.
//! - [`SyncLine`] is one line of the answer to a [`StreamRequest`]. [`SyncLine::parse`] reads a
//!   line, [`write_line`] writes one, and [`DataLineWriter`] writes a `data` line operation by
//!   operation.
//!   A stream has the lines as JSON or as BSON ([`LineFormat`]); [`bson_to_json`] reads requests in
//!   BSON.
//! - [`leb128`] holds the variable-length integers of our binary formats. [`ErrorChain`] shows an
//!   error with its causes.
//!
//! # Errors
//!
//! Reading fails with an error of its own for each input: [`LineError`], [`InvalidOpId`],
//! [`InvalidPriority`], [`BsonError`], [`leb128::DecodeError`]. None of them is retryable: the same input fails
//! again. A line of an unknown kind is no error but [`SyncLine::Unknown`], so that a later server
//! may send more. An operation of an unknown kind *is* an error, since a client that skipped it
//! would hold a wrong state without knowing. Writing never fails, and no input panics.
//!
//! # Example
//!
//! A server writes a line, and a client reads it and adds up the checksums:
//!
//! ```
//! use tidewater_protocol::{
//!     Body, Checksum, DataLineWriter, Epoch, LineFormat, OpId, Operation, RowKey, SyncLine,
//! };
//!
//! let epoch = Epoch::ZERO.next()?;
//! let body = Body::Put {
//!     row: RowKey::new("todos", "t1", "0"),
//!     data: r#"{"id":"t1","done":0}"#.into(),
//! };
//! let checksum = body.checksum().expect("a PUT has a checksum of its own");
//! let operation = Operation { op_id: OpId::new(epoch, 1), checksum, body };
//!
//! let mut line = Vec::new();
//! let mut writer = DataLineWriter::begin(&mut line, "todos[]", OpId::ZERO, LineFormat::Json);
//! writer.push(&operation);
//! writer.finish(operation.op_id, false);
//!
//! let SyncLine::Data(received) = SyncLine::parse(&line)? else { panic!("not a data line") };
//! let sum: Checksum = received.operations.iter().map(|operation| operation.checksum).sum();
//! assert_eq!(received.operations, [operation]);
//! assert_eq!(sum, checksum);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]

mod bson;
mod checksum;
mod error_chain;
pub mod leb128;
mod line;
mod op_id;
mod operation;
mod request;
mod write;

pub use bson::{BsonError, bson_to_json};
pub use checksum::Checksum;
pub use error_chain::ErrorChain;
pub use line::{
    BucketDescription, Checkpoint, CheckpointComplete, CheckpointDiff, DataLine,
    DefaultSubscription, InvalidPriority, LineError, PartialCheckpointComplete, Priority,
    SnapshotFile, SnapshotFrame, SnapshotLine, StreamDescription, StreamError, Subscription,
    SubscriptionRef, SyncLine,
};
pub use op_id::{Epoch, EpochError, InvalidOpId, OpId};
pub use operation::{Body, Digest, Operation, RowKey};
pub use request::{BucketPosition, Extensions, StreamRequest, StreamSubscription, Streams};
pub use write::{DataLineWriter, LineFormat, write_line};

/// Version of the protocol that this crate implements.
///
/// It is raised whenever a message or the checksum's hash changes its meaning. `PROTOCOL.md` lists
/// what each version changed.
pub const PROTOCOL_VERSION: u32 = 2;
