//! The readiness probe: whether clients get checkpoints, and how late these may be.

use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tidewater_storage::Control;

/// Time after which a probe that failed may be repeated, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// State of a deployment as a load balancer or an alarm sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Readers see a checkpoint that was current within the bound.
    Ready,
    /// The control record cannot be read.
    StoreFailed,
    /// No worker has started.
    NoWorker,
    /// No checkpoint is visible yet.
    InitialCopy,
    /// The worker holds the checkpoint back, for this long.
    HeldBack(Duration),
    /// The worker has not confirmed the checkpoint for this long.
    Stale(Duration),
    /// The worker has never confirmed the checkpoint: it ran in an earlier version.
    Unconfirmed,
}

impl Readiness {
    /// Judges a control record. `now` is in milliseconds since 1970.
    pub(super) fn of(control: Option<&Control>, now: u64, max_staleness: Duration) -> Self {
        let Some(control) = control else { return Self::NoWorker };
        let Some(visible) = &control.visible else { return Self::InitialCopy };
        let Some(current_at) = visible.current_at else { return Self::Unconfirmed };

        let age = Duration::from_millis(now.saturating_sub(current_at));
        if age <= max_staleness {
            Self::Ready
        } else if control.visibility_barrier.is_some() {
            Self::HeldBack(age)
        } else {
            Self::Stale(age)
        }
    }

    /// Returns why a deployment is not ready, and what to look at.
    fn reason(self) -> Option<String> {
        Some(match self {
            Self::Ready => return None,
            Self::StoreFailed => "the store cannot be read: see the log of this process".to_owned(),
            Self::NoWorker => "no ingest worker has started on this store".to_owned(),
            Self::InitialCopy => {
                "the initial copy is in progress: see the log and metrics of the ingest worker"
                    .to_owned()
            }
            Self::HeldBack(age) => format!(
                "a copy holds the checkpoint back, which was current {} s ago: see the log of the \
                 ingest worker",
                age.as_secs()
            ),
            Self::Stale(age) => format!(
                "the ingest worker confirmed the checkpoint {} s ago: see whether it runs, and \
                 whether it can reach PostgreSQL",
                age.as_secs()
            ),
            Self::Unconfirmed => {
                "the ingest worker has not confirmed the checkpoint yet: see whether it runs"
                    .to_owned()
            }
        })
    }

    /// Returns the reply of the probe. `is_deploying` tells whether rows are copied for a new sync config while
    /// clients have the former one. `problem` and `warnings` are what the worker of the same process
    /// says. A warning does not make the deployment unready.
    pub(super) fn reply(
        self,
        is_deploying: bool,
        problem: Option<String>,
        warnings: Vec<String>,
    ) -> Response {
        let mut body = json!({ "started": true, "ready": self == Self::Ready });
        if is_deploying {
            body["deploying"] =
                "rows are copied for a new sync config; clients have the former one until \
                                 that is done"
                    .into();
        }
        if !warnings.is_empty() {
            body["warnings"] = warnings.into();
        }
        let Some(reason) = self.reason() else { return Json(body).into_response() };
        let reason = match problem {
            Some(problem) => format!("{reason}. The ingest worker: {problem}"),
            None => reason,
        };
        body["reason"] = reason.into();
        let headers = [(RETRY_AFTER, RETRY_AFTER_SECONDS)];
        (StatusCode::SERVICE_UNAVAILABLE, headers, Json(body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_protocol::Epoch;
    use tidewater_storage::{Committed, Lsn, Nonce, SourceIdentity};

    const BOUND: Duration = Duration::from_secs(60);
    const NOW: u64 = 1_700_000_000_000;

    /// Returns the record of a worker that has committed once, with this barrier.
    fn committed(barrier: Option<Lsn>) -> Control {
        let source = SourceIdentity {
            system_id: "1".into(),
            database: "app".into(),
            timeline: 1,
            slot: "s".into(),
            slot_generation: 1,
        };
        let first = Control::first(Epoch::ZERO.next().unwrap(), Nonce("a".into()), source, Lsn(1));
        first.after_commit(Committed { lsn: Lsn(2), ..Committed::default() }, Vec::new(), barrier)
    }

    fn judge(control: &Control) -> Readiness {
        Readiness::of(Some(control), NOW, BOUND)
    }

    #[test]
    fn a_checkpoint_is_ready_while_it_was_current_within_the_bound() {
        let current = |ago| committed(None).current_as_of(NOW - ago);
        assert_eq!(judge(&current(0)), Readiness::Ready);
        assert_eq!(judge(&current(60_000)), Readiness::Ready);
        assert_eq!(judge(&current(60_001)), Readiness::Stale(Duration::from_millis(60_001)));
        // The worker's clock may be ahead of ours.
        assert_eq!(judge(&committed(None).current_as_of(NOW + 5_000)), Readiness::Ready);
    }

    #[test]
    fn a_store_without_a_confirmed_checkpoint_is_not_ready() {
        assert_eq!(Readiness::of(None, NOW, BOUND), Readiness::NoWorker);
        assert_eq!(judge(&committed(Some(Lsn(9))).current_as_of(NOW)), Readiness::InitialCopy);
        assert_eq!(judge(&committed(None)), Readiness::Unconfirmed);
    }

    #[test]
    fn a_checkpoint_that_is_held_back_becomes_stale_with_that_reason() {
        let seen = committed(None).current_as_of(NOW - 30_000);
        let at = Committed { lsn: Lsn(3), ..seen.committed };
        let held = seen.after_commit(at, Vec::new(), Some(Lsn(9))).current_as_of(NOW);
        assert_eq!(judge(&held), Readiness::Ready);
        let later = Readiness::of(Some(&held), NOW + 40_000, BOUND);
        assert_eq!(later, Readiness::HeldBack(Duration::from_secs(70)));
    }

    #[test]
    fn each_state_but_ready_has_a_reason_of_its_own() {
        let age = Duration::from_secs(70);
        let reasons: std::collections::HashSet<_> = [
            Readiness::StoreFailed,
            Readiness::NoWorker,
            Readiness::InitialCopy,
            Readiness::HeldBack(age),
            Readiness::Stale(age),
            Readiness::Unconfirmed,
        ]
        .into_iter()
        .map(|state| state.reason().expect("a reason"))
        .collect();
        assert_eq!(reasons.len(), 6);
        assert_eq!(Readiness::Ready.reason(), None);
    }
}
