//! The state of the upload machine.

use super::backoff::Backoff;
use crate::status::Problem;

/// The upload machine.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) state: UploadState,
    pub(super) backoff: Backoff,
    /// A 401 was answered to the last request for a write checkpoint.
    pub(super) unauthorized: bool,
    /// The stored write checkpoint did not come in time.
    pub(super) write_checkpoint_is_overdue: bool,
    pub(super) problem: Option<Problem>,
}

/// The position of the upload machine in the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UploadState {
    /// There is no connector: the queue grows, and uploads stay pending.
    Off,
    Idle,
    /// A local transaction is being read, sent or recorded.
    Sending,
    /// Waits for the timer.
    Waiting,
    /// Waits for a token, to request a write checkpoint.
    FetchingToken {
        queue_version: i64,
    },
    /// A write checkpoint is being requested or stored.
    RequestingWriteCheckpoint,
}

impl Upload {
    pub(super) fn new(has_connector: bool) -> Self {
        Self {
            state: if has_connector { UploadState::Idle } else { UploadState::Off },
            backoff: Backoff::default(),
            unauthorized: false,
            write_checkpoint_is_overdue: false,
            problem: None,
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(
            self.state,
            UploadState::Sending
                | UploadState::RequestingWriteCheckpoint
                | UploadState::FetchingToken { .. }
        )
    }
}
