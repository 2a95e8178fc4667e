//! What is readable at one visible checkpoint.

mod access;
mod batching_cache;
mod error;
mod generation;
mod view;

pub(crate) use access::{Access, Client, ReadableBucket, access};
pub(crate) use error::CheckpointError;
pub(crate) use view::{CheckpointView, ViewCache};
