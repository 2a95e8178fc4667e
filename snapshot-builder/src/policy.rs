//! The policy of compaction: pure functions of a bucket's head, its catalog and the time.

use tidewater_protocol::OpId;
use tidewater_storage::{Base, BucketHead, Catalog, RetiredBase, TimedOp};

use crate::options::Options;

/// Divisor of a base's rows: a new base is built when the log behind the old one has grown to a quarter of
/// its rows. So the work of rebuilding is at most four times that of the changes.
const GROWTH_DIVISOR: u64 = 4;
/// Multiple of the threshold: a bucket whose log is that long gets a base even with few rows. Otherwise
/// every new device would replay the whole log of a row that changes all day.
const LONG_LOG: u64 = 10;
/// Maximum number of replaced bases that wait for their deletion. The catalog is part of the bucket's item,
/// which must stay small.
const RETIRED_MAX: usize = 8;
/// Maximum number of ranges of the log that wait for their deletion, for the same reason.
const COVERED_MAX: usize = 16;
/// Number of steps per horizon in which the floor rises. It bounds the marks in the catalog; the log is
/// kept for up to a sixteenth of the horizon longer.
const HORIZON_STEPS: u64 = 16;

/// The objects and segments that have expired. The catalog names them until they are deleted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) bases: Vec<Base>,
    /// Last operation up to which the log has expired.
    pub(crate) segments: Option<OpId>,
}

/// Returns whether a bucket has enough operations that are not in a base to be read for a new one.
pub(crate) fn wants_base(head: &BucketHead, catalog: &Catalog, options: &Options) -> bool {
    let Some(base) = &catalog.base else { return head.count >= options.threshold.max(1) };
    let grown = head.count.saturating_sub(base.count);
    grown >= options.threshold.max(base.rows / GROWTH_DIVISOR).max(1)
}

/// Returns whether a new base has to wait until replaced ones are deleted.
pub(crate) fn must_wait(catalog: &Catalog) -> bool {
    catalog.retired.len() >= RETIRED_MAX
}

/// Returns whether a base with this number of rows is worth publishing.
pub(crate) fn is_worth(rows: u64, head: &BucketHead, catalog: &Catalog, options: &Options) -> bool {
    rows >= options.threshold
        || catalog.base.is_some()
        || head.count >= options.threshold.max(1).saturating_mul(LONG_LOG)
}

/// Returns the catalog with a new base. The replaced one expires after the grace period.
pub(crate) fn published(old: &Catalog, base: Base, now: u64, options: &Options) -> Catalog {
    let mut next = old.clone();
    let mark = TimedOp { op: base.to, time: now };
    if let Some(base) = next.base.replace(base) {
        let delete_at = now.saturating_add(options.grace.as_secs());
        next.retired.push(RetiredBase { base, delete_at });
    }

    let step = options.horizon.as_secs() / HORIZON_STEPS;
    if next.published.last().is_none_or(|last| now >= last.time.saturating_add(step)) {
        next.published.push(mark);
    }
    advance_floor(&next, now, options)
}

/// Returns the catalog with its floor at the newest base that is older than the horizon. The log up to the
/// floor expires after the grace period.
pub(crate) fn advance_floor(old: &Catalog, now: u64, options: &Options) -> Catalog {
    let mut next = old.clone();
    if next.covered.len() >= COVERED_MAX {
        return next;
    }
    let horizon = options.horizon.as_secs();
    let newest_old =
        next.published.iter().copied().rfind(|mark| mark.time.saturating_add(horizon) <= now);
    let Some(mark) = newest_old else { return next };

    next.published.retain(|other| other.op > mark.op);
    if mark.op > next.floor {
        next.floor = mark.op;
        let time = now.saturating_add(options.grace.as_secs());
        next.covered.push(TimedOp { op: mark.op, time });
    }
    next
}

/// Returns what has expired, and the catalog without it.
pub(crate) fn split_expired(old: &Catalog, now: u64) -> (Expired, Catalog) {
    let mut next = old.clone();
    let (bases, retired): (Vec<RetiredBase>, Vec<RetiredBase>) =
        next.retired.into_iter().partition(|retired| retired.delete_at <= now);
    next.retired = retired;
    let (segments, covered): (Vec<TimedOp>, Vec<TimedOp>) =
        next.covered.into_iter().partition(|mark| mark.time <= now);
    next.covered = covered;

    let bases = bases.into_iter().map(|retired| retired.base).collect();
    let segments = segments.iter().map(|mark| mark.op).max();
    (Expired { bases, segments }, next)
}

