//! Turns changed rows into bucket operations.

pub(crate) mod applier;
pub(crate) mod source_row;
