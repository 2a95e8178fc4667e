//! The unit of work that is being assembled: its op ids, and the operations of its buckets.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use tidewater_protocol::{Body, Checksum, Epoch, OpId, Operation};
use tidewater_storage::{Batch, BucketHead, BucketKey, CompactionTask, SegmentWriter};

/// Operations of a segment: readers and the builder load a segment as a whole.
const SEGMENT_OPS_MAX: u64 = 10_000;
/// Bytes of a segment, after the operation that reaches them. A data line of the stream is made from
/// whole segments, so that a line stays small enough for a function's memory.
const SEGMENT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a unit after which it is stored, not committed, so that a large transaction does not have
/// to fit into memory. One batch may be in flight while the next one is assembled: twice as much.
pub(crate) const UNIT_BYTES_MAX: usize = 3 << 20;
/// Bytes that a record takes beside its value: key, op id and overhead, roughly.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// Buckets whose registration is remembered, some 10 MB of names. With more, all are forgotten, which
/// costs a write each: registration is idempotent.
const REGISTERED_MAX: usize = 100_000;
/// Operations after which a bucket is queued for compaction, unless the settings say otherwise.
const COMPACTION_THRESHOLD: u64 = 1_000;

/// A unit of work: what one commit contains.
///
/// Op ids rise over all units of a run. Operations of one bucket are gathered in segments, which are
/// linked into the bucket's chain when the unit is closed.
#[derive(Debug)]
pub(crate) struct Unit {
    epoch: Epoch,
    /// Sequence number of the next op id; the first one is 1.
    next_sequence: u64,
    segments: HashMap<BucketKey, Vec<SegmentWriter>, RandomState>,
    bytes: usize,
    /// Buckets that this run has registered.
    registered: HashSet<BucketKey, RandomState>,
    compaction_threshold: u64,
}

/// The operations of one bucket in a unit.
#[derive(Debug)]
pub(crate) struct OpenBucket {
    pub(crate) bucket: BucketKey,
    segments: Vec<SegmentWriter>,
}

impl Unit {
    /// Returns the first unit of a run.
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            next_sequence: 1,
            segments: HashMap::default(),
            bytes: 0,
            registered: HashSet::default(),
            compaction_threshold: COMPACTION_THRESHOLD,
        }
    }

    /// Queues a bucket for compaction after this many operations.
    pub(crate) fn set_compaction_threshold(&mut self, operations: u64) {
        self.compaction_threshold = operations.max(1);
    }

    /// Returns an op id above all that this run has used.
    pub(crate) fn next_op(&mut self) -> OpId {
        let op = OpId::new(self.epoch, self.next_sequence);
        self.next_sequence += 1;
        op
    }

    /// Returns the last op id that this run has used.
    pub(crate) fn last_op(&self) -> Option<OpId> {
        (self.next_sequence > 1).then(|| OpId::new(self.epoch, self.next_sequence - 1))
    }

    /// Appends an operation, whose checksum is known, to a bucket.
    pub(crate) fn append(&mut self, bucket: &str, body: Body<'_>, checksum: Checksum) {
        let op_id = self.next_op();
        let segments = match self.segments.get_mut(bucket) {
            Some(segments) => segments,
            None => self.segments.entry(BucketKey::from_stored(bucket)).or_default(),
        };
        if segments.last().is_none_or(is_segment_full) {
            segments.push(SegmentWriter::default());
        }

        let segment = segments.last_mut().expect("a segment was pushed if there was none");
        let length = segment.len();
        segment.push(&Operation { op_id, checksum, body });
        self.bytes += segment.len() - length;
    }

    /// Counts a record that the unit changes, by the length of its value.
    pub(crate) fn count_record(&mut self, value_bytes: usize) {
        self.bytes += RECORD_OVERHEAD_BYTES + value_bytes;
    }

    /// Returns the bytes of the unit that are not in flight yet.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether the unit should be stored although it is not complete.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= UNIT_BYTES_MAX
    }

    /// Takes the operations out of the unit and begins the next one, whose op ids go on.
    pub(crate) fn take_open(&mut self) -> Vec<OpenBucket> {
        self.bytes = 0;
        if self.registered.len() > REGISTERED_MAX {
            self.registered.clear();
        }
        std::mem::take(&mut self.segments)
            .into_iter()
            .map(|(bucket, segments)| OpenBucket { bucket, segments })
            .collect()
    }

    /// Adds a bucket's operations to a batch as segments that continue its chain, and returns the
    /// head that the bucket has then.
    pub(crate) fn close_bucket(
        &mut self,
        open: OpenBucket,
        mut head: BucketHead,
        batch: &mut Batch,
    ) -> BucketHead {
        let OpenBucket { bucket, segments } = open;
        let thresholds_before = head.count / self.compaction_threshold;

        // Each segment names the op id and the checksum before it. That is how readers notice a
        // missing one.
        for segment in segments {
            let segment = segment.finish(bucket.clone(), head.last, head.sum);
            head.last = segment.last;
            head.sum += segment.sum;
            head.count += segment.count;
            batch.segments.push(segment);
        }

        if head.count / self.compaction_threshold > thresholds_before {
            batch.compaction_tasks.push(CompactionTask::immediate(bucket.clone(), head.last));
        }
        // A bucket is registered with its first operations, so that a truncation, or the removal of
        // its generation, finds it.
        if self.registered.insert(bucket.clone()) {
            batch.registry.push(bucket);
        }
        head
    }
}

