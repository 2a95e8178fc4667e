//! The ports to Tidewater's stored state, each with an embedded implementation (SQLite and a
//! directory).
//!
//! Everything is written *before* the one conditional write of the [`Control`] record; what lies
//! above its `committed` op id, or above the limit of a closed epoch, counts as not there. Readers
//! never look above `visible`. `LAYOUT.md` beside this crate is the specification of what is stored.
#![warn(missing_docs)]

mod base_rows;
mod bucket;
mod catalog;
mod cell;
mod chain;
#[cfg(any(test, feature = "conformance"))]
#[doc(hidden)]
pub mod conformance;
mod control;
mod embedded;
mod error;
mod faulty;
mod keys;
mod limits;
mod lsn;
mod ports;
mod replay;
mod segment;
#[cfg(test)]
mod stored_forms;
mod write_checkpoint;

pub use base_rows::{BaseRowsWriter, FramePlace, OpenBase};
pub use bucket::{BucketItem, Head};
pub use catalog::{Base, Catalog, Manifest, Mark, Retired, RowsFrame, TypedFile};
pub use cell::{At, Cell, Version, WriteContext};
pub use chain::{Broken, Chain};
pub use control::{
    Committed, Control, Generation, GenerationId, Nonce, SourceIdentity, Truncation, Visible,
};
pub use embedded::{DiskUsage, Embedded};
pub use error::{BoxError, StorageError};
pub use faulty::{Cue, Fault, FaultPlan, FaultPlanError, Faulty, Method, Turnstile};
pub use keys::{BucketKey, CellKey, LookupKey, Tag, answer_name, table_of_answer};
pub use limits::{ClosedEpoch, Limits};
pub use lsn::Lsn;
pub use ports::{
    Batch, BucketStore, CellStore, CellWrite, ControlStore, Due, LookupRow, LookupStore,
    ObjectStore, OpLog, Refused, Registry, SegmentPage, Storage, SwapOutcome, Sweep, WorkList,
    WriteCheckpointStore,
};
pub use replay::{Replay, ReplayError};
pub use segment::{Segment, SegmentError, SegmentReader, SegmentWriter};
pub use write_checkpoint::{ClientKey, Ticket, WriteRequest, WriteRequests};
