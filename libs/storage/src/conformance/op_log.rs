//! [`crate::OpLog`].

use std::future::Future;

use tidewater_protocol::{Checksum, OpId};

use super::{FOREVER, bucket, op, segment, soon};
use crate::{Batch, BucketKey, Segment, SegmentPage, Storage};

const EVERYTHING: usize = usize::MAX;

async fn put(store: &impl Storage, segments: Vec<Segment>) {
    let batch = Batch { segments, ..Batch::default() };
    assert_eq!(store.write(batch.into()).await.unwrap(), []);
}

/// Segments of one operation each, which end at 10, 20, 30 and so on.
fn tens(bucket: &BucketKey, count: u64) -> Vec<Segment> {
    (1..=count).map(|n| segment(bucket, 10 * n, 10 * (n - 1))).collect()
}

/// The last op ids of segments, as [`op`] numbers them.
fn lasts(page: &SegmentPage) -> Vec<u64> {
    page.segments.iter().map(|segment| segment.last.sequence()).collect()
}

/// Reads again until what was written has arrived: this port may miss it for a moment.
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

/// All segments of a bucket, of which there are `count`.
async fn all(store: &impl Storage, bucket: &BucketKey, count: usize) -> SegmentPage {
    let read =
        || async { store.segments(bucket, OpId::ZERO, OpId::MAX, EVERYTHING).await.unwrap() };
    until(read, |page| page.segments.len() == count).await
}

pub async fn a_segment_is_read_as_it_was_written([a, b]: [impl Storage; 2]) {
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

pub async fn a_range_is_after_one_end_and_upto_the_other([a, b]: [impl Storage; 2]) {
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

pub async fn segments_come_in_order_from_their_own_bucket([a, b]: [impl Storage; 2]) {
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

pub async fn a_page_ends_once_it_exceeds_its_size([a, b]: [impl Storage; 2]) {
    let key = bucket(1, "[]");
    put(&a, tens(&key, 5)).await;
    let whole = all(&b, &key, 5).await;
    let size = |range: std::ops::Range<usize>| {
        whole.segments[range].iter().map(|s| s.payload.len()).sum::<usize>()
    };
    // It ends with the segment that takes it over its size, or before that one.
    let page = b.segments(&key, OpId::ZERO, OpId::MAX, size(0..2)).await.unwrap();
    assert!(page.has_more);
    assert!((2..=3).contains(&page.segments.len()), "{} segments", page.segments.len());
    let rest = b.segments(&key, page.segments.last().unwrap().last, OpId::MAX, EVERYTHING);
    let rest = rest.await.unwrap();
    assert!(!rest.has_more);
    assert_eq!([page.segments, rest.segments].concat(), whole.segments);
    // The bound counts, not what is behind it.
    let page = b.segments(&key, OpId::ZERO, op(20), size(0..2)).await.unwrap();
    assert_eq!((lasts(&page), page.has_more), (vec![10, 20], false));
}

pub async fn a_page_holds_at_least_one_segment([a, b]: [impl Storage; 2]) {
    let key = bucket(1, "[]");
    put(&a, tens(&key, 3)).await;
    all(&b, &key, 3).await;
    let (mut after, mut seen) = (OpId::ZERO, Vec::new());
    for more in [true, true, false] {
        let page = b.segments(&key, after, OpId::MAX, 0).await.unwrap();
        assert_eq!((page.segments.len(), page.has_more), (1, more));
        seen.extend(lasts(&page));
        after = page.segments[0].last;
    }
    assert_eq!(seen, [10, 20, 30]);
}

pub async fn storing_a_segment_twice_is_storing_it_once([a, b]: [impl Storage; 2]) {
    let key = bucket(1, "[]");
    for store in [&a, &b, &a] {
        put(store, tens(&key, 2)).await;
    }
    assert_eq!(all(&b, &key, 2).await.segments, tens(&key, 2));
}

pub async fn deletion_ends_at_its_bound([a, b]: [impl Storage; 2]) {
    let (key, other) = (bucket(1, "[\"a\"]"), bucket(1, "[\"a\",1]"));
    put(&a, [tens(&key, 4), tens(&other, 4)].concat()).await;
    for (upto, left) in [(op(9), 4), (op(20), 2), (op(20), 2), (op(35), 1), (OpId::MAX, 0)] {
        a.delete_segments(&key, upto).await.unwrap();
        let page = all(&b, &key, left).await;
        assert_eq!(page.segments, tens(&key, 4)[4 - left..]);
    }
    assert_eq!(all(&b, &other, 4).await.segments, tens(&other, 4));
}

pub async fn a_long_log_is_deleted_whole([a, b]: [impl Storage; 2]) {
    let key = bucket(1, "[]");
    put(&a, tens(&key, 1_000)).await;
    tokio::time::timeout(FOREVER, a.delete_segments(&key, op(9_990))).await.unwrap().unwrap();
    assert_eq!(lasts(&all(&b, &key, 1).await), [10_000]);
}
