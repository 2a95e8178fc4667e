//! The guarantees of [`OpLog`].

use std::future::Future;

use tidewater_protocol::{Checksum, OpId};

use super::{FOREVER, bucket, op, segment, soon};
use crate::{Batch, BucketKey, OpLog, RecordStore, Segment, SegmentPage};

/// A page size that every log fits into.
const EVERYTHING: usize = usize::MAX;

async fn put(store: &impl RecordStore, segments: Vec<Segment>) {
    let batch = Batch { segments, ..Batch::default() };
    assert_eq!(store.write(batch.into()).await.unwrap(), []);
}

/// Returns segments of one operation each, with the op ids 10, 20, 30 and so on.
fn tens(bucket: &BucketKey, count: u64) -> Vec<Segment> {
    (1..=count).map(|n| segment(bucket, 10 * n, 10 * (n - 1))).collect()
}

/// Returns the sequence numbers of the last op ids.
fn lasts(page: &SegmentPage) -> Vec<u64> {
    page.segments.iter().map(|segment| segment.last.sequence()).collect()
}

/// Reads until the condition holds. The port's reads are eventually consistent, so the first ones may
/// miss a recent write.
async fn until<F: Future<Output = SegmentPage>>(
    read: impl Fn() -> F,
    arrived: impl Fn(&SegmentPage) -> bool,
) -> SegmentPage {
    let reading = async {
        loop {
            let page = read().await;
            if arrived(&page) {
                return page;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(reading).await
}

/// Returns all segments of a bucket once there are `count`.
async fn all(store: &impl OpLog, bucket: &BucketKey, count: usize) -> SegmentPage {
    until(
        || async { store.segments(bucket, OpId::ZERO, OpId::MAX, EVERYTHING).await.unwrap() },
        |page| page.segments.len() == count,
    )
    .await
}

pub async fn a_segment_round_trips([a, b]: [impl OpLog + RecordStore; 2]) {
    let key = bucket(1, "[\"u1\",7]");
    let written = Segment {
        prev: OpId::MAX,
        sum_before: Checksum(u32::MAX),
        sum: Checksum(u32::MAX - 1),
        count: 10_000,
        payload: vec![0xA5; 300_000].into(),
        ..segment(&key, 7, 0)
    };
    put(&a, vec![written.clone()]).await;
    let page = all(&b, &key, 1).await;
    assert_eq!(page, SegmentPage { segments: vec![written], has_more: false });
}

pub async fn a_range_excludes_after_and_includes_upto([a, b]: [impl OpLog + RecordStore; 2]) {
    let key = bucket(1, "[]");
    put(&a, tens(&key, 5)).await;
    all(&b, &key, 5).await;

    for (after, upto, expected) in [
        (op(10), op(40), vec![20, 30, 40]),
        (op(9), op(39), vec![10, 20, 30]),
        (op(10), op(10), vec![]),
        (op(50), OpId::MAX, vec![]),
        (OpId::ZERO, op(9), vec![]),
        (op(30), op(20), vec![]),
    ] {
        let page = b.segments(&key, after, upto, EVERYTHING).await.unwrap();
        assert_eq!((lasts(&page), page.has_more), (expected, false), "({after}, {upto}]");
    }
}

pub async fn segments_of_one_bucket_are_returned_in_order([a, b]: [impl OpLog + RecordStore; 2]) {
    let keys = ["[]", "[\"a\"]", "[\"a\",\"b\"]", "[\"A\"]"].map(|params| bucket(1, params));
    let mut segments: Vec<_> = keys.iter().flat_map(|key| tens(key, 3)).collect();
    segments.reverse();
    put(&a, segments).await;
    for key in &keys {
        let page = all(&b, key, 3).await;
        assert_eq!(page.segments, tens(key, 3));
    }
    assert_eq!(all(&b, &bucket(2, "[]"), 0).await, SegmentPage::default());
}

pub async fn a_page_ends_once_it_exceeds_its_size([a, b]: [impl OpLog + RecordStore; 2]) {
    let key = bucket(1, "[]");
    put(&a, tens(&key, 5)).await;
    let whole = all(&b, &key, 5).await;
    let bytes_of_two: usize = whole.segments[..2].iter().map(|one| one.payload.len()).sum();

    // The page ends with the segment that exceeds the size, or before it.
    let page = b.segments(&key, OpId::ZERO, OpId::MAX, bytes_of_two).await.unwrap();
    assert!(page.has_more);
    assert!((2..=3).contains(&page.segments.len()), "{} segments", page.segments.len());

    let rest = b.segments(&key, page.segments.last().unwrap().last, OpId::MAX, EVERYTHING);
    let rest = rest.await.unwrap();
    assert!(!rest.has_more);
    assert_eq!([page.segments, rest.segments].concat(), whole.segments);

    // Segments beyond `upto` do not count as more.
    let page = b.segments(&key, OpId::ZERO, op(20), bytes_of_two).await.unwrap();
    assert_eq!((lasts(&page), page.has_more), (vec![10, 20], false));
}

pub async fn a_page_contains_at_least_one_segment([a, b]: [impl OpLog + RecordStore; 2]) {
    let key = bucket(1, "[]");
    put(&a, tens(&key, 3)).await;
    all(&b, &key, 3).await;

    let mut after = OpId::ZERO;
    let mut seen = Vec::new();
    for more in [true, true, false] {
        let page = b.segments(&key, after, OpId::MAX, 0).await.unwrap();
        assert_eq!((page.segments.len(), page.has_more), (1, more));
        seen.extend(lasts(&page));
        after = page.segments[0].last;
    }
    assert_eq!(seen, [10, 20, 30]);
}

pub async fn storing_a_segment_is_idempotent([a, b]: [impl OpLog + RecordStore; 2]) {
    let key = bucket(1, "[]");
    for store in [&a, &b, &a] {
        put(store, tens(&key, 2)).await;
    }
    assert_eq!(all(&b, &key, 2).await.segments, tens(&key, 2));
}

pub async fn a_deletion_ends_at_its_bound([a, b]: [impl OpLog + RecordStore; 2]) {
    let key = bucket(1, "[\"a\"]");
    let other = bucket(1, "[\"a\",1]");
    put(&a, [tens(&key, 4), tens(&other, 4)].concat()).await;
    for (upto, left) in [(op(9), 4), (op(20), 2), (op(20), 2), (op(35), 1), (OpId::MAX, 0)] {
        a.delete_segments(&key, upto).await.unwrap();
        let page = all(&b, &key, left).await;
        assert_eq!(page.segments, tens(&key, 4)[4 - left..]);
    }
    assert_eq!(all(&b, &other, 4).await.segments, tens(&other, 4));
}

pub async fn a_log_of_a_thousand_segments_is_deleted([a, b]: [impl OpLog + RecordStore; 2]) {
    let key = bucket(1, "[]");
    put(&a, tens(&key, 1_000)).await;
    tokio::time::timeout(FOREVER, a.delete_segments(&key, op(9_990))).await.unwrap().unwrap();
    assert_eq!(lasts(&all(&b, &key, 1).await), [10_000]);
}