fn is_segment_full(segment: &SegmentWriter) -> bool {
    segment.count() >= SEGMENT_OPS_MAX || segment.len() >= SEGMENT_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidewater_protocol::RowKey;
    use tidewater_storage::SegmentReader;

    use super::*;

    fn unit() -> Unit {
        Unit::new(Epoch::ZERO.next().unwrap())
    }

    fn put(unit: &mut Unit, bucket: &str, id: &str, data: &str) {
        let body = Body::Put { row: RowKey::new("t", id, "0"), data: data.into() };
        let checksum = body.checksum().unwrap();
        unit.append(bucket, body, checksum);
    }

    /// Closes a unit whose buckets have these heads; the others are new.
    fn close(unit: &mut Unit, heads: &mut HashMap<BucketKey, BucketHead>) -> Batch {
        let mut batch = Batch::default();
        for open in unit.take_open() {
            let bucket = open.bucket.clone();
            let head = heads.remove(&bucket).unwrap_or_default();
            heads.insert(bucket, unit.close_bucket(open, head, &mut batch));
        }
        batch
    }

    #[test]
    fn op_ids_rise_over_all_units_of_a_run() {
        let mut unit = unit();
        assert_eq!(unit.last_op(), None);
        let first = unit.next_op();
        assert_eq!(unit.last_op(), Some(first));
        put(&mut unit, "a[]", "1", "{}");
        unit.take_open();
        assert!(unit.next_op() > first);
        assert_eq!(first.sequence() + 2, unit.last_op().unwrap().sequence());
    }

    #[test]
    fn a_unit_is_full_by_the_bytes_of_its_operations_and_records() {
        let mut unit = unit();
        let data = "x".repeat(UNIT_BYTES_MAX / 2);
        put(&mut unit, "a[]", "1", &data);
        assert!(!unit.is_full());
        unit.count_record(UNIT_BYTES_MAX / 2);
        assert!(unit.is_full());
        unit.take_open();
        assert!(!unit.is_full(), "the next one is empty");
    }

    #[test]
    fn many_small_records_fill_a_unit_too() {
        let mut unit = unit();
        for _ in 0..UNIT_BYTES_MAX / RECORD_OVERHEAD_BYTES {
            unit.count_record(0);
        }
        assert!(unit.is_full());
    }

    #[test]
    fn a_segment_is_cut_by_its_operations_and_by_its_bytes() {
        let mut unit = unit();
        for id in 0..=SEGMENT_OPS_MAX {
            put(&mut unit, "many[]", &id.to_string(), "{}");
        }
        let data = "x".repeat(SEGMENT_BYTES_MAX);
        put(&mut unit, "large[]", "1", &data);
        put(&mut unit, "large[]", "2", "{}");

        let batch = close(&mut unit, &mut HashMap::new());
        assert_eq!(segment_counts(&batch, "many[]"), [SEGMENT_OPS_MAX, 1]);
        assert_eq!(segment_counts(&batch, "large[]"), [1, 1]);
    }

    /// Returns the number of operations of each segment of a bucket.
    fn segment_counts(batch: &Batch, bucket: &str) -> Vec<u64> {
        let segments = batch.segments.iter().filter(|one| one.bucket.as_str() == bucket);
        segments.map(|one| one.count).collect()
    }

    #[test]
    fn a_bucket_is_registered_once_a_run() {
        let mut unit = unit();
        let mut heads = HashMap::new();
        put(&mut unit, "a[]", "1", "{}");
        put(&mut unit, "a[]", "2", "{}");
        assert_eq!(close(&mut unit, &mut heads).registry, [BucketKey::from_stored("a[]")]);

        put(&mut unit, "a[]", "3", "{}");
        put(&mut unit, "b[]", "1", "{}");
        assert_eq!(close(&mut unit, &mut heads).registry, [BucketKey::from_stored("b[]")]);
    }

    #[test]
    fn a_bucket_is_queued_for_compaction_each_time_it_passes_the_threshold() {
        let mut unit = unit();
        unit.set_compaction_threshold(3);
        let mut heads = HashMap::new();
        // Two operations a unit: the third, sixth, ninth are in units 2, 3 and 5.
        let queued: Vec<_> = (0..5)
            .map(|id: i32| {
                put(&mut unit, "a[]", &id.to_string(), "{}");
                put(&mut unit, "a[]", &id.to_string(), "{}");
                close(&mut unit, &mut heads).compaction_tasks.len()
            })
            .collect();
        assert_eq!(queued, [0, 1, 1, 0, 1]);
    }

    #[test]
    fn a_threshold_of_zero_queues_each_unit() {
        let mut unit = unit();
        unit.set_compaction_threshold(0);
        put(&mut unit, "a[]", "1", "{}");
        assert_eq!(close(&mut unit, &mut HashMap::new()).compaction_tasks.len(), 1);
    }

    proptest! {
        /// However operations are spread over buckets and units: the segments of a bucket form one
        /// chain that holds all of them in order, and ends at the head.
        #[test]
        fn the_segments_of_a_bucket_form_one_chain(
            units in prop::collection::vec(prop::collection::vec(0_usize..3, 0..8), 1..6)
        ) {
            let buckets = ["a[]", "b[]", "c[]"];
            let mut unit = unit();
            let mut heads = HashMap::new();
            let mut segments = Vec::new();
            for operations in &units {
                for &bucket in operations {
                    put(&mut unit, buckets[bucket], "1", "{}");
                }
                segments.extend(close(&mut unit, &mut heads).segments);
            }

            for (place, name) in buckets.iter().enumerate() {
                let expected = units.iter().flatten().filter(|&&bucket| bucket == place).count();
                let mut seen = BucketHead::default();
                let mut last_op = OpId::ZERO;
                for segment in segments.iter().filter(|one| one.bucket.as_str() == *name) {
                    prop_assert_eq!((segment.prev, segment.sum_before), (seen.last, seen.sum));
                    for operation in SegmentReader::new(&segment.payload) {
                        let op = operation.unwrap().op_id;
                        prop_assert!(op > last_op);
                        last_op = op;
                    }
                    prop_assert_eq!(segment.last, last_op);
                    seen.last = segment.last;
                    seen.sum += segment.sum;
                    seen.count += segment.count;
                }
                prop_assert_eq!(seen.count, expected as u64);
                let head = heads.get(&BucketKey::from_stored(name)).copied().unwrap_or_default();
                prop_assert_eq!((head.last, head.sum, head.count), (seen.last, seen.sum, seen.count));
            }
        }
    }
}
