//! The store at a visible checkpoint, and the wait for one that has everything of a snapshot.

use std::time::Duration;

use tidewater_storage::{CommittedOps, ControlStore, Storage, Ticket, Visible};
use tokio::time::Instant;

use crate::verify::error::VerifyError;

/// Duration of one wait for a new checkpoint. The time limit is checked in between.
const CONTROL_WAIT: Duration = Duration::from_millis(500);

/// The store at a visible checkpoint.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) revision: u64,
    pub(super) visible: Visible,
    pub(super) committed_ops: CommittedOps,
}

impl View {
    /// Returns the present checkpoint.
    pub(super) async fn newest<S: ControlStore>(storage: &S) -> Result<Self, VerifyError> {
        // Epochs move from the control record to the archive: read in this order, none is missed.
        let control = storage.control().await?.ok_or(VerifyError::NoCheckpoint)?;
        let committed_ops = control.committed_ops(&storage.archived_epochs().await?);
        let revision = control.revision;
        let visible = control.visible.ok_or(VerifyError::NoCheckpoint)?;
        Ok(Self { revision, visible, committed_ops })
    }

    /// Returns a checkpoint that contains everything that was committed in the source before the call.
    ///
    /// It takes a ticket, as a write checkpoint does. The worker writes it into the WAL as a message, so
    /// a checkpoint that covers the ticket has everything before it.
    pub(super) async fn after_now<S: Storage>(
        storage: &S,
        timeout: Duration,
    ) -> Result<Self, VerifyError> {
        let ticket = storage.take_ticket().await?;
        let deadline = Instant::now() + timeout;

        loop {
            let view = Self::newest(storage).await?;
            if view.covers(ticket) {
                return Ok(view);
            }
            if Instant::now() >= deadline {
                return Err(VerifyError::WorkerBehind(timeout));
            }
            storage.wait_for_control_change(view.revision, CONTROL_WAIT).await?;
        }
    }

    fn covers(&self, ticket: Ticket) -> bool {
        self.visible.at.ticket >= ticket
    }
}
