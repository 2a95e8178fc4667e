//! Everything that a stream needs to know of the newest checkpoint, read together.

use std::collections::HashMap;
use std::sync::Arc;

use tidewater_protocol::OpId;
use tidewater_storage::{
    BucketStore, ClientKey, ControlStore, LookupStore, WriteCheckpointStore, WriteRequests,
};

use crate::app_state::AppState;
use crate::checkpoint::{Access, CheckpointError, CheckpointView, Client, access};

/// Number of times that a checkpoint that is too old is replaced by a newer one. The worker keeps
/// versions for checkpoints that were visible within the last seconds, so a second attempt succeeds
/// unless this process is far too slow.
const ATTEMPTS_MAX: u32 = 3;

/// The newest checkpoint, and the client's access and requests at it.
pub(super) struct CurrentState {
    pub(super) view: Arc<CheckpointView>,
    pub(super) access: Access,
    pub(super) requests: WriteRequests,
}

impl CurrentState {
    /// Reads the newest checkpoint, and what the client may read there. If `positions`, which
    /// the client has sent, are not at the ends of its buckets, the catalogs are no older than seconds.
    pub(super) async fn read<S: ControlStore + BucketStore + LookupStore + WriteCheckpointStore>(
        app: &AppState<S>,
        client: &mut Client,
        client_key: &ClientKey,
        positions: &HashMap<String, OpId>,
    ) -> Result<Self, CheckpointError> {
        let mut attempt = 0;
        let mut needs_catalogs = false;
        loop {
            // The checkpoint is read before the requests. A request that it covers was stored before
            // the checkpoint became visible, so it is found.
            let view = if needs_catalogs {
                app.views.with_young_catalogs().await?
            } else {
                app.views.latest().await?
            };
            let requests = async { Ok(app.storage.write_requests(client_key).await?) };
            let access = access(&app.storage, &view, client, app.settings.quotas.request_limits());

            match tokio::try_join!(access, requests) {
                Err(CheckpointError::TooOld) if attempt < ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
                Ok((access, _))
                    if !needs_catalogs
                        && view.has_old_catalogs()
                        && !is_up_to_date(&access, positions, view.id().op) =>
                {
                    needs_catalogs = true;
                }
                Ok((access, requests)) => return Ok(Self { view, access, requests }),
            }
        }
    }
}

/// Returns whether a client with these positions has all of its buckets. After a checkpoint, a client may
/// send the checkpoint's op id as the position of each bucket. Greater ones are markers, or foreign.
fn is_up_to_date(access: &Access, positions: &HashMap<String, OpId>, checkpoint: OpId) -> bool {
    access.buckets.iter().all(|bucket| {
        let position = positions.get(&bucket.name).copied().unwrap_or(OpId::ZERO);
        (bucket.head.last..=checkpoint).contains(&position)
    })
}
