//! Where a client starts in a bucket.

use tidewater_protocol::OpId;
use tidewater_storage::{Base, Catalog, CommittedOps};

/// What a client must be sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResumePoint<'a> {
    /// The log after this position.
    Log(OpId),
    /// The rest of a base, of which it has so many rows.
    Base(&'a Base, u64),
    /// The base, or the log from its beginning where there is none. Whatever the client holds is
    /// void: its position is of another history, or of one that is no longer kept.
    Restart,
}

/// Where a client that has everything up to `after` starts, if it is to reach `checkpoint`.
///
/// A position is ours if an operation with that id counts and is not ahead of the checkpoint. What
/// a crashed run wrote, or what a lost future of a restored store held, was never part of the
/// log that we serve: such a client may hold rows that we cannot take back one by one. Below the
/// catalog's floor the REMOVEs are gone that it may need.
pub(crate) fn resume_point<'a>(
    after: OpId,
    checkpoint: OpId,
    committed_ops: &CommittedOps,
    catalog: &'a Catalog,
) -> ResumePoint<'a> {
    if let Some((marker, rows)) = after.as_marker() {
        let base = catalog.base_of_marker(marker).filter(|base| u64::from(rows) <= base.rows);
        return base.map_or(ResumePoint::Restart, |base| ResumePoint::Base(base, rows.into()));
    }
    if after == OpId::ZERO {
        // With a base, or without the beginning of the log, there is nothing to begin it with.
        let whole = catalog.base.is_none() && catalog.floor == OpId::ZERO;
        return if whole { ResumePoint::Log(after) } else { ResumePoint::Restart };
    }
    let ours = after <= checkpoint && committed_ops.is_committed(after) && after >= catalog.floor;
    if ours { ResumePoint::Log(after) } else { ResumePoint::Restart }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_protocol::{Checksum, Epoch};
    use tidewater_storage::{ClosedEpoch, RetiredBase};

    fn op(epoch: u32, sequence: u64) -> OpId {
        OpId::new(Epoch::new(epoch).unwrap(), sequence)
    }

    fn base(to: OpId, marker: u32) -> Base {
        Base {
            to,
            checksum: Checksum::ZERO,
            remainder: Checksum::ZERO,
            rows: 100,
            count: 100,
            name: String::new(),
            marker,
            files: 0,
        }
    }

    fn check_in(catalog: &Catalog, after: OpId, expected: ResumePoint<'_>) {
        // Epoch 1 counts up to 10, epoch 2 never committed anything, epoch 3 is at work.
        let closed = vec![ClosedEpoch { epoch: Epoch::new(1).unwrap(), last_committed: op(1, 10) }];
        let committed_ops = CommittedOps::new(Epoch::new(3).unwrap(), op(3, 9), closed);
        assert_eq!(resume_point(after, op(3, 5), &committed_ops, catalog), expected, "{after}");
    }

    fn check(after: OpId, expected: ResumePoint<'_>) {
        check_in(&Catalog::default(), after, expected);
    }

    #[test]
    fn a_fresh_client_gets_the_log_from_the_beginning() {
        check(OpId::ZERO, ResumePoint::Log(OpId::ZERO));
    }

    #[test]
    fn a_position_of_our_history_gets_what_follows_it() {
        for ours in [op(1, 1), op(1, 10), op(3, 1), op(3, 5)] {
            check(ours, ResumePoint::Log(ours));
        }
    }

    #[test]
    fn a_position_of_a_crashed_run_is_foreign() {
        for dead in [op(1, 11), op(2, 1), op(2, 5)] {
            check(dead, ResumePoint::Restart);
        }
    }

    #[test]
    fn a_position_ahead_of_the_checkpoint_is_foreign() {
        // Committed but held, not committed, and of an epoch to come.
        for ahead in [op(3, 6), op(3, 9), op(3, 10), op(4, 1), op(4_000_000, 1)] {
            check(ahead, ResumePoint::Restart);
        }
    }

    #[test]
    fn what_is_no_op_id_is_foreign() {
        for id in [1, 5, 1 << 62, 4_808_963_628_793_332_012, i64::MAX] {
            check(OpId::from_i64(id).unwrap(), ResumePoint::Restart);
        }
    }

    #[test]
    fn a_fresh_client_and_one_below_the_floor_get_the_base() {
        let catalog =
            Catalog { floor: op(1, 8), base: Some(base(op(1, 9), 7)), ..Catalog::default() };
        for anew in [OpId::ZERO, op(1, 1), op(1, 7)] {
            check_in(&catalog, anew, ResumePoint::Restart);
        }
        for log in [op(1, 8), op(1, 9), op(3, 1)] {
            check_in(&catalog, log, ResumePoint::Log(log));
        }
    }

    #[test]
    fn a_client_in_the_middle_of_a_base_gets_the_rest_of_it() {
        let (new, old, oldest) = (base(op(3, 2), 7), base(op(1, 8), 6), base(op(1, 3), 5));
        let retired = [&oldest, &old].map(|base| RetiredBase { base: base.clone(), delete_at: 0 });
        let catalog = Catalog {
            floor: op(1, 8),
            base: Some(new.clone()),
            retired: retired.into(),
            ..Catalog::default()
        };
        check_in(&catalog, OpId::marker(7, 30), ResumePoint::Base(&new, 30));
        check_in(&catalog, OpId::marker(7, 100), ResumePoint::Base(&new, 100));
        check_in(&catalog, OpId::marker(6, 0), ResumePoint::Base(&old, 0));
        // More rows than there are; the log behind it is gone; no such base.
        for unknown in [OpId::marker(7, 101), OpId::marker(5, 30), OpId::marker(4, 30)] {
            check_in(&catalog, unknown, ResumePoint::Restart);
        }
    }
}
