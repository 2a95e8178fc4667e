//! The control record: the commit point of the whole store.

use serde::{Deserialize, Serialize};
use tidewater_protocol::{Epoch, EpochError, OpId};

use crate::change_ring::{ChangeRing, ChangedNames};
use crate::committed_ops::{ClosedEpoch, CommittedOps};
use crate::keys::GenerationId;
use crate::lsn::Lsn;
use crate::write_checkpoint::Ticket;

/// The maximum number of closed epochs in the control record; older ones are archived. It keeps the
/// record within one DynamoDB write unit (1 KB).
const RECENT_EPOCHS: usize = 16;

/// The record that decides which operations are committed and which are visible.
///
/// Only the ingest worker writes it, conditional on the revision that it has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The revision; each write increments it.
    pub revision: u64,
    /// The current epoch: the run of the worker that owns the log.
    pub epoch: Epoch,
    /// A random number of the run, by which it recognizes its own write.
    pub owner: Nonce,
    /// The position up to which everything is stored and committed.
    pub committed: Committed,
    /// The checkpoint that readers see; `None` before the initial copy is complete.
    pub visible: Option<Visible>,
    /// The LSN that `committed.lsn` must reach before `visible` advances; `None` if it follows each
    /// commit. Stored as `gate`.
    #[serde(rename = "gate")]
    pub visibility_barrier: Option<Lsn>,
    /// The LSN that `committed.lsn` must reach before readers get `generation`: rows are being copied for
    /// it. Until then `visible` advances with its own generation. `None` if nothing is copied for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_barrier: Option<Lsn>,
    /// The latest generation that the worker maintains. Readers see it once `visible` names it.
    pub generation: GenerationId,
    /// Other generations over the same source rows that the worker keeps up to date: the visible one
    /// until readers have the latest, and former ones for a while, so that they can come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintained: Vec<MaintainedGeneration>,
    /// The generation that `generation` continues with another sync config, if it does. A run that was
    /// killed before it stored its new generation has stored nothing else, so this one is maintained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_generation: Option<GenerationId>,
    /// The last truncation of each table of `generation`, if there was one.
    pub truncated: Vec<Truncation>,
    /// The latest closed epochs.
    pub recent: Vec<ClosedEpoch>,
    /// The replication slot that `committed.lsn` belongs to.
    pub source: SourceIdentity,
    /// The last transaction up to `committed.lsn` that the slot has sent. The slot sends it again if
    /// it was confirmed up to an earlier position only; otherwise the source was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transaction: Option<LastTransaction>,
    /// The last run that planned another copy than the stored record of the copy described. A record
    /// that an earlier run has written lacks that plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_planned_in: Option<Epoch>,
    /// The changes of this revision and of the ones before it for readers. A reader that held an earlier
    /// revision need not look at anything else.
    #[serde(default, skip_serializing_if = "ChangeRing::is_empty")]
    pub changes: ChangeRing,
}

/// A generation that the worker keeps up to date beside the latest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintainedGeneration {
    /// The generation.
    pub id: GenerationId,
    /// The time from which it is no longer maintained, in seconds since 1970; `None` while readers have
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// A position of the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The last operation.
    pub op: OpId,
    /// The source's log is applied up to this position.
    pub lsn: Lsn,
    /// All write-checkpoint tickets up to this one are covered.
    pub ticket: Ticket,
}

/// A transaction of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTransaction {
    /// The position after its commit record.
    pub end: Lsn,
    /// Its transaction id.
    pub xid: u32,
    /// The time of its commit, in microseconds since 2000.
    pub commit_time: i64,
}

/// The checkpoint that readers see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visible {
    /// The position of the checkpoint.
    pub at: Committed,
    /// The generation whose buckets are visible.
    pub generation: GenerationId,
    /// The value of [`Control::truncated`] at that checkpoint.
    pub truncated: Vec<Truncation>,
    /// The last time at which the worker knew that the checkpoint contained everything that was
    /// committed in the source until then, in milliseconds since 1970. `None` in records of earlier
    /// versions, until the worker's next commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_at: Option<u64>,
}

/// A truncation of a source table. Records of the table with a lower op id count as deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    /// The number of the table in its generation.
    pub table: u16,
    /// The truncation's op id.
    pub op: OpId,
}

/// A random number of a run of the worker, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub String);

/// The identity of the source database and its replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// PostgreSQL's system identifier. It differs between clusters.
    pub system_id: String,
    /// The name of the database.
    pub database: String,
    /// PostgreSQL's timeline when the slot was last used.
    pub timeline: u32,
    /// The name of the slot.
    pub slot: String,
    /// Incremented when the slot is created again, which invalidates the LSN.
    pub slot_generation: u32,
}

impl Control {
    /// Creates the first record of a deployment.
    #[must_use]
    pub fn first(epoch: Epoch, owner: Nonce, source: SourceIdentity, lsn: Lsn) -> Self {
        Self {
            revision: 1,
            epoch,
            owner,
            committed: Committed { op: OpId::ZERO, lsn, ticket: Ticket::default() },
            visible: None,
            visibility_barrier: None,
            switch_barrier: None,
            generation: GenerationId(epoch),
            maintained: Vec::new(),
            continued_generation: None,
            truncated: Vec::new(),
            recent: Vec::new(),
            source,
            last_transaction: None,
            copy_planned_in: None,
            changes: ChangeRing::default(),
        }
    }

