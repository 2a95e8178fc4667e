//! The write checkpoint of the oldest SDKs: the reply waits until everything before it is replicated.

use std::time::Duration;

use tidewater_protocol::OpId;
use tidewater_storage::{ControlStore, WriteCheckpointStore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;

/// Time that a request waits. PowerSync's service waits as long; proxies end requests after 60
/// seconds.
const TIMEOUT: Duration = Duration::from_secs(50);

/// Returns a visible checkpoint that contains everything that was committed before the call.
pub(super) async fn replicated<S: ControlStore + WriteCheckpointStore>(
    storage: &S,
    deadline: Option<Instant>,
    shutdown: &CancellationToken,
) -> Result<OpId, ApiError> {
    let until = Instant::now() + TIMEOUT;
    let until = deadline.map_or(until, |deadline| until.min(deadline));
    let ticket = storage.take_ticket().await?;

    loop {
        let control = storage.control().await?;
        let visible = control.as_ref().and_then(|control| control.visible.as_ref());
        let visible = visible.ok_or(ApiError::NotReady)?;
        if visible.at.ticket >= ticket {
            return Ok(visible.at.op);
        }

        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ApiError::NotReplicated);
        }
        let revision = control.as_ref().map_or(0, |control| control.revision);
        tokio::select! {
            changed = storage.wait_for_control_change(revision, left) => changed?,
            () = shutdown.cancelled() => return Err(ApiError::ShuttingDown),
        }
    }
}
