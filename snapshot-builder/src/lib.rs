//! The snapshot builder: it publishes bases of buckets that have grown, and deletes what they replace.
//!
//! [`run_pass`] examines the buckets of the compaction queue once, and [`run`] does so repeatedly. Only
//! buckets in the queue are examined, so the work is proportional to what changed.
//!
//! # Fault safety
//!
//! A base consists of objects and of one entry in the bucket's catalog. The builder takes these steps in
//! this order, and may be killed between any two of them:
//!
//! 1. It reads the bucket's history up to the visible checkpoint, and proves by links and sums that
//!    nothing is missing.
//! 2. It stores the objects of the base under names that were never used before. No reader knows them.
//! 3. It replaces the catalog, on condition of its revision. This publishes the base and notes the
//!    objects that it replaces, with the time at which they expire.
//! 4. A later pass raises the bucket's floor to a base that is older than the horizon, and notes that the
//!    log up to there expires after the grace period.
//! 5. A later pass deletes what has expired, and only then removes the notes from the catalog.
//!
//! So a builder that is killed, or two builders at once, leave the old or the new state. At worst,
//! objects remain that no catalog names. Readers of replaced objects have the grace period to finish.
#![warn(missing_docs)]

mod base_objects;
mod bucket;
mod build;
mod catalog_handle;
mod error;
mod live_rows;
pub mod metrics;
mod options;
mod pass;
mod policy;
mod sweep;

pub use error::BuildError;
pub use metrics::describe_metrics;
pub use options::Options;
pub use pass::{BuilderStore, Report, run, run_pass};
