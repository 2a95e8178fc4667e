//! The upload machine: a blocking queue, first in, first out.
//!
//! One local transaction is in flight at a time. A transaction leaves the queue by a verdict of the
//! backend and by nothing else. When the queue is empty, the machine asks the server for a write
//! checkpoint: a number that the first checkpoint with all of these writes will carry.

use std::time::Duration;

use tidewater_protocol::OpId;

use super::Core;
use super::action::{Action, Rejection};
use super::event::{PendingUploads, RequestFailed, Timer};
use super::upload_state::UploadState;
use crate::connector::UploadOutcome;
use crate::status::{Problem, ProblemKind};

/// The time after which another write checkpoint is requested, if no checkpoint carried the first
/// one. A server that was restored from a backup does not know it. Replication is rarely a minute
/// behind, and a request that is too early costs little.
const WRITE_CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(60);

impl Core {
    /// Tries the queue at once, unless it is being worked on. Cuts a back-off short.
    pub(super) fn upload_now(&mut self, actions: &mut Vec<Action<'_>>) {
        if matches!(self.upload.state, UploadState::Idle | UploadState::Waiting) {
            self.upload_next(actions);
        }
    }

    pub(super) fn on_local_write(&mut self, actions: &mut Vec<Action<'_>>) {
        // A write during a back-off does not cut it short: the head of the queue blocks.
        if self.upload.state == UploadState::Idle {
            self.upload_next(actions);
        }
    }

    pub(super) fn on_upload_timer(&mut self, actions: &mut Vec<Action<'_>>) {
        if self.upload.state == UploadState::Waiting {
            self.upload_next(actions);
        }
    }

    /// Requests another write checkpoint if uploads are still pending.
    pub(super) fn on_write_checkpoint_timer(&mut self, actions: &mut Vec<Action<'_>>) {
        if self.upload.state == UploadState::Idle {
            self.upload.write_checkpoint_is_overdue = true;
            self.upload_next(actions);
        }
    }

    fn upload_next(&mut self, actions: &mut Vec<Action<'_>>) {
        self.upload.state = UploadState::Sending;
        actions.push(Action::UploadNext);
    }

    pub(super) fn on_uploaded(
        &mut self,
        transaction_id: i64,
        outcome: UploadOutcome,
        actions: &mut Vec<Action<'_>>,
    ) {
        // A late answer, after the queue failed: the transaction is sent again.
        if self.upload.state != UploadState::Sending {
            return;
        }

        let rejected = match outcome {
            UploadOutcome::Applied => None,
            UploadOutcome::Rejected { reason, body } => Some(Rejection { reason, body }),
            UploadOutcome::Retry { after, reason } => {
                let problem = Problem::new(ProblemKind::Upload, reason);
                return self.upload_later(problem, after, actions);
            }
        };

        self.upload.backoff.reset();
        self.upload.problem = None;
        // The transaction leaves the queue before the next one is read. If that write fails, the
        // queue stops, and the backend gets the same transaction again.
        actions.push(Action::FinishUpload { transaction_id, rejected });
        self.upload_next(actions);
    }

    pub(super) fn on_queue_empty(
        &mut self,
        pending: PendingUploads,
        queue_version: i64,
        actions: &mut Vec<Action<'_>>,
    ) {
        if self.upload.state != UploadState::Sending {
            return;
        }
        self.upload.state = UploadState::Idle;
        let is_overdue = std::mem::take(&mut self.upload.write_checkpoint_is_overdue);

        match pending {
            PendingUploads::None => {}
            PendingUploads::Unknown => self.request_write_checkpoint(queue_version, actions),
            PendingUploads::Until(_) if is_overdue => {
                self.request_write_checkpoint(queue_version, actions);
            }
            PendingUploads::Until(_) => self.await_write_checkpoint(actions),
        }
    }

    fn await_write_checkpoint(&mut self, actions: &mut Vec<Action<'_>>) {
        let timer = Timer::WriteCheckpoint;
        actions.push(Action::SetTimer { timer, after: WRITE_CHECKPOINT_TIMEOUT });
    }

    fn request_write_checkpoint(&mut self, queue_version: i64, actions: &mut Vec<Action<'_>>) {
        self.upload.state = UploadState::FetchingToken { queue_version };

        if let Some(token) = self.token.get(actions) {
            self.upload.state = UploadState::RequestingWriteCheckpoint;
            actions.push(Action::RequestWriteCheckpoint { token, queue_version });
        }
    }

    pub(super) fn upload_with_token(&mut self, actions: &mut Vec<Action<'_>>) {
        if let UploadState::FetchingToken { queue_version } = self.upload.state {
            self.request_write_checkpoint(queue_version, actions);
        }
    }

    pub(super) fn upload_without_token(&mut self, problem: Problem, actions: &mut Vec<Action<'_>>) {
        if matches!(self.upload.state, UploadState::FetchingToken { .. }) {
            self.upload_later(problem, None, actions);
        }
    }

    pub(super) fn on_write_checkpoint(
        &mut self,
        queue_version: i64,
        answer: Result<OpId, RequestFailed>,
        actions: &mut Vec<Action<'_>>,
    ) {
        if self.upload.state != UploadState::RequestingWriteCheckpoint {
            return;
        }

        match answer {
            Ok(write_checkpoint) => {
                self.upload.unauthorized = false;
                self.upload.backoff.reset();
                self.upload.problem = None;
                actions.push(Action::StoreWriteCheckpoint { queue_version, write_checkpoint });
            }
            Err(refusal) => {
                if refusal.status == Some(401) {
                    self.token.token = None;
                    // One refusal may be due to an expired token. A second one waits.
                    if !std::mem::replace(&mut self.upload.unauthorized, true) {
                        return self.request_write_checkpoint(queue_version, actions);
                    }
                }
                self.upload_later(refusal.problem(), refusal.retry_after, actions);
            }
        }
    }

    pub(super) fn on_write_checkpoint_stored(
        &mut self,
        is_stored: bool,
        actions: &mut Vec<Action<'_>>,
    ) {
        if self.upload.state != UploadState::RequestingWriteCheckpoint {
            return;
        }

        // A local write came after the request: the number does not cover it.
        if !is_stored {
            return self.upload_next(actions);
        }

        self.upload.state = UploadState::Idle;
        self.await_write_checkpoint(actions);

        // A checkpoint with the writes may have arrived before the number did.
        self.retry_deferred(actions);
        self.poll_now(actions);
    }

    /// Tries again later. The unit may have been sent already; it is sent again under the same
    /// number, and the backend applies it once.
    pub(super) fn on_queue_failed(&mut self, message: String, actions: &mut Vec<Action<'_>>) {
        if matches!(
            self.upload.state,
            UploadState::Sending | UploadState::RequestingWriteCheckpoint
        ) {
            self.upload_later(Problem::new(ProblemKind::Storage, message), None, actions);
        }
    }

    fn upload_later(
        &mut self,
        problem: Problem,
        asked: Option<Duration>,
        actions: &mut Vec<Action<'_>>,
    ) {
        self.upload.problem = Some(problem);
        self.upload.state = UploadState::Waiting;
        let after = Self::delay(&mut self.random, &mut self.upload.backoff, asked);
        actions.push(Action::SetTimer { timer: Timer::Upload, after });
    }
}
