//! The snapshot builder: makes bases of buckets that have grown, publishes them in the buckets'
//! catalogs, and deletes what they have made superfluous.
//!
//! A base is written under names never used before, then published by one conditional write of the
//! catalog. What it replaces is noted there, and deleted after a grace period. So two builders at
//! once, or one that is killed anywhere, leave the old or the new state, and at worst objects
//! that nothing names.
//!
//! It looks only at buckets on the work list, so its work is proportional to what changed.
#![warn(missing_docs)]

mod build;
mod error;
mod live_rows;
mod options;
mod pass;
mod policy;
mod sweep;

pub use error::BuildError;
pub use options::Options;
pub use pass::{Report, run, run_pass};
