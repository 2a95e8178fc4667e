//! What to do with a bucket, decided from its head and catalog alone.

use tidewater_storage::{Base, BucketHead, Catalog, RetiredBase, TimedOp};

use crate::options::Options;

/// A base is made anew once the log behind it has grown to this part of its rows.
const GROWTH_DIVISOR: u64 = 4;
/// A bucket of few rows gets a base too once its log is this many times the threshold: else
/// a counter that is written all day would be replayed whole by every new device.
const LONG_LOG: u64 = 10;
/// The catalog is part of an item that stays small: so many bases wait for their deletion.
const RETIRED_MAX: usize = 8;
/// So many stretches of the log wait for theirs.
const COVERED_MAX: usize = 16;
/// The horizon is divided into so many steps by which the floor rises.
const HORIZON_STEPS: u64 = 16;

/// What must be deleted now; the catalog no longer names it once that is done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trash {
    pub(crate) bases: Vec<Base>,
    pub(crate) segments: Option<tidewater_protocol::OpId>,
}

/// Whether a bucket's rows are worth being read for a base.
pub(crate) fn wants_base(head: &BucketHead, catalog: &Catalog, options: &Options) -> bool {
    let Some(base) = &catalog.base else { return head.count >= options.threshold.max(1) };
    let grown = head.count.saturating_sub(base.count);
    grown >= options.threshold.max(base.rows / GROWTH_DIVISOR).max(1)
}

/// Whether a base that is wanted has to wait for former ones to be deleted.
pub(crate) fn must_wait(catalog: &Catalog) -> bool {
    catalog.retired.len() >= RETIRED_MAX
}

/// Whether a base of so many rows is worth being published.
pub(crate) fn is_worth(rows: u64, head: &BucketHead, catalog: &Catalog, options: &Options) -> bool {
    rows >= options.threshold
        || catalog.base.is_some()
        || head.count >= options.threshold.max(1).saturating_mul(LONG_LOG)
}

/// The catalog with a new base.
pub(crate) fn published(old: &Catalog, base: Base, now: u64, options: &Options) -> Catalog {
    let mut next = old.clone();
    let mark = TimedOp { op: base.to, time: now };
    if let Some(base) = next.base.replace(base) {
        let delete_at = now.saturating_add(options.grace.as_secs());
        next.retired.push(RetiredBase { base, delete_at });
    }
    let step = options.horizon.as_secs() / HORIZON_STEPS;
    let is_due = |last: &TimedOp| now >= last.time.saturating_add(step);
    if next.published.last().is_none_or(is_due) {
        next.published.push(mark);
    }
    aged(&next, now, options)
}

/// The catalog after so much time: its floor rises to the last base that is older than the
/// horizon.
pub(crate) fn aged(old: &Catalog, now: u64, options: &Options) -> Catalog {
    let mut next = old.clone();
    let is_old = |mark: &&TimedOp| mark.time.saturating_add(options.horizon.as_secs()) <= now;
    let last = next.published.iter().copied().rfind(|mark| is_old(&mark));
    let Some(mark) = last.filter(|_| next.covered.len() < COVERED_MAX) else { return next };
    next.published.retain(|other| other.op > mark.op);
    if mark.op > next.floor {
        next.floor = mark.op;
        let time = now.saturating_add(options.grace.as_secs());
        next.covered.push(TimedOp { op: mark.op, time });
    }
    next
}

/// What is to be deleted now, and the catalog without it.
pub(crate) fn emptied(old: &Catalog, now: u64) -> (Trash, Catalog) {
    let mut next = old.clone();
    let (gone, kept) = next.retired.into_iter().partition(|retired| retired.delete_at <= now);
    next.retired = kept;
    let (covered, waiting): (Vec<_>, _) =
        next.covered.into_iter().partition(|mark| mark.time <= now);
    next.covered = waiting;
    let gone: Vec<RetiredBase> = gone;
    let bases = gone.into_iter().map(|retired| retired.base).collect();
    (Trash { bases, segments: covered.iter().map(|mark| mark.op).max() }, next)
}

