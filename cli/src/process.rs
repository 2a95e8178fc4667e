//! The process and its machine: clock, data directory, signals.

pub(crate) mod clock;
pub(crate) mod data_dir;
pub(crate) mod signals;
