//! The sign that a run has made progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that a session sets when a commit of its own has landed. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommitFlag(Arc<AtomicBool>);

impl CommitFlag {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
