//! Which op ids count.

use serde::{Deserialize, Serialize};
use tidewater_protocol::{Epoch, OpId};

/// A closed epoch and the last of its operations that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// Later ones of this epoch are dead for ever.
    #[serde(rename = "limit")]
    pub last_committed: OpId,
}

/// Tells which operations count: those of the current epoch up to its committed one, and those of
/// a closed epoch up to its limit. An epoch without a recorded limit never committed anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOps {
    current: Epoch,
    committed: OpId,
    closed: Vec<ClosedEpoch>,
}

impl CommittedOps {
    /// The limits while `current` is at work and has committed up to `committed`; `closed` are all
    /// the epochs before it, in any order.
    #[must_use]
    pub fn new(current: Epoch, committed: OpId, mut closed: Vec<ClosedEpoch>) -> Self {
        closed.sort_unstable_by_key(|closed| closed.epoch);
        closed.dedup_by_key(|closed| closed.epoch);
        Self { current, committed, closed }
    }

    /// Whether the operation counts.
    #[must_use]
    pub fn is_committed(&self, op: OpId) -> bool {
        let Some(epoch) = op.epoch() else { return false };
        if epoch == self.current {
            return op <= self.committed;
        }
        let found = self.closed.binary_search_by_key(&epoch, |closed| closed.epoch);
        found.is_ok_and(|index| op <= self.closed[index].last_committed)
    }

    /// Whether the operation was written by the epoch at work, committed or not.
    #[must_use]
    pub fn is_from_current_epoch(&self, op: OpId) -> bool {
        op.epoch() == Some(self.current)
    }

    /// The epoch at work.
    #[must_use]
    pub const fn current_epoch(&self) -> Epoch {
        self.current
    }

    /// The last op id that it has committed.
    #[must_use]
    pub const fn last_committed(&self) -> OpId {
        self.committed
    }

    /// The same limits after a further commit of the same epoch.
    pub fn advance(&mut self, committed: OpId) {
        self.committed = self.committed.max(committed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u32) -> Epoch {
        Epoch::new(number).unwrap()
    }

    fn op(number: u32, sequence: u64) -> OpId {
        OpId::new(epoch(number), sequence)
    }

    fn closed(number: u32, sequence: u64) -> ClosedEpoch {
        ClosedEpoch { epoch: epoch(number), last_committed: op(number, sequence) }
    }

    /// Epoch 5 at work, 1 and 3 closed; 2 and 4 never committed anything.
    fn committed_ops() -> CommittedOps {
        CommittedOps::new(epoch(5), op(5, 10), vec![closed(3, 7), closed(1, 2)])
    }

    #[test]
    fn of_the_epoch_at_work_what_is_committed_counts() {
        assert!(committed_ops().is_committed(op(5, 1)) && committed_ops().is_committed(op(5, 10)));
        assert!(!committed_ops().is_committed(op(5, 11)));
        assert!(committed_ops().is_from_current_epoch(op(5, 11)));
        let mut committed_ops = committed_ops();
        committed_ops.advance(op(5, 11));
        assert!(committed_ops.is_committed(op(5, 11)) && !committed_ops.is_committed(op(5, 12)));
        // A commit that arrives late takes nothing back.
        committed_ops.advance(op(5, 4));
        assert_eq!(committed_ops.last_committed(), op(5, 11));
    }

    #[test]
    fn of_a_closed_epoch_what_is_within_its_limit_counts() {
        assert!(committed_ops().is_committed(op(1, 2)) && committed_ops().is_committed(op(3, 7)));
        assert!(!committed_ops().is_committed(op(1, 3)) && !committed_ops().is_committed(op(3, 8)));
        assert!(!committed_ops().is_from_current_epoch(op(3, 7)));
    }

    #[test]
    fn of_an_epoch_without_limit_nothing_counts() {
        assert!(!committed_ops().is_committed(op(2, 0)) && !committed_ops().is_committed(op(4, 1)));
    }

    #[test]
    fn an_epoch_that_is_archived_and_still_recent_counts_once() {
        let committed_ops =
            CommittedOps::new(epoch(5), op(5, 10), vec![closed(3, 7), closed(1, 2), closed(3, 7)]);
        assert_eq!(committed_ops, self::committed_ops());
    }

    #[test]
    fn of_later_epochs_and_markers_nothing_counts() {
        assert!(!committed_ops().is_committed(op(6, 1)));
        assert!(!committed_ops().is_committed(OpId::from_i64(1 << 62).unwrap()));
        assert!(!committed_ops().is_committed(OpId::ZERO));
    }

    #[test]
    fn nothing_of_a_new_epoch_counts_before_its_first_commit() {
        let committed_ops = CommittedOps::new(epoch(5), op(3, 7), vec![closed(3, 7)]);
        assert!(!committed_ops.is_committed(op(5, 1)));
        assert!(committed_ops.is_committed(op(3, 7)));
    }
}