    /// Returns the record by which a new run takes over, and the epochs that must be archived before
    /// it is written. The same write closes the former epoch at its last committed operation.
    ///
    /// # Errors
    /// If the epochs are exhausted.
    pub fn after_takeover(&self, owner: Nonce) -> Result<(Self, Vec<ClosedEpoch>), EpochError> {
        let mut next = Self {
            revision: self.revision + 1,
            epoch: self.epoch.next()?,
            owner,
            // Readers compare changes of one run only.
            changes: ChangeRing::default(),
            ..self.clone()
        };
        // If the last committed operation is from an older epoch, the former epoch committed nothing:
        // it gets no entry, and all of its operations stay uncommitted.
        if self.committed.op.epoch() == Some(self.epoch) {
            next.recent.push(ClosedEpoch { epoch: self.epoch, last_committed: self.committed.op });
        }
        let surplus = next.recent.len().saturating_sub(RECENT_EPOCHS);
        let archived = next.recent.drain(..surplus).collect();
        Ok((next, archived))
    }

    /// Returns the record after a commit. `visible` follows `committed` unless the visibility barrier
    /// is ahead of the committed LSN. It gets the latest generation unless the switch barrier is.
    #[must_use]
    pub fn after_commit(
        &self,
        committed: Committed,
        truncated: Vec<Truncation>,
        visibility_barrier: Option<Lsn>,
    ) -> Self {
        let is_delayed = visibility_barrier.is_some_and(|barrier| committed.lsn < barrier);
        let switch_barrier = self.switch_barrier.filter(|&barrier| committed.lsn < barrier);
        let former = self.visible.as_ref().map(|visible| visible.generation);
        let visible = if is_delayed {
            self.visible.clone()
        } else {
            Some(Visible {
                at: committed,
                generation: former.filter(|_| switch_barrier.is_some()).unwrap_or(self.generation),
                truncated: truncated.clone(),
                current_at: self.visible.as_ref().and_then(|visible| visible.current_at),
            })
        };

        let visibility_barrier = visibility_barrier.filter(|_| is_delayed);
        Self {
            revision: self.revision + 1,
            committed,
            truncated,
            visible,
            visibility_barrier,
            switch_barrier,
            // The latest generation was stored before its run committed anything.
            continued_generation: None,
            // Unknown, until the caller names them.
            changes: ChangeRing::default(),
            ..self.clone()
        }
    }

    /// Returns this record, the one after `former`, with what it changes for readers. `written` are the
    /// buckets and lookups whose records were written for the commit.
    ///
    /// They are the change only if the visible checkpoint moves by exactly this commit. A checkpoint that
    /// was held back contains earlier commits, too. With another generation, or after a truncation, more
    /// has changed than was written.
    #[must_use]
    pub fn naming_changes(mut self, former: &Self, written: &ChangedNames) -> Self {
        let nothing = ChangedNames::default();
        let changed = match (&former.visible, &self.visible) {
            (None, None) => &nothing,
            (Some(before), Some(after)) => {
                let is_same_content =
                    before.generation == after.generation && before.truncated == after.truncated;
                if is_same_content && before.at == after.at {
                    &nothing
                } else if is_same_content
                    && before.at == former.committed
                    && after.at == self.committed
                {
                    written
                } else {
                    &ChangedNames::Many
                }
            }
            (Some(_), None) | (None, Some(_)) => &ChangedNames::Many,
        };

        let is_next_of_run = former.epoch == self.epoch
            && former.owner == self.owner
            && former.revision + 1 == self.revision;
        self.changes = if is_next_of_run {
            former.changes.with(self.revision, changed)
        } else {
            ChangeRing::default()
        };
        self
    }

    /// Returns the record in which generations that readers no longer have are maintained until `time`,
    /// in seconds since 1970.
    #[must_use]
    pub fn with_former_until(mut self, time: u64) -> Self {
        let visible = self.visible.as_ref().map(|visible| visible.generation);
        for former in &mut self.maintained {
            if Some(former.id) != visible {
                former.until.get_or_insert(time);
            }
        }
        self
    }

    /// Returns whether a former generation need not be maintained at `now`, in seconds since 1970.
    #[must_use]
    pub fn has_expired(&self, now: u64) -> bool {
        self.maintained.iter().any(|former| former.until.is_some_and(|until| until <= now))
    }

    /// Returns whether readers still have another generation than the latest, while rows are copied
    /// for that one.
    #[must_use]
    pub fn is_switch_delayed(&self) -> bool {
        self.switch_barrier.is_some()
    }

    /// Returns whether a generation is in use by the worker or by readers, or may be begun.
    #[must_use]
    pub fn needs(&self, id: GenerationId) -> bool {
        let visible = self.visible.as_ref().map(|visible| visible.generation);
        id.0 > self.epoch
            || id == self.generation
            || Some(id) == visible
            || Some(id) == self.continued_generation
            || self.maintained.iter().any(|maintained| maintained.id == id)
    }

    /// Returns the record of a commit that is current as of `time`, in milliseconds since 1970. A
    /// commit that readers do not see yet changes nothing for them.
    #[must_use]
    pub fn current_as_of(mut self, time: u64) -> Self {
        if let Some(visible) = &mut self.visible
            && visible.at == self.committed
            && self.visibility_barrier.is_none()
        {
            visible.current_at = Some(time);
        }
        self
    }

    /// Returns the committed operations, given the archived epochs.
    #[must_use]
    pub fn committed_ops(&self, archived: &[ClosedEpoch]) -> CommittedOps {
        let closed = archived.iter().chain(&self.recent).copied().collect();
        CommittedOps::new(self.epoch, self.committed.op, closed)
    }
}

#[cfg(test)]
mod tests;
