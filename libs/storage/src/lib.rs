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
mod committed_ops;
#[cfg(any(test, feature = "conformance"))]
#[doc(hidden)]
pub mod conformance;
mod control;
mod embedded;
mod error;
mod faulty;
mod keys;
mod lsn;
mod ports;
mod replay;
mod segment;
mod segment_chain;
#[cfg(test)]
mod stored_forms;
mod versioned_record;
mod write_checkpoint;

pub use base_rows::{BaseReader, BaseRowsWriter, FramePosition};
pub use bucket::{BucketHead, BucketItem};
pub use catalog::{Base, BaseManifest, Catalog, RetiredBase, RowsFrame, TimedOp, TypedFile};
pub use committed_ops::{ClosedEpoch, CommittedOps};
pub use control::{
    Committed, Control, Generation, GenerationId, Nonce, SourceIdentity, Truncation, Visible,
};
pub use embedded::{DiskUsage, Embedded};
pub use error::{BoxError, StorageError};
pub use faulty::{
    CallScheduler, Fault, FaultPlan, FaultPlanError, Faulty, PlannedFault, PortMethod,
};
pub use keys::{BucketKey, LookupKey, RecordKey, Tag, answer_name, table_of_answer};
pub use lsn::Lsn;
pub use ports::{
    Batch, BucketStore, CompactionQueue, CompactionTask, ControlStore, LookupRow, LookupStore,
    ObjectStore, OpLog, RecordConflict, RecordStore, RecordWrite, Registry, SegmentPage, Storage,
    SwapOutcome, Sweep, WriteCheckpointStore,
};
pub use replay::{Replay, ReplayError};
pub use segment::{Segment, SegmentError, SegmentReader, SegmentWriter};
pub use segment_chain::{BrokenChain, SegmentChain};
pub use versioned_record::{ReadResult, Version, VersionedRecord, WriteContext};
pub use write_checkpoint::{ClientKey, Ticket, WriteRequest, WriteRequests};
