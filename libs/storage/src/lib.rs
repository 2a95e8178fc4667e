//! The ports to Tidewater's stored state, and their embedded implementation: SQLite and a directory.
//!
//! # Core types
//!
//! - [`Storage`] combines all ports. Functions that need one port ask for that trait alone, such as
//!   [`OpLog`] or [`ObjectStore`]. [`Embedded`] implements all ports on one machine.
//! - [`Measured`] adds metrics to a store, [`Faulty`] adds faults for tests. The feature `conformance`
//!   has the test suite for a new store, in the module of that name.
//! - [`Control`] is the commit point: one record that is replaced by a conditional write.
//! - [`Segment`]s are the log of a bucket, [`SegmentChain`] proves that none is missing.
//! - [`VersionedRecord`]s change in place, such as the [`BucketHead`]. They keep the versions that
//!   readers at recent checkpoints need.
//! - [`Catalog`] and [`Base`] describe the published snapshots of a bucket.
//!
//! # The commit rule
//!
//! An op id contains the epoch, which is one run of the ingest worker. The worker stores everything
//! *before* the conditional write of the control record. That write commits it: an operation is
//! committed if it is at or below [`Control::committed`] in the current epoch, or at or below the op id
//! recorded when its epoch was closed. [`CommittedOps`] implements this rule. Everything else is
//! ignored by readers and never becomes committed, so a crash needs no recovery.
//!
//! Readers use [`Control::visible`], which stays behind `committed` while
//! [`Control::visibility_barrier`] is ahead of the committed LSN.
//!
//! # Errors
//!
//! All ports return [`StorageError`]. Its variant tells the caller what to do:
//!
//! | variant | state | next step |
//! |---|---|---|
//! | `Unavailable` | nothing was written | retry with backoff |
//! | `Unknown` | the write may have succeeded | repeat the same call: writes are idempotent |
//! | `Refused` | nothing, or a part of a write, was written | fix the right or the name that its cause names |
//! | `Full` | nothing was written | free space, then retry |
//! | `Damaged` | a stored value cannot be decoded | stop and inspect it |
//! | `TooNew` | a newer program wrote the store | upgrade |
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use std::sync::Arc;
//!
//! use bytes::Bytes;
//! use tidewater_protocol::{Epoch, OpId};
//! use tidewater_storage::{
//!     Batch, Committed, Control, ControlStore, Embedded, GenerationId, Lsn, MaintainedGeneration, Nonce, ReadResult,
//!     RecordKey, RecordStore, RecordWrite, SourceIdentity, SwapOutcome, Ticket, Version,
//!     VersionedRecord,
//! };
//!
//! let store = Embedded::temporary()?;
//!
//! // The first run on a store creates the control record.
//! let epoch = Epoch::ZERO.next()?;
//! let source = SourceIdentity {
//!     system_id: "7301".into(),
//!     database: "app".into(),
//!     timeline: 1,
//!     slot: "tidewater".into(),
//!     slot_generation: 1,
//! };
//! let control = Control::first(epoch, Nonce("a1".into()), source, Lsn(0));
//! assert_eq!(store.swap_control(None, &control).await?, SwapOutcome::Swapped);
//!
//! // A flush stores a record. It is not committed yet.
//! let op = OpId::new(epoch, 1);
//! let key = RecordKey::SourceRow(GenerationId(epoch), 0, "[1]".into());
//! let version = Version { op, value: Some(Bytes::from_static(b"row")) };
//! let record = Arc::new(VersionedRecord { floor: OpId::ZERO, versions: vec![version] });
//! let write = RecordWrite { key: key.clone(), expected_newest: None, record };
//! let batch = Batch { records: vec![write], ..Batch::default() };
//! assert!(store.write(Arc::new(batch)).await?.is_empty());
//!
//! // Replacing the control record commits it.
//! let committed = Committed { op, lsn: Lsn(1), ticket: Ticket::default() };
//! let next = control.after_commit(committed, Vec::new(), None);
//! store.swap_control(Some(control.revision), &next).await?;
//!
//! let stored = store.records(&[key]).await?.remove(0).expect("the record is stored");
//! let committed_ops = next.committed_ops(&store.archived_epochs().await?);
//! assert!(matches!(stored.read_at(op, &committed_ops), ReadResult::Found(..)));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! `LAYOUT.md` beside this crate specifies the stored state exactly.
#![warn(missing_docs)]

mod base_rows;
mod bucket;
mod catalog;
mod change_ring;
mod committed_ops;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod control;
mod embedded;
mod error;
mod faulty;
mod generation;
mod intercepted;
mod keys;
mod lsn;
mod metrics;
mod port_method;
mod ports;
mod replay;
mod segment;
mod segment_chain;
#[cfg(test)]
mod stored_forms;
mod stored_payload;
mod versioned_record;
mod write_checkpoint;

pub use base_rows::{BaseReader, BaseRowsWriter, FramePosition};
pub use bucket::{BucketHead, BucketItem};
pub use catalog::{Base, BaseManifest, Catalog, RetiredBase, RowsFrame, TimedOp, TypedFile};
pub use change_ring::{ChangeName, ChangeRing, ChangedNames};
pub use committed_ops::{ClosedEpoch, CommittedOps};
pub use control::{
    Committed, Control, LastTransaction, MaintainedGeneration, Nonce, SourceIdentity, Truncation,
    Visible,
};
pub use embedded::{DiskUsage, Embedded, ScratchMap};
pub use error::{BoxError, StorageError};
pub use faulty::{
    CallScheduler, Fault, FaultInjector, FaultPlan, FaultPlanError, Faulty, PlannedFault,
};
pub use generation::{Generation, Numbering};
pub use intercepted::{CallInterceptor, Intercepted};
pub use keys::{BucketKey, GenerationId, LookupKey, RecordKey, Tag, answer_name, table_of_answer};
pub use lsn::Lsn;
pub use metrics::{CallRecorder, Measured, describe_metrics};
pub use port_method::PortMethod;
pub use ports::{
    AccessProbe, Batch, BucketStore, CompactionQueue, CompactionTask, ControlStore, LookupRow,
    LookupStore, ObjectStore, OpLog, RecordConflict, RecordStore, RecordWrite, Registry,
    SegmentPage, SourceRowPage, Storage, SwapOutcome, Sweep, WriteCheckpointStore,
};
pub use replay::{Replay, ReplayError};
pub use segment::{Segment, SegmentError, SegmentReader, SegmentWriter};
pub use segment_chain::{BrokenChain, SegmentChain};
pub use stored_payload::{PayloadCompressor, payload_len, read_payload};
pub use versioned_record::{ReadResult, Version, VersionedRecord, WriteContext};
pub use write_checkpoint::{ClientKey, Ticket, WriteRequest, WriteRequests};