/// When to look at the bucket again although nothing is written to it.
pub(crate) fn next_look(catalog: &Catalog, options: &Options) -> Option<u64> {
    let retired = catalog.retired.iter().map(|retired| retired.delete_at);
    let covered = catalog.covered.iter().map(|mark| mark.time);
    let horizon = options.horizon.as_secs();
    let marks = catalog.published.iter().map(|mark| mark.time.saturating_add(horizon));
    retired.chain(covered).chain(marks).min()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidewater_protocol::{Checksum, Epoch, OpId};

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
        }
    }

    fn head(count: u64) -> BucketHead {
        BucketHead { last: op(count), sum: Checksum::ZERO, count }
    }

    fn options() -> Options {
        Options { threshold: 100, ..Options::default() }
    }

    #[test]
    fn a_bucket_is_read_when_it_may_hold_enough_rows_or_has_grown_by_a_quarter() {
        let check = |count, base: Option<Base>, expected| {
            let catalog = Catalog { base, ..Catalog::default() };
            assert_eq!(wants_base(&head(count), &catalog, &options()), expected, "{count}");
        };
        check(99, None, false);
        check(100, None, true);
        check(1_000, Some(base(1_000, 1_000)), false);
        check(1_249, Some(base(1_000, 1_000)), false);
        check(1_250, Some(base(1_000, 1_000)), true);
        // A small base waits for the threshold.
        check(209, Some(base(110, 110)), false);
        check(210, Some(base(110, 110)), true);
    }

    #[test]
    fn few_rows_are_worth_a_base_only_after_a_long_history() {
        let none = Catalog::default();
        assert!(is_worth(100, &head(100), &none, &options()));
        assert!(!is_worth(99, &head(999), &none, &options()));
        assert!(is_worth(1, &head(1_000), &none, &options()));
        // Once there is one, it is kept up, also when rows are removed.
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
        let (trash, kept) = emptied(&second, delete_at - 1);
        assert_eq!((trash.bases.len(), kept), (0, second.clone()));
        let (trash, kept) = emptied(&second, delete_at);
        assert_eq!((trash.bases, kept.retired.len()), (vec![base(5, 5)], 0));
    }

    #[test]
    fn the_log_behind_a_base_is_kept_for_the_horizon_and_then_for_the_grace_period() {
        let catalog = published(&Catalog::default(), base(5, 5), NOW, &options());
        assert_eq!(next_look(&catalog, &options()), Some(NOW + 7 * DAY));
        let early = aged(&catalog, NOW + 7 * DAY - 1, &options());
        assert_eq!((early.floor, early.covered.len()), (OpId::ZERO, 0));
        let now = NOW + 7 * DAY;
        let late = aged(&catalog, now, &options());
        assert_eq!((late.floor, late.published.len()), (op(5), 0));
        assert_eq!(emptied(&late, now + DAY - 1).0.segments, None);
        let (trash, kept) = emptied(&late, now + DAY);
        assert_eq!((trash.segments, next_look(&kept, &options())), (Some(op(5)), None));
    }

    #[test]
    fn the_floor_never_rises_above_the_base() {
        let mut catalog = Catalog::default();
        for (step, to) in (1..=200).enumerate() {
            let now = NOW + step as u64 * 3_600;
            catalog = published(&catalog, base(to, to), now, &options());
            let (_, kept) = emptied(&catalog, now);
            catalog = kept;
            assert!(catalog.floor <= op(to));
            let oldest = catalog.retired.iter().map(|retired| retired.base.to).min();
            // What is still promised to readers has the log behind it, or is below the floor.
            assert!(oldest.is_none_or(|to| to <= op(200)));
            assert!(catalog.published.len() <= 17 && catalog.covered.len() <= COVERED_MAX);
        }
        // 200 hours: floors of up to 168 hours ago, which is step 31 and a mark each 10.5 hours.
        assert!(catalog.floor >= op(20) && catalog.floor <= op(32));
    }

    #[test]
    fn without_a_horizon_the_floor_follows_the_base_at_once() {
        let options = Options { horizon: Duration::ZERO, grace: Duration::ZERO, ..options() };
        let catalog = published(&Catalog::default(), base(5, 5), NOW, &options);
        assert_eq!(catalog.floor, op(5));
        assert_eq!(emptied(&catalog, NOW).0.segments, Some(op(5)));
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
