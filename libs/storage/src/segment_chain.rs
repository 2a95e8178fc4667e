//! The proof that a sequence of segments is complete.

use tidewater_protocol::{Checksum, OpId};

use crate::bucket::BucketHead;
use crate::segment::Segment;

/// A reader's position in a bucket's log, with the checksum of everything before it.
///
/// Each segment names the operation and the checksum before it. A reader appends segments in order
/// and finally compares the chain with the bucket's head: a missing segment is always detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentChain {
    /// The last operation that was read.
    pub last: OpId,
    /// The checksum of all operations up to `last`. Unknown when a client resumes, until the first
    /// segment provides it.
    sum: Option<Checksum>,
    /// True if `last` is the end of a segment or zero, false if a client reported it.
    exact: bool,
}

/// A gap in a bucket's log after the given operation, or a checksum that differs from the head: a
/// read missed segments, or they were compacted in the meantime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the segment chain is broken after operation {0}")]
pub struct BrokenChain(pub OpId);

impl SegmentChain {
    /// Starts at a position that a client reported.
    #[must_use]
    pub fn after(after: OpId) -> Self {
        let is_start = after == OpId::ZERO;
        Self { last: after, sum: is_start.then_some(Checksum::ZERO), exact: is_start }
    }

    /// Starts at the end of a segment where the checksum is known, such as the end of a base.
    #[must_use]
    pub const fn at_segment_end(to: OpId, sum: Checksum) -> Self {
        Self { last: to, sum: Some(sum), exact: true }
    }

    /// Returns the chain extended by the next committed segment.
    ///
    /// # Errors
    /// If a segment is missing before this one.
    pub fn append(self, segment: &Segment) -> Result<Self, BrokenChain> {
        let follows =
            if self.exact { segment.prev == self.last } else { segment.prev <= self.last };
        let adds_up = self.sum.is_none_or(|sum| sum == segment.sum_before);
        if !(follows && adds_up && segment.last > self.last) {
            return Err(BrokenChain(self.last));
        }
        let sum = Some(segment.sum_before + segment.sum);
        Ok(Self { last: segment.last, sum, exact: true })
    }

    /// Returns whether `last` is the end of a segment or zero, not merely a reported position.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.exact
    }

    /// Returns whether the chain has reached the bucket's head.
    #[must_use]
    pub fn has_reached(&self, head: &BucketHead) -> bool {
        self.last >= head.last
    }

    /// Verifies that the chain ends exactly at the bucket's head.
    ///
    /// # Errors
    /// If the chain ends elsewhere or the checksums differ.
    pub fn verify_end(&self, head: &BucketHead) -> Result<(), BrokenChain> {
        let is_at_head = !self.exact || self.last == head.last;
        let adds_up = self.sum.is_none_or(|sum| sum == head.sum);
        if is_at_head && adds_up && self.has_reached(head) {
            Ok(())
        } else {
            Err(BrokenChain(self.last))
        }
    }
}

#[cfg(test)]
mod tests;
