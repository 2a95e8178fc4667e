//! The store at one visible checkpoint: what is there, and what a client may read of it.

mod access;
mod batching_cache;
mod error;
mod generation;
mod view;
mod view_cache;

pub(crate) use access::{Access, Client, ReadableBucket, access};
pub(crate) use error::CheckpointError;
pub(crate) use view::{CheckpointId, CheckpointView};
pub(crate) use view_cache::ViewCache;
