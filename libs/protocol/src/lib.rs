//! What Tidewater's servers and clients must agree on: op ids, operations, checksums and the lines
//! of the sync stream. No I/O, no clock, no environment.
//!
//! `PROTOCOL.md` beside this crate is the specification in prose.
#![warn(missing_docs)]

mod checksum;
mod error_chain;
pub mod leb128;
mod line;
mod op_id;
mod operation;
mod request;
mod write;

pub use checksum::Checksum;
pub use error_chain::ErrorChain;
pub use line::{
    BucketDescription, Checkpoint, CheckpointComplete, CheckpointDiff, DataLine, LineError,
    PartialCheckpointComplete, Priority, SnapshotFile, SnapshotFrame, SnapshotLine,
    StreamDescription, StreamError, Subscription, SubscriptionRef, SyncLine,
};
pub use op_id::{Epoch, EpochError, OpId};
pub use operation::{Body, Operation, RowKey};
pub use request::{BucketPosition, Extensions, StreamRequest, StreamSubscription, Streams};
pub use write::{DataLineWriter, RowData, write_line};

/// Raised whenever a message changes its meaning; `PROTOCOL.md` lists what each version changed.
pub const PROTOCOL_VERSION: u32 = 2;
