//! The point from which a client resumes in a bucket.

use tidewater_protocol::OpId;
use tidewater_storage::{Base, Catalog, CommittedOps};

/// The first thing that a client must be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResumePoint<'a> {
    /// The log after this position.
    Log(OpId),
    /// The rest of a base, of which the client has this many rows.
    Base(&'a Base, u64),
    /// The base, or the whole log if there is none. The rows that the client has are void: its
    /// position belongs to another history, or to one that is no longer stored.
    Restart,
}

/// Returns where a client resumes that has everything up to `after`, so that it reaches
/// `checkpoint`.
///
/// A position is valid if its operation is committed and not ahead of the checkpoint. A crashed run,
/// or the lost future of a restored store, was never part of the served log. A client from there may
/// have rows that single REMOVEs cannot take back. A position below the catalog's floor is not valid
/// either, because the REMOVEs behind it may have been deleted.
pub(super) fn resume_point<'a>(
    after: OpId,
    checkpoint: OpId,
    committed_ops: &CommittedOps,
    catalog: &'a Catalog,
) -> ResumePoint<'a> {
    if let Some((marker, rows)) = after.as_marker() {
        let base = catalog.base_of_marker(marker).filter(|base| u64::from(rows) <= base.rows);
        return base.map_or(ResumePoint::Restart, |base| ResumePoint::Base(base, u64::from(rows)));
    }

    if after == OpId::ZERO {
        return from_start(catalog);
    }

    let is_valid =
        after <= checkpoint && committed_ops.is_committed(after) && after >= catalog.floor;
    if is_valid { ResumePoint::Log(after) } else { ResumePoint::Restart }
}

/// Returns where a client starts that has nothing of the bucket.
pub(super) fn from_start(catalog: &Catalog) -> ResumePoint<'_> {
    // The log alone is complete only if nothing was ever deleted from it.
    let is_log_complete = catalog.base.is_none() && catalog.floor == OpId::ZERO;
    if is_log_complete { ResumePoint::Log(OpId::ZERO) } else { ResumePoint::Restart }
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
            frames: 1,
        }
    }

    fn check_in(catalog: &Catalog, after: OpId, expected: ResumePoint<'_>) {
        // Epoch 1 is committed up to 10, epoch 2 committed nothing, epoch 3 is current.
        let closed = vec![ClosedEpoch { epoch: Epoch::new(1).unwrap(), last_committed: op(1, 10) }];
        let committed_ops = CommittedOps::new(Epoch::new(3).unwrap(), op(3, 9), closed);
        assert_eq!(resume_point(after, op(3, 5), &committed_ops, catalog), expected, "{after}");
    }

    fn check(after: OpId, expected: ResumePoint<'_>) {
        check_in(&Catalog::default(), after, expected);
    }

    #[test]
    fn a_client_without_a_position_gets_the_whole_log() {
        check(OpId::ZERO, ResumePoint::Log(OpId::ZERO));
    }

    #[test]
    fn a_committed_position_resumes_in_the_log() {
        for committed in [op(1, 1), op(1, 10), op(3, 1), op(3, 5)] {
            check(committed, ResumePoint::Log(committed));
        }
    }

    #[test]
    fn a_position_of_a_crashed_run_restarts() {
        for uncommitted in [op(1, 11), op(2, 1), op(2, 5)] {
            check(uncommitted, ResumePoint::Restart);
        }
    }

    #[test]
    fn a_position_ahead_of_the_checkpoint_restarts() {
        // Committed but not visible, uncommitted, and of a future epoch.
        for ahead in [op(3, 6), op(3, 9), op(3, 10), op(4, 1), op(4_000_000, 1)] {
            check(ahead, ResumePoint::Restart);
        }
    }

    #[test]
    fn a_number_that_is_no_op_id_restarts() {
        for id in [1, 5, 1 << 62, 4_808_963_628_793_332_012, i64::MAX] {
            check(OpId::from_i64(id).unwrap(), ResumePoint::Restart);
        }
    }

    #[test]
    fn clients_without_a_position_or_below_the_floor_get_the_base() {
        let catalog =
            Catalog { floor: op(1, 8), base: Some(base(op(1, 9), 7)), ..Catalog::default() };
        for below in [OpId::ZERO, op(1, 1), op(1, 7)] {
            check_in(&catalog, below, ResumePoint::Restart);
        }
        for log in [op(1, 8), op(1, 9), op(3, 1)] {
            check_in(&catalog, log, ResumePoint::Log(log));
        }
    }

    #[test]
    fn a_client_in_the_middle_of_a_base_gets_the_rest_of_it() {
        let new = base(op(3, 2), 7);
        let old = base(op(1, 8), 6);
        let oldest = base(op(1, 3), 5);
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

        // More rows than the base has; a base whose following log is deleted; an unknown base.
        for unknown in [OpId::marker(7, 101), OpId::marker(5, 30), OpId::marker(4, 30)] {
            check_in(&catalog, unknown, ResumePoint::Restart);
        }
    }
}
