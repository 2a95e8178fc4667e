//! The proof that a run of segments is complete.

use tidewater_protocol::{Checksum, OpId};

use crate::bucket::BucketHead;
use crate::segment::Segment;

/// How far a reader has got in a bucket's log, and what it has summed up by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentChain {
    /// Everything up to it has been read.
    pub last: OpId,
    /// Sum of all operations so far; not known where a client resumes, until the first segment
    /// tells.
    sum: Option<Checksum>,
    /// Whether `last` is where a segment ends, or the beginning.
    exact: bool,
}

/// Segments that do not follow each other, or do not add up to the bucket's head: a read missed
/// some, or they have been merged meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chain of segments is broken after {0}")]
pub struct BrokenChain(pub OpId);

impl SegmentChain {
    /// A client that holds everything up to `after`, as far as its position tells.
    #[must_use]
    pub fn after(after: OpId) -> Self {
        let fresh = after == OpId::ZERO;
        Self { last: after, sum: fresh.then_some(Checksum::ZERO), exact: fresh }
    }

    /// A reader that holds everything up to `to`, where a segment ends and the sum is `sum`: all of
    /// a base.
    #[must_use]
    pub const fn at_segment_end(to: OpId, sum: Checksum) -> Self {
        Self { last: to, sum: Some(sum), exact: true }
    }

    /// The chain after one more live segment.
    ///
    /// # Errors
    /// When something is missing before it.
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

    /// Whether `last` is where a segment ends, or the beginning: not merely what a client says.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.exact
    }

    /// Whether it has reached the head of its bucket.
    #[must_use]
    pub fn has_reached(&self, head: &BucketHead) -> bool {
        self.last >= head.last
    }

    /// Proves that nothing is missing at its end.
    ///
    /// # Errors
    /// When it ends elsewhere, or the sums differ.
    pub fn verify_end(&self, head: &BucketHead) -> Result<(), BrokenChain> {
        let here = !self.exact || self.last == head.last;
        let adds_up = self.sum.is_none_or(|sum| sum == head.sum);
        if here && adds_up && self.has_reached(head) { Ok(()) } else { Err(BrokenChain(self.last)) }
    }
}

#[cfg(test)]
mod tests;
