//! The state machine of one stream: what the client knows, and what it must be sent. No I/O.
//!
//! The connection reads the store and hands the results to this state, which returns the lines to
//! write. The invariants:
//!
//! - The client knows exactly `buckets`, each with the description last announced. Every change goes
//!   through [`CheckpointState::replace_buckets`], whose difference is announced in full.
//! - `announced` never moves back, and all buckets end at heads of that one checkpoint.
//! - A checkpoint is completed only after every bucket that was behind has reached its head.

use std::collections::HashMap;
use std::sync::Arc;

use tidewater_protocol::{
    Checkpoint, CheckpointComplete, CheckpointDiff, OpId, PartialCheckpointComplete,
    StreamDescription, SyncLine,
};
use tidewater_storage::{BucketKey, ChangeName, CommittedOps, WriteRequests};

use super::bucket_cursor::BucketCursor;
use super::send_plan::SendPlan;
use crate::checkpoint::{BucketState, CheckpointId, ReadableBucket};

/// The state of one stream.
pub(super) struct CheckpointState {
    /// The last checkpoint that was announced to the client.
    announced: CheckpointId,
    /// The greatest write-checkpoint number that was acknowledged to the client.
    acknowledged: Option<i64>,
    /// Set if the client waits for a greater number.
    has_outstanding_request: bool,
    /// The announced buckets, by name.
    buckets: Vec<BucketCursor>,
    /// Set if a bucket's description has changed, which the client learns with the bucket's next content.
    has_other_descriptions: bool,
    /// The rest of the announced checkpoint that must be sent; `None` once it is complete.
    plan: Option<Box<SendPlan>>,
}

/// The meaning of a newer view for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Movement {
    /// Nothing that the client sees has changed.
    None,
    /// Write checkpoints may have been reached. The buckets are the same.
    Ticket,
    /// There are new operations: the buckets must be read again.
    Operations,
    /// The buckets belong to another generation, or the store went back to an older state. The
    /// client must connect again.
    Replaced,
}

/// The difference between the buckets of two checkpoints.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct BucketDiff {
    /// Indices of buckets that are new or have other content.
    updated: Vec<usize>,
    /// Names of buckets that the client may no longer read.
    removed: Vec<String>,
}

/// Buckets of a stream, by their places in its list.
#[derive(Default)]
pub(super) struct NamedBuckets {
    pub(super) indices: Vec<usize>,
    /// The buckets' keys, in the same order.
    pub(super) keys: Vec<BucketKey>,
}

impl CheckpointState {
    /// Creates the state of a client that sent these positions, by bucket name.
    pub(super) fn new(
        checkpoint: CheckpointId,
        committed_ops: &CommittedOps,
        readable: Vec<ReadableBucket>,
        mut positions: HashMap<String, OpId>,
        requests: &WriteRequests,
    ) -> Self {
        let mut buckets = Vec::with_capacity(readable.len());
        for bucket in readable {
            let after = positions.remove(&bucket.name).unwrap_or(OpId::ZERO);
            buckets.push(BucketCursor::new(bucket, after, checkpoint.op, committed_ops));
        }
        buckets.sort_by(|a, b| a.name.cmp(&b.name));

        let mut state = Self {
            announced: checkpoint,
            acknowledged: None,
            has_outstanding_request: false,
            buckets,
            has_other_descriptions: false,
            plan: None,
        };
        state.note_requests(requests);
        state
    }

