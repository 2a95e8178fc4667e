//! Output for people and programs: errors, findings, logs, progress, and formats of values.

pub(crate) mod bytes;
pub(crate) mod duration;
pub(crate) mod failure;
pub(crate) mod findings;
pub(crate) mod format;
pub(crate) mod labelled;
pub(crate) mod logging;
pub(crate) mod progress;
pub(crate) mod status_text;
