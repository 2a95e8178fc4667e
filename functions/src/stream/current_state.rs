//! Everything that a stream needs to know of the newest checkpoint, read together.

use std::sync::Arc;

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
    /// Reads the newest checkpoint, and what the client may read there.
    pub(super) async fn read<S: ControlStore + BucketStore + LookupStore + WriteCheckpointStore>(
        app: &AppState<S>,
        client: &mut Client,
        client_key: &ClientKey,
    ) -> Result<Self, CheckpointError> {
        let mut attempt = 0;
        loop {
            // The checkpoint is read before the requests. A request that it covers was stored before
            // the checkpoint became visible, so it is found.
            let view = app.views.latest().await?;
            let requests = async { Ok(app.storage.write_requests(client_key).await?) };
            let access = access(&app.storage, &view, client, app.settings.quotas.request_limits());

            match tokio::try_join!(access, requests) {
                Err(CheckpointError::TooOld) if attempt < ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
                Ok((access, requests)) => return Ok(Self { view, access, requests }),
            }
        }
    }
}
