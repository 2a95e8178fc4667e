//! The upload machine: a blocking queue, first in, first out.

use std::time::Duration;

use tidewater_protocol::OpId;

use super::backoff::Backoff;
use super::{Action, Core, Gate, Rejection, RequestFailed, Timer};
use crate::connector::UploadOutcome;
use crate::status::{Problem, ProblemKind};

/// How long a write checkpoint may take to arrive before another one is asked for. A server that
/// was restored from a backup may have forgotten the first.
const GATE_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Upload {
    state: State,
    backoff: Backoff,
    /// A 401 was answered to the last request for a write checkpoint.
    unauthorized: bool,
    /// The write checkpoint that the gate waits for did not come in time.
    gate_is_overdue: bool,
    pub(super) problem: Option<Problem>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// No connector: the queue grows and the gate stays shut.
    Off,
    Idle,
    /// A local transaction is being read, sent or recorded.
    Sending,
    /// Until the timer.
    Waiting,
    /// A write checkpoint is needed, and for it a token.
    Token {
        mark: i64,
    },
    Requesting,
}

impl Upload {
    pub(super) fn new(has_connector: bool) -> Self {
        let state = if has_connector { State::Idle } else { State::Off };
        Self {
            state,
            backoff: Backoff::default(),
            unauthorized: false,
            gate_is_overdue: false,
            problem: None,
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self.state, State::Sending | State::Requesting | State::Token { .. })
    }
}

impl Core {
    pub(super) fn upload_wake(&mut self, actions: &mut Vec<Action<'_>>) {
        if matches!(self.upload.state, State::Idle | State::Waiting) {
            self.upload_next(actions);
        }
    }

    pub(super) fn on_local_write(&mut self, actions: &mut Vec<Action<'_>>) {
        if self.upload.state == State::Idle {
            self.upload_next(actions);
        }
    }

    pub(super) fn on_upload_timer(&mut self, actions: &mut Vec<Action<'_>>) {
        if self.upload.state == State::Waiting {
            self.upload_next(actions);
        }
    }

    /// The write checkpoint asked for did not come: ask for another.
    pub(super) fn on_gate_timer(&mut self, actions: &mut Vec<Action<'_>>) {
        if self.upload.state == State::Idle {
            self.upload.gate_is_overdue = true;
            self.upload_next(actions);
        }
    }

    fn upload_next(&mut self, actions: &mut Vec<Action<'_>>) {
        self.upload.state = State::Sending;
        actions.push(Action::UploadNext);
    }

    pub(super) fn on_uploaded(
        &mut self,
        transaction_id: i64,
        outcome: UploadOutcome,
        actions: &mut Vec<Action<'_>>,
    ) {
        if self.upload.state != State::Sending {
            return;
        }
        let rejected = match outcome {
            UploadOutcome::Applied => None,
            UploadOutcome::Rejected { reason, body } => Some(Rejection { reason, body }),
            UploadOutcome::Retry { after, reason } => {
                return self.upload_later(
                    Problem::new(ProblemKind::Upload, reason),
                    after,
                    actions,
                );
            }
        };
        self.upload.backoff.reset();
        self.upload.problem = None;
        actions.push(Action::FinishUpload { transaction_id, rejected });
        self.upload_next(actions);
    }

    pub(super) fn on_queue_empty(&mut self, gate: Gate, mark: i64, actions: &mut Vec<Action<'_>>) {
        if self.upload.state != State::Sending {
            return;
        }
        self.upload.state = State::Idle;
        let is_overdue = std::mem::take(&mut self.upload.gate_is_overdue);
        match gate {
            Gate::Open => {}
            Gate::Unknown => self.request_write_checkpoint(mark, actions),
            Gate::At(_) if is_overdue => self.request_write_checkpoint(mark, actions),
            Gate::At(_) => {
                actions.push(Action::SetTimer { timer: Timer::Gate, after: GATE_PATIENCE });
            }
        }
    }

    fn request_write_checkpoint(&mut self, mark: i64, actions: &mut Vec<Action<'_>>) {
        self.upload.state = State::Token { mark };
        if let Some(token) = self.token.get(actions) {
            self.upload.state = State::Requesting;
            actions.push(Action::RequestWriteCheckpoint { token, mark });
        }
    }

    pub(super) fn upload_on_token(&mut self, actions: &mut Vec<Action<'_>>) {
        if let State::Token { mark } = self.upload.state {
            self.request_write_checkpoint(mark, actions);
        }
    }

    pub(super) fn upload_without_token(&mut self, problem: Problem, actions: &mut Vec<Action<'_>>) {
        if matches!(self.upload.state, State::Token { .. }) {
            self.upload_later(problem, None, actions);
        }
    }

    pub(super) fn on_write_checkpoint(
        &mut self,
        mark: i64,
        answer: Result<OpId, RequestFailed>,
        actions: &mut Vec<Action<'_>>,
    ) {
        if self.upload.state != State::Requesting {
            return;
        }
        match answer {
            Ok(write_checkpoint) => {
                self.upload.unauthorized = false;
                self.upload.backoff.reset();
                self.upload.problem = None;
                actions.push(Action::SetGate { mark, write_checkpoint });
            }
            Err(refusal) => {
                if refusal.status == Some(401) {
                    self.token.token = None;
                    if !std::mem::replace(&mut self.upload.unauthorized, true) {
                        return self.request_write_checkpoint(mark, actions);
                    }
                }
                self.upload_later(refusal.problem(), refusal.retry_after, actions);
            }
        }
    }

    pub(super) fn on_gate_set(&mut self, is_set: bool, actions: &mut Vec<Action<'_>>) {
        if self.upload.state != State::Requesting {
            return;
        }
        if !is_set {
            return self.upload_next(actions);
        }
        self.upload.state = State::Idle;
        actions.push(Action::SetTimer { timer: Timer::Gate, after: GATE_PATIENCE });
        self.retry_held(actions);
        self.download_poll(actions);
    }

    /// Nothing is lost: what was sent already is sent again, under the same number.
    pub(super) fn on_queue_failed(&mut self, message: String, actions: &mut Vec<Action<'_>>) {
        if matches!(self.upload.state, State::Sending | State::Requesting) {
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
        self.upload.state = State::Waiting;
        let after = Self::delay(&mut self.random, &mut self.upload.backoff, asked);
        actions.push(Action::SetTimer { timer: Timer::Upload, after });
    }
}