    /// Announces the first checkpoint, and plans to send it.
    pub(super) fn announce_first(
        &mut self,
        streams: Vec<StreamDescription>,
        committed_ops: &Arc<CommittedOps>,
    ) -> SyncLine<'static> {
        self.plan_send(committed_ops);
        SyncLine::Checkpoint(Checkpoint {
            last_op_id: self.announced.op,
            write_checkpoint: self.write_checkpoint(),
            buckets: self.buckets.iter().map(BucketCursor::describe).collect(),
            streams,
        })
    }

    /// Returns what a newer view means to the client.
    pub(super) fn movement_to(&self, newer: CheckpointId) -> Movement {
        let announced = &self.announced;
        if newer.generation != announced.generation || newer.op < announced.op {
            Movement::Replaced
        } else if newer.op > announced.op {
            Movement::Operations
        } else if newer.ticket != announced.ticket {
            Movement::Ticket
        } else {
            Movement::None
        }
    }

    /// Replaces the buckets by those of a newer checkpoint. Buckets that remain keep their
    /// positions, which are valid at any later checkpoint of the generation.
    pub(super) fn replace_buckets(&mut self, readable: Vec<ReadableBucket>) -> BucketDiff {
        let mut former: HashMap<String, BucketCursor> =
            self.buckets.drain(..).map(|bucket| (bucket.name.clone(), bucket)).collect();

        self.has_other_descriptions = false;
        let mut buckets = Vec::with_capacity(readable.len());
        for bucket in readable {
            match former.remove(&bucket.name) {
                Some(mut cursor) => {
                    let is_described = cursor.is_described_as(&bucket);
                    let has_changed = cursor.update(bucket);
                    self.has_other_descriptions |= !is_described && !has_changed;
                    buckets.push((cursor, has_changed));
                }
                None => buckets.push((BucketCursor::from_start(bucket), true)),
            }
        }
        buckets.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));

        let mut diff = BucketDiff::default();
        for (index, (cursor, has_changed)) in buckets.into_iter().enumerate() {
            self.buckets.push(cursor);
            if has_changed {
                diff.updated.push(index);
            }
        }
        // The client may no longer read what is left over.
        diff.removed = former.into_keys().collect();
        diff.removed.sort_unstable();
        diff
    }

    /// Returns the buckets that have these names in commits; `None` if their states alone do not tell how
    /// to describe them.
    pub(super) fn buckets_named(&self, names: &[ChangeName]) -> Option<NamedBuckets> {
        if self.has_other_descriptions {
            return None;
        }

        let mut named = NamedBuckets::default();
        for (index, bucket) in self.buckets.iter().enumerate() {
            if names.contains(&ChangeName::of_bucket(&bucket.key)) {
                named.indices.push(index);
                named.keys.push(bucket.key.clone());
            }
        }
        Some(named)
    }

    /// Moves buckets to their states at a newer checkpoint, at which the others are the same.
    pub(super) fn update_buckets(
        &mut self,
        indices: &[usize],
        states: Vec<BucketState>,
    ) -> BucketDiff {
        let mut diff = BucketDiff::default();
        for (&index, state) in indices.iter().zip(states) {
            if self.buckets[index].update_state(state.head, state.catalog) {
                diff.updated.push(index);
            }
        }
        diff
    }

    /// Announces a newer checkpoint whose buckets differ by `diff` from the announced ones, and
    /// plans to send it. `requests` are the client's write-checkpoint requests, if the ticket has
    /// moved. Returns no line if nothing changed for the client.
    pub(super) fn announce(
        &mut self,
        newer: CheckpointId,
        diff: BucketDiff,
        requests: Option<&WriteRequests>,
        committed_ops: &Arc<CommittedOps>,
    ) -> Option<SyncLine<'static>> {
        // The requests are compared with the ticket of the newer checkpoint.
        let acknowledged_before = self.acknowledged;
        self.announced = newer;
        if let Some(requests) = requests {
            self.note_requests(requests);
        }

        let has_news = !diff.updated.is_empty()
            || !diff.removed.is_empty()
            || self.acknowledged != acknowledged_before;
        // A client that is still receiving the former checkpoint gets the line in any case: the
        // completion will name the newer op id.
        if !has_news && self.plan.is_none() {
            return None;
        }

        self.plan_send(committed_ops);
        let updated = diff.updated.iter();
        Some(SyncLine::CheckpointDiff(CheckpointDiff {
            last_op_id: self.announced.op,
            write_checkpoint: self.write_checkpoint(),
            updated_buckets: updated.map(|&index| self.buckets[index].describe()).collect(),
            removed_buckets: diff.removed,
        }))
    }

    /// Plans to send what the client lacks of the announced checkpoint. The number of failed
    /// attempts is kept: it is limited for the way to a completion, not for each plan.
    pub(super) fn plan_send(&mut self, committed_ops: &Arc<CommittedOps>) {
        let attempts = self.plan.as_ref().map_or(0, |plan| plan.attempts);
        let plan = SendPlan::new(&self.buckets, Arc::clone(committed_ops));
        self.plan = Some(Box::new(SendPlan { attempts, ..plan }));
    }

    /// Returns the bucket to send next, with the plan; `None` if all buckets have been sent.
    pub(super) fn next_to_send(&mut self) -> Option<(&mut SendPlan, &mut BucketCursor)> {
        let plan = self.plan.as_mut()?;
        let index = *plan.queue.front()?;
        Some((plan, &mut self.buckets[index]))
    }

    /// Moves to the next bucket. Returns the line that completes a priority, if the next bucket
    /// is less urgent.
    pub(super) fn finish_bucket(&mut self) -> Option<SyncLine<'static>> {
        let plan = self.plan.as_mut()?;
        let finished = *plan.queue.front()?;
        let next = plan.next_bucket(&self.buckets)?;

        // The queue is ordered by priority, so nothing of this priority follows.
        let priority = self.buckets[finished].priority;
        if self.buckets[next].priority == priority {
            return None;
        }
        Some(SyncLine::PartialCheckpointComplete(PartialCheckpointComplete {
            last_op_id: self.announced.op,
            priority,
        }))
    }

    /// Completes the announced checkpoint, of which everything has been sent.
    pub(super) fn complete(&mut self) -> SyncLine<'static> {
        debug_assert!(
            !self.buckets.iter().any(BucketCursor::is_behind),
            "a checkpoint is completed once every bucket has reached its head"
        );
        self.plan = None;
        SyncLine::CheckpointComplete(CheckpointComplete { last_op_id: self.announced.op })
    }

    /// Counts a failed read on the way to the announced checkpoint. Returns the number of failures.
    pub(super) fn count_failed_read(&mut self) -> u32 {
        match &mut self.plan {
            Some(plan) => {
                plan.attempts += 1;
                plan.attempts
            }
            None => 0,
        }
    }

    /// Returns the name of the bucket that is being sent.
    pub(super) fn current_bucket(&self) -> Option<String> {
        let index = *self.plan.as_ref()?.queue.front()?;
        Some(self.buckets[index].name.clone())
    }

    /// Restarts a bucket if what the client was receiving of it is gone.
    pub(super) fn restart_bucket_if_lost(&mut self, name: &str) {
        let found = self.buckets.iter_mut().find(|bucket| bucket.name == name);
        if let Some(bucket) = found {
            bucket.restart_if_lost();
        }
    }

    /// Returns whether something is still to be sent of the announced checkpoint.
    pub(super) fn is_sending(&self) -> bool {
        self.plan.is_some()
    }

    /// Returns the last checkpoint that was announced to the client.
    pub(super) fn announced(&self) -> CheckpointId {
        self.announced
    }

    /// Returns whether the client waits for a write checkpoint.
    pub(super) fn has_outstanding_request(&self) -> bool {
        self.has_outstanding_request
    }

    /// Returns the number of buckets.
    pub(super) fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    fn note_requests(&mut self, requests: &WriteRequests) {
        let covered = requests.acknowledged(self.announced.ticket);
        // The stored record forgets old requests. What was acknowledged once stays acknowledged.
        self.acknowledged = self.acknowledged.max(covered);
        self.has_outstanding_request = requests.last_number() > self.acknowledged.unwrap_or(0);
    }

    fn write_checkpoint(&self) -> Option<OpId> {
        self.acknowledged.and_then(OpId::from_i64)
    }
}

#[cfg(test)]
mod tests;