/// Returns the time at which the bucket is due again even if nothing is written to it.
pub(crate) fn next_due_at(catalog: &Catalog, options: &Options) -> Option<u64> {
    let retired = catalog.retired.iter().map(|retired| retired.delete_at);
    let covered = catalog.covered.iter().map(|mark| mark.time);
    let horizon = options.horizon.as_secs();
    let marks = catalog.published.iter().map(|mark| mark.time.saturating_add(horizon));
    retired.chain(covered).chain(marks).min()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidewater_protocol::{Checksum, Epoch};

    use super::*;

    const DAY: u64 = 24 * 3_600;
    const NOW: u64 = 1_800_000_000;

    fn op(sequence: u64) -> OpId {
        OpId::new(Epoch::new(1).unwrap(), sequence)
    }

    fn base(to: u64, rows: u64) -> Base {
        Base {
            to: op(to),
            checksum: Checksum::ZERO,
            remainder: Checksum::ZERO,
            rows,
            count: to,
            name: to.to_string(),
            marker: 0,
            files: 0,
            frames: 1,
        }
    }

    fn head(count: u64) -> BucketHead {
        BucketHead { last: op(count), sum: Checksum::ZERO, count }
    }

    fn options() -> Options {
        Options { threshold: 100, ..Options::default() }
    }

    fn check(count: u64, base: Option<Base>, expected: bool) {
        let catalog = Catalog { base, ..Catalog::default() };
        assert_eq!(wants_base(&head(count), &catalog, &options()), expected, "{count}");
    }

    #[test]
    fn a_base_is_wanted_at_the_threshold_and_after_growth_by_a_quarter() {
        check(99, None, false);
        check(100, None, true);
        check(1_000, Some(base(1_000, 1_000)), false);
        check(1_249, Some(base(1_000, 1_000)), false);
        check(1_250, Some(base(1_000, 1_000)), true);
        // A quarter of a small base is below the threshold, so the threshold counts.
        check(209, Some(base(110, 110)), false);
        check(210, Some(base(110, 110)), true);
    }

    #[test]
    fn a_bucket_with_few_rows_gets_a_base_only_after_a_long_history() {
        let none = Catalog::default();
        assert!(is_worth(100, &head(100), &none, &options()));
        assert!(!is_worth(99, &head(999), &none, &options()));
        assert!(is_worth(1, &head(1_000), &none, &options()));
        // A base that exists is replaced even if rows were removed.
        let some = Catalog { base: Some(base(100, 100)), ..none };
        assert!(is_worth(0, &head(300), &some, &options()));
    }

    #[test]
    fn a_replaced_base_is_deleted_after_the_grace_period() {
        let first = published(&Catalog::default(), base(5, 5), NOW, &options());
        assert_eq!((first.floor, first.retired.len()), (OpId::ZERO, 0));
        let second = published(&first, base(9, 9), NOW + 60, &options());
        assert_eq!(second.base, Some(base(9, 9)));
        let delete_at = NOW + 60 + DAY;
        assert_eq!(second.retired, [RetiredBase { base: base(5, 5), delete_at }]);
        let (expired, kept) = split_expired(&second, delete_at - 1);
        assert_eq!((expired.bases.len(), kept), (0, second.clone()));
        let (expired, kept) = split_expired(&second, delete_at);
        assert_eq!((expired.bases, kept.retired.len()), (vec![base(5, 5)], 0));
    }

    #[test]
    fn the_log_below_a_base_expires_after_horizon_and_grace_period() {
        let catalog = published(&Catalog::default(), base(5, 5), NOW, &options());
        assert_eq!(next_due_at(&catalog, &options()), Some(NOW + 7 * DAY));
        let early = advance_floor(&catalog, NOW + 7 * DAY - 1, &options());
        assert_eq!((early.floor, early.covered.len()), (OpId::ZERO, 0));
        let now = NOW + 7 * DAY;
        let late = advance_floor(&catalog, now, &options());
        assert_eq!((late.floor, late.published.len()), (op(5), 0));
        assert_eq!(split_expired(&late, now + DAY - 1).0.segments, None);
        let (expired, kept) = split_expired(&late, now + DAY);
        assert_eq!((expired.segments, next_due_at(&kept, &options())), (Some(op(5)), None));
    }

    #[test]
    fn the_floor_never_rises_above_the_base() {
        let mut catalog = Catalog::default();
        for (step, to) in (1..=200).enumerate() {
            let now = NOW + step as u64 * 3_600;
            catalog = published(&catalog, base(to, to), now, &options());
            let (_, kept) = split_expired(&catalog, now);
            catalog = kept;

            assert!(catalog.floor <= op(to));
            let oldest = catalog.retired.iter().map(|retired| retired.base.to).min();
            // Each base that readers may still use has the log after it, or is below the floor.
            assert!(oldest.is_none_or(|to| to <= op(200)));
            assert!(catalog.published.len() <= 17 && catalog.covered.len() <= COVERED_MAX);
        }

        // 200 hours: floors of up to 168 hours ago, which is step 31 and a mark each 10.5 hours.
        assert!(catalog.floor >= op(20) && catalog.floor <= op(32));
    }

    #[test]
    fn without_a_horizon_the_floor_rises_to_the_base_at_once() {
        let options = Options { horizon: Duration::ZERO, grace: Duration::ZERO, ..options() };
        let catalog = published(&Catalog::default(), base(5, 5), NOW, &options);
        assert_eq!(catalog.floor, op(5));
        assert_eq!(split_expired(&catalog, NOW).0.segments, Some(op(5)));
    }

    #[test]
    fn a_catalog_stays_small_however_often_bases_are_made() {
        let mut catalog = Catalog::default();
        let mut waits = 0;
        for to in 1..=1_000 {
            if must_wait(&catalog) {
                waits += 1;
            } else {
                catalog = published(&catalog, base(to, to), NOW + to, &options());
            }
            assert!(catalog.retired.len() <= RETIRED_MAX);
        }
        assert!(waits > 900);
    }
}
