//! Where a client starts in a bucket.

use tidewater_protocol::OpId;
use tidewater_storage::Limits;

/// What a client must be sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The log after this position.
    Log(OpId),
    /// A CLEAR that voids whatever it holds, then the log from the beginning: its position is of
    /// another history.
    Clear,
}

/// Where a client that has everything up to `after` starts, if it is to reach `checkpoint`.
///
/// A position is ours if an operation with that id counts and is not ahead of the checkpoint. What
/// a crashed run wrote, or what a lost future of a restored store held, was never part of the
/// log that we serve: such a client may hold rows that we cannot take back one by one.
pub(crate) fn start(after: OpId, checkpoint: OpId, limits: &Limits) -> Start {
    let ours = after == OpId::ZERO || (after <= checkpoint && limits.live(after));
    if ours { Start::Log(after) } else { Start::Clear }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_protocol::Epoch;
    use tidewater_storage::ClosedEpoch;

    fn op(epoch: u32, sequence: u64) -> OpId {
        OpId::new(Epoch::new(epoch).unwrap(), sequence)
    }

    fn check(after: OpId, expected: Start) {
        // Epoch 1 counts up to 10, epoch 2 never committed anything, epoch 3 is at work.
        let closed = vec![ClosedEpoch { epoch: Epoch::new(1).unwrap(), limit: op(1, 10) }];
        let limits = Limits::new(Epoch::new(3).unwrap(), op(3, 9), closed);
        assert_eq!(start(after, op(3, 5), &limits), expected, "{after}");
    }

    #[test]
    fn a_fresh_client_gets_the_log_from_the_beginning() {
        check(OpId::ZERO, Start::Log(OpId::ZERO));
    }

    #[test]
    fn a_position_of_our_history_gets_what_follows_it() {
        for ours in [op(1, 1), op(1, 10), op(3, 1), op(3, 5)] {
            check(ours, Start::Log(ours));
        }
    }

    #[test]
    fn a_position_of_a_crashed_run_is_foreign() {
        for dead in [op(1, 11), op(2, 1), op(2, 5)] {
            check(dead, Start::Clear);
        }
    }

    #[test]
    fn a_position_ahead_of_the_checkpoint_is_foreign() {
        // Committed but held, not committed, and of an epoch to come.
        for ahead in [op(3, 6), op(3, 9), op(3, 10), op(4, 1), op(4_000_000, 1)] {
            check(ahead, Start::Clear);
        }
    }

    #[test]
    fn what_is_no_op_id_is_foreign() {
        for id in [1, 5, 1 << 62, 4_808_963_628_793_332_012, i64::MAX] {
            check(OpId::from_i64(id).unwrap(), Start::Clear);
        }
    }
}
