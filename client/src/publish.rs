//! Makes complete checkpoints visible.

pub(crate) mod apply;
pub(crate) mod merge;
pub(crate) mod packs;
