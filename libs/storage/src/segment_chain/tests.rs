use crate::BucketKey;
use tidewater_protocol::Epoch;

use super::*;

fn op(sequence: u64) -> OpId {
    if sequence == 0 { OpId::ZERO } else { OpId::new(Epoch::new(1).unwrap(), sequence) }
}

/// A segment of a bucket in which each operation adds one to the sum.
fn segment(prev: u64, last: u64, sum_before: u32, sum: u32) -> Segment {
    Segment {
        bucket: BucketKey::from_stored("aaaaaa[]"),
        last: op(last),
        prev: op(prev),
        sum_before: Checksum(sum_before),
        sum: Checksum(sum),
        count: u64::from(sum),
        payload: bytes::Bytes::new(),
    }
}

fn head(last: u64, sum: u32) -> BucketHead {
    BucketHead { last: op(last), sum: Checksum(sum), count: u64::from(sum) }
}

/// Checks whether the segments prove completeness for a client at `after`.
fn check(after: u64, segments: &[Segment], head: BucketHead, expected: bool) {
    let run = segments.iter().try_fold(SegmentChain::after(op(after)), |chain, s| chain.append(s));
    let proven = run.and_then(|chain| chain.verify_end(&head));
    assert_eq!(proven.is_ok(), expected, "from {after}: {proven:?}");
}

/// Three segments: (0, 10], (10, 25], (25, 30].
fn log() -> [Segment; 3] {
    [segment(0, 10, 0, 5), segment(10, 25, 5, 7), segment(25, 30, 12, 2)]
}

#[test]
fn a_complete_log_is_verified_from_every_position() {
    let [a, b, c] = log();
    check(0, &[a, b.clone(), c.clone()], head(30, 14), true);
    check(10, &[b.clone(), c.clone()], head(30, 14), true);
    // Positions of former checkpoints lie between segments.
    check(17, std::slice::from_ref(&c), head(30, 14), false);
    check(25, std::slice::from_ref(&c), head(30, 14), true);
    check(28, &[c], head(30, 14), true);
    check(30, &[], head(30, 14), true);
    check(40, &[], head(30, 14), true);
}

#[test]
fn a_missing_segment_is_detected() {
    let [a, b, c] = log();
    check(0, &[], head(30, 14), false);
    check(0, &[b.clone(), c.clone()], head(30, 14), false);
    check(0, &[a.clone(), c.clone()], head(30, 14), false);
    check(0, &[a.clone(), b.clone()], head(30, 14), false);
    check(10, std::slice::from_ref(&c), head(30, 14), false);
    check(10, std::slice::from_ref(&b), head(30, 14), false);
    check(0, &[b, a, c], head(30, 14), false);
}

#[test]
fn a_repeated_or_surplus_segment_is_detected() {
    let [a, b, c] = log();
    check(0, &[a.clone(), a.clone(), b.clone(), c.clone()], head(30, 14), false);
    check(10, &[a.clone(), b.clone(), c.clone()], head(30, 14), false);
    check(0, &[a, b, c], head(25, 12), false);
}

#[test]
fn a_wrong_checksum_is_detected() {
    let [a, b, c] = log();
    check(0, &[a.clone(), b.clone(), c.clone()], head(30, 15), false);
    check(25, std::slice::from_ref(&c), head(30, 15), false);
    let mut other = b.clone();
    other.sum_before = Checksum(6);
    check(0, &[a.clone(), other, c.clone()], head(30, 14), false);
    let mut other = b;
    other.sum = Checksum(8);
    check(0, &[a, other, c], head(30, 14), false);
    check(0, &[segment(0, 10, 1, 5)], head(10, 6), false);
}

#[test]
fn an_empty_bucket_is_complete() {
    check(0, &[], BucketHead::default(), true);
    check(7, &[], BucketHead::default(), true);
    check(0, &[], BucketHead { sum: Checksum(1), ..BucketHead::default() }, false);
}
