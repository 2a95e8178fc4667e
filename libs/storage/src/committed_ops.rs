//! The set of committed operations.

use serde::{Deserialize, Serialize};
use tidewater_protocol::{Epoch, OpId};

/// A closed epoch and its last committed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// The last committed operation. Later operations of this epoch stay uncommitted for ever.
    #[serde(rename = "limit")]
    pub last_committed: OpId,
}

/// The set of committed operations.
///
/// An operation of the current epoch is committed up to the control record's `committed` op id, one
/// of a closed epoch up to the op id recorded for that epoch. An epoch without a record has
/// committed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOps {
    current: Epoch,
    committed: OpId,
    closed: Vec<ClosedEpoch>,
}

impl CommittedOps {
    /// Creates the set for the epoch `current`, which has committed up to `committed`. `closed`
    /// lists all epochs before it, in any order.
    #[must_use]
    pub fn new(current: Epoch, committed: OpId, mut closed: Vec<ClosedEpoch>) -> Self {
        closed.sort_unstable_by_key(|closed| closed.epoch);
        closed.dedup_by_key(|closed| closed.epoch);
        Self { current, committed, closed }
    }

    /// Returns whether the operation is committed.
    #[must_use]
    pub fn is_committed(&self, op: OpId) -> bool {
        let Some(epoch) = op.epoch() else { return false };
        if epoch == self.current {
            return op <= self.committed;
        }
        let found = self.closed.binary_search_by_key(&epoch, |closed| closed.epoch);
        found.is_ok_and(|index| op <= self.closed[index].last_committed)
    }

    /// Returns whether the current epoch wrote the operation, committed or not.
    #[must_use]
    pub fn is_from_current_epoch(&self, op: OpId) -> bool {
        op.epoch() == Some(self.current)
    }

    /// Returns the current epoch.
    #[must_use]
    pub const fn current_epoch(&self) -> Epoch {
        self.current
    }

    /// Returns the last committed operation of the current epoch.
    #[must_use]
    pub const fn last_committed(&self) -> OpId {
        self.committed
    }

    /// Records a further commit of the current epoch.
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

    /// Epoch 5 is current, 1 and 3 are closed; 2 and 4 committed nothing.
    fn committed_ops() -> CommittedOps {
        CommittedOps::new(epoch(5), op(5, 10), vec![closed(3, 7), closed(1, 2)])
    }

    #[test]
    fn the_current_epoch_is_committed_up_to_its_last_commit() {
        assert!(committed_ops().is_committed(op(5, 1)) && committed_ops().is_committed(op(5, 10)));
        assert!(!committed_ops().is_committed(op(5, 11)));
        assert!(committed_ops().is_from_current_epoch(op(5, 11)));
        let mut committed_ops = committed_ops();
        committed_ops.advance(op(5, 11));
        assert!(committed_ops.is_committed(op(5, 11)) && !committed_ops.is_committed(op(5, 12)));

        // A commit that is reported late does not lower the end.
        committed_ops.advance(op(5, 4));
        assert_eq!(committed_ops.last_committed(), op(5, 11));
    }

    #[test]
    fn a_closed_epoch_is_committed_up_to_its_recorded_operation() {
        assert!(committed_ops().is_committed(op(1, 2)) && committed_ops().is_committed(op(3, 7)));
        assert!(!committed_ops().is_committed(op(1, 3)) && !committed_ops().is_committed(op(3, 8)));
        assert!(!committed_ops().is_from_current_epoch(op(3, 7)));
    }

    #[test]
    fn an_epoch_without_a_record_has_no_committed_operation() {
        assert!(!committed_ops().is_committed(op(2, 0)) && !committed_ops().is_committed(op(4, 1)));
    }

    #[test]
    fn an_epoch_that_is_archived_and_recent_is_kept_once() {
        let committed_ops =
            CommittedOps::new(epoch(5), op(5, 10), vec![closed(3, 7), closed(1, 2), closed(3, 7)]);
        assert_eq!(committed_ops, self::committed_ops());
    }

    #[test]
    fn later_epochs_markers_and_zero_are_uncommitted() {
        assert!(!committed_ops().is_committed(op(6, 1)));
        assert!(!committed_ops().is_committed(OpId::from_i64(1 << 62).unwrap()));
        assert!(!committed_ops().is_committed(OpId::ZERO));
    }

    #[test]
    fn a_new_epoch_has_no_committed_operation_before_its_first_commit() {
        let committed_ops = CommittedOps::new(epoch(5), op(3, 7), vec![closed(3, 7)]);
        assert!(!committed_ops.is_committed(op(5, 1)));
        assert!(committed_ops.is_committed(op(3, 7)));
    }
}
