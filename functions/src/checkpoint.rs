//! The store at one visible checkpoint: what is there, and what a client may read of it.

mod access;
mod batching_cache;
mod client;
mod compute;
mod error;
mod generation;
mod view;
mod view_cache;

pub(crate) use access::{Access, ReadableBucket, access};
pub(crate) use client::{Client, ClientRequest};
pub(crate) use error::CheckpointError;
#[cfg(test)]
pub(crate) use view::Run;
pub(crate) use view::{BucketState, CheckpointId, CheckpointView};
pub(crate) use view_cache::ViewCache;
