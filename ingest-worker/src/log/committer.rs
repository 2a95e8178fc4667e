//! The owner of the control record: takes over the log, and commits what was stored.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::OpId;
use tidewater_storage::{
    Batch, ClosedEpoch, Committed, CommittedOps, Control, ControlStore, Generation, Lsn, RecordKey,
    RecordStore, SwapOutcome, Ticket, VersionedRecord,
};
use tokio::time::Instant;

use crate::log::error::WriteError;
use crate::log::in_flight::{ControlSwap, InFlightWrite, RetentionContext, WriteResult};
use crate::log::retry::retry;

/// Time for which a checkpoint's versions are kept after readers have a newer one. A reader takes a
/// checkpoint, reads at it, and takes a newer one if it finds that it was too slow.
const READER_LIFETIME: Duration = Duration::from_secs(10);

/// The writer of the control record during one run.
///
/// At most one batch is in flight. So the conditions of its writes are decided by what this run has
/// read or written before, and commits happen in order.
#[derive(Debug)]
pub(crate) struct Committer<S> {
    storage: S,
    /// The control record as this run last wrote it.
    control: Control,
    /// Shared with the batch in flight, which must not wait for a copy of all closed epochs.
    committed_ops: Arc<CommittedOps>,
    /// Checkpoints that were visible within the last [`READER_LIFETIME`], oldest first, each with the
    /// time at which the next one replaced it.
    recent_checkpoints: VecDeque<(Instant, OpId)>,
    in_flight: Option<InFlightWrite>,
}

impl<S: ControlStore + RecordStore + Clone + 'static> Committer<S> {
    /// Begins a new epoch: see [`LogWriter::take_over`](crate::log::writer::LogWriter::take_over).
    pub(crate) async fn take_over(
        storage: S,
        former: Option<Control>,
        next: Control,
        archived: Vec<ClosedEpoch>,
        generation: Option<&Generation>,
    ) -> Result<Self, WriteError> {
        // 1. Archive the epochs that the next record no longer names. If that were done later, a crash
        //    in between would lose which of their operations are committed.
        if !archived.is_empty() {
            retry(|| storage.archive_epochs(&archived)).await?;
        }

        // 2. Replace the record. This closes the former epoch at what it has committed, so whatever
        //    it still writes stays uncommitted for ever. Of two runs that do so at once, one wins.
        //    A write of the former run may still have been in flight when its record was read.
        let expected = former.as_ref().map(|former| former.revision);
        match retry(|| storage.swap_control(expected, &next)).await? {
            SwapOutcome::Swapped => {}
            SwapOutcome::Conflict(found) => {
                return Err(WriteError::of_takeover(former.as_ref(), found.as_deref()));
            }
        }
        tracing::debug!(epoch = next.epoch.number(), "began an epoch");

        // 3. Store a new generation. Stored before the swap, that of a run which loses could replace
        //    that of the winner, as both have the same id. No reader needs it before a commit makes it
        //    visible, and a run that finds none where the record names one makes its own.
        if let Some(generation) = generation {
            retry(|| storage.put_generation(generation)).await?;
        }

        let archived = retry(|| storage.archived_epochs()).await?;
        Ok(Self {
            storage,
            committed_ops: Arc::new(next.committed_ops(&archived)),
            control: next,
            recent_checkpoints: VecDeque::new(),
            in_flight: None,
        })
    }

    pub(crate) fn storage(&self) -> &S {
        &self.storage
    }

    /// Returns the control record as this run last wrote it.
    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Returns the control record as it will be after the commit in flight, if there is one.
    pub(crate) fn latest_control(&self) -> &Control {
        self.in_flight.as_ref().and_then(InFlightWrite::next_control).unwrap_or(&self.control)
    }

    pub(crate) fn committed_ops(&self) -> &CommittedOps {
        &self.committed_ops
    }

    /// Reads records, in the order of the keys.
    ///
    /// # Errors
    /// `Fenced` when a later run has written one of them. That must be noticed when reading: a write
    /// on condition of what a later run wrote would succeed.
    pub(crate) async fn read(
        &self,
        keys: &[RecordKey],
    ) -> Result<Vec<Option<VersionedRecord>>, WriteError> {
        let records = retry(|| self.storage.records(keys)).await?;
        if records.iter().flatten().any(|record| record.has_newer_epoch(&self.committed_ops)) {
            return Err(WriteError::Fenced);
        }
        Ok(records)
    }

    /// Returns the facts that decide which versions of a record are still needed.
    pub(crate) fn retention(&self) -> RetentionContext {
        RetentionContext {
            committed_ops: self.committed_ops.clone(),
            visible: self.control.visible.as_ref().map(|visible| visible.at.op),
            recent: self.recent_checkpoints.iter().map(|(_, op)| *op).collect(),
        }
    }

    /// Starts to store a batch, without a commit.
    ///
    /// # Panics
    /// When a batch is in flight.
    pub(crate) fn start_store(&mut self, batch: Batch) {
        self.start(batch, None);
    }

    /// Starts to store a batch and to replace the control record by `next` afterwards.
    ///
    /// # Panics
    /// When a batch is in flight.
    pub(crate) fn start_commit(&mut self, batch: Batch, next: Control) {
        debug_assert!(next.committed.op >= self.control.committed.op, "op ids never fall");
        debug_assert!(next.committed.lsn >= self.control.committed.lsn, "positions never fall");
        let expected_revision = self.control.revision;
        self.start(batch, Some(ControlSwap { expected_revision, next }));
    }

    fn start(&mut self, batch: Batch, swap: Option<ControlSwap>) {
        assert!(self.in_flight.is_none(), "one batch at a time is in flight");
        let retention = self.retention();
        self.in_flight = Some(InFlightWrite::start(self.storage.clone(), batch, swap, retention));
    }

    /// Returns the position after a commit: everything up to these values is committed. None of them
    /// ever falls; the op id stays if the unit has used none.
    pub(crate) fn position_after(
        &self,
        last_op: Option<OpId>,
        lsn: Lsn,
        ticket: Ticket,
    ) -> Committed {
        let committed = self.control.committed;
        Committed {
            op: last_op.map_or(committed.op, |op| op.max(committed.op)),
            lsn: lsn.max(committed.lsn),
            ticket: ticket.max(committed.ticket),
        }
    }

    /// Returns whether a batch is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Returns once [`Committer::finish`] does not need to wait. It may be cancelled.
    pub(crate) async fn wait(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.wait().await;
        }
    }

    /// Waits for the batch in flight, and notes its commit. Returns `None` if there was none.
    pub(crate) async fn finish(&mut self) -> Result<Option<WriteResult>, WriteError> {
        self.wait().await;
        let Some(in_flight) = self.in_flight.take() else { return Ok(None) };
        let result = in_flight.into_result()?;
        if let Some(next) = &result.committed {
            self.note_committed(next.clone());
        }
        Ok(Some(result))
    }

    fn note_committed(&mut self, next: Control) {
        // Readers that took the former checkpoint may still be working at it.
        let now = Instant::now();
        if let Some(visible) = &self.control.visible {
            self.recent_checkpoints.push_back((now, visible.at.op));
        }
        while self.recent_checkpoints.front().is_some_and(|(at, _)| now - *at > READER_LIFETIME) {
            self.recent_checkpoints.pop_front();
        }

        // The batch in flight has ended, so nobody shares this, and nothing is copied.
        Arc::make_mut(&mut self.committed_ops).advance(next.committed.op);
        self.control = next;
    }
}

#[cfg(test)]
mod tests;
