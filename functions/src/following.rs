//! Following the control record: wakes the streams that a commit concerns, and no others.
//!
//! `index` knows which stream depends on what. `follower` reads each new control record, once for all
//! streams of the process.

mod follower;
mod index;

pub(crate) use follower::{Change, Follower, Registration};
pub(crate) use index::Changed;
