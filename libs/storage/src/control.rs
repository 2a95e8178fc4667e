//! The control record: the one place where anything becomes true.

use serde::{Deserialize, Serialize};
use tidewater_protocol::{Epoch, EpochError, OpId};

use crate::committed_ops::{ClosedEpoch, CommittedOps};
use crate::{Lsn, Tag, Ticket};

/// How many closed epochs the control record itself names; older ones are archived.
const RECENT_EPOCHS: usize = 16;

/// Everything that decides what counts. Only the ingest worker writes it, always on condition that
/// it is still as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Raised by one with every write.
    pub revision: u64,
    /// The run of the worker that owns the log.
    pub epoch: Epoch,
    /// Drawn anew by each run, so that it recognises its own write.
    pub owner: Nonce,
    /// Everything live at or below it is stored.
    pub committed: Committed,
    /// What readers see; nothing before the first copy is done.
    pub visible: Option<Visible>,
    /// Visible waits until `committed.lsn` has reached it.
    #[serde(rename = "gate")]
    pub visibility_barrier: Option<Lsn>,
    /// What the worker maintains. Readers see it once `visible` names it.
    pub generation: GenerationId,
    /// The last truncation of each table of `generation`, if there was one.
    pub truncated: Vec<Truncation>,
    /// The latest closed epochs and their limits.
    pub recent: Vec<ClosedEpoch>,
    /// The replication slot that `committed.lsn` belongs to.
    pub source: SourceIdentity,
}

/// Where the worker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Last operation.
    pub op: OpId,
    /// Everything up to it has been taken in.
    pub lsn: Lsn,
    /// All write-checkpoint tickets up to it are covered.
    pub ticket: Ticket,
}

/// What readers see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visible {
    /// The checkpoint.
    pub at: Committed,
    /// Whose buckets.
    pub generation: GenerationId,
    /// [`Control::truncated`] at that checkpoint.
    pub truncated: Vec<Truncation>,
}

/// Everything stored of a table's rows below `op` is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    /// Number of the table in its generation.
    pub table: u16,
    /// The truncation's op id.
    pub op: OpId,
}

/// A random number that a run of the worker draws, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub String);

/// A generation is named for the epoch that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationId(pub Epoch);

/// Which database, and which slot of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// PostgreSQL's system identifier: another one is another cluster.
    pub system_id: String,
    /// The database's name.
    pub database: String,
    /// PostgreSQL's timeline when the slot was last used.
    pub timeline: u32,
    /// Name of the slot.
    pub slot: String,
    /// Raised when the slot had to be made anew, which voids the LSN.
    pub slot_generation: u32,
}

/// A sync config as the worker maintains it: its text, and the tags under which its buckets and
/// lookups are stored. Written before the control record names it; only `retired_at` changes later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its name.
    pub id: GenerationId,
    /// Hash of all that makes stored data of one generation useless for another: the compiled
    /// plans, the evaluator's version, the slot.
    pub identity: String,
    /// The sync config's text.
    pub sync_config: String,
    /// A tag for each bucket definition, in the config's order.
    pub definitions: Vec<Tag>,
    /// A tag for each parameter lookup, in the config's order.
    pub lookups: Vec<Tag>,
    /// When the builder found that neither worker nor readers need it any more, in seconds since
    /// 1970; it is deleted after a grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<u64>,
}

impl Control {
    /// The first record of a deployment, owned by epoch 1.
    #[must_use]
    pub fn first(epoch: Epoch, owner: Nonce, source: SourceIdentity, lsn: Lsn) -> Self {
        Self {
            revision: 1,
            epoch,
            owner,
            committed: Committed { op: OpId::ZERO, lsn, ticket: Ticket::default() },
            visible: None,
            visibility_barrier: None,
            generation: GenerationId(epoch),
            truncated: Vec::new(),
            recent: Vec::new(),
            source,
        }
    }

    /// The record by which a new run takes over: the former epoch is closed at what it committed,
    /// in the same write. Also returns the epochs that must be archived before it is written.
    ///
    /// # Errors
    /// When there is no epoch left.
    pub fn after_takeover(&self, owner: Nonce) -> Result<(Self, Vec<ClosedEpoch>), EpochError> {
        let mut next =
            Self { revision: self.revision + 1, epoch: self.epoch.next()?, owner, ..self.clone() };
        // Only what the former epoch itself wrote can lie below its limit; an epoch that committed
        // no operation gets none, and so none of its operations counts.
        if self.committed.op.epoch() == Some(self.epoch) {
            next.recent.push(ClosedEpoch { epoch: self.epoch, last_committed: self.committed.op });
        }
        let surplus = next.recent.len().saturating_sub(RECENT_EPOCHS);
        let archived = next.recent.drain(..surplus).collect();
        Ok((next, archived))
    }

    /// The record after a commit. `visible` follows unless the gate holds it.
    #[must_use]
    pub fn after_commit(
        &self,
        committed: Committed,
        truncated: Vec<Truncation>,
        visibility_barrier: Option<Lsn>,
    ) -> Self {
        let is_delayed = visibility_barrier.is_some_and(|barrier| committed.lsn < barrier);
        let visible = if is_delayed {
            self.visible.clone()
        } else {
            let generation = self.generation;
            Some(Visible { at: committed, generation, truncated: truncated.clone() })
        };
        let visibility_barrier = visibility_barrier.filter(|_| is_delayed);
        Self {
            revision: self.revision + 1,
            committed,
            truncated,
            visible,
            visibility_barrier,
            ..self.clone()
        }
    }

    /// Which op ids count, given the archived epochs.
    #[must_use]
    pub fn committed_ops(&self, archived: &[ClosedEpoch]) -> CommittedOps {
        let closed = archived.iter().chain(&self.recent).copied().collect();
        CommittedOps::new(self.epoch, self.committed.op, closed)
    }
}

#[cfg(test)]
mod tests;
