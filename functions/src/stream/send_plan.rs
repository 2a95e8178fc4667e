//! The rest of the announced checkpoint that must be sent. No I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use tidewater_protocol::OpId;
use tidewater_storage::{CommittedOps, Segment};

use super::bucket_cursor::BucketCursor;

/// The buckets that are behind the announced checkpoint, in sending order.
pub(super) struct SendPlan {
    /// Operations that are committed at the announced checkpoint.
    pub(super) committed_ops: Arc<CommittedOps>,
    /// Indices of the buckets that are behind, most urgent first.
    pub(super) queue: VecDeque<usize>,
    /// Segments of the first bucket of the queue that are read and not yet sent.
    pub(super) page: VecDeque<Segment>,
    /// Position up to which the log of that bucket has been read. It can be ahead of the last
    /// segment of `page`, because uncommitted segments are skipped.
    pub(super) read_upto: OpId,
    /// Number of reads that failed and were repeated on the way to this checkpoint.
    pub(super) attempts: u32,
}

impl SendPlan {
    /// Plans to send all buckets that are behind: by priority, then by name.
    pub(super) fn new(buckets: &[BucketCursor], committed_ops: Arc<CommittedOps>) -> Self {
        let mut behind: Vec<usize> =
            (0..buckets.len()).filter(|&index| buckets[index].is_behind()).collect();
        // The sort is stable, and the buckets are in the order of their names.
        behind.sort_by_key(|&index| buckets[index].priority);

        let mut plan = Self {
            committed_ops,
            queue: behind.into(),
            page: VecDeque::new(),
            read_upto: OpId::ZERO,
            attempts: 0,
        };
        plan.begin_bucket(buckets);
        plan
    }

    /// Removes the first bucket, which has been sent, and begins the next. Returns the next
    /// bucket's index.
    pub(super) fn next_bucket(&mut self, buckets: &[BucketCursor]) -> Option<usize> {
        self.queue.pop_front();
        self.begin_bucket(buckets);
        self.queue.front().copied()
    }

    fn begin_bucket(&mut self, buckets: &[BucketCursor]) {
        self.page.clear();
        self.read_upto = match self.queue.front() {
            Some(&index) => buckets[index].log_position(),
            None => OpId::ZERO,
        };
    }
}
