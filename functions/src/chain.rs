//! The proof that a run of segments is complete.

use tidewater_protocol::{Checksum, OpId};
use tidewater_storage::{Head, Segment};

/// How far a client has been brought in a bucket, and what it has summed up by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Everything up to it has been served.
    pub(crate) last: OpId,
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
pub(crate) struct Broken(pub(crate) OpId);

impl Chain {
    /// A client that holds everything up to `after`, as far as its position tells.
    pub(crate) fn from(after: OpId) -> Self {
        let fresh = after == OpId::ZERO;
        Self { last: after, sum: fresh.then_some(Checksum::ZERO), exact: fresh }
    }

    /// The chain after one more live segment.
    ///
    /// # Errors
    /// When something is missing before it.
    pub(crate) fn followed_by(self, segment: &Segment) -> Result<Self, Broken> {
        let follows =
            if self.exact { segment.prev == self.last } else { segment.prev <= self.last };
        let adds_up = self.sum.is_none_or(|sum| sum == segment.sum_before);
        if !(follows && adds_up && segment.last > self.last) {
            return Err(Broken(self.last));
        }
        let sum = Some(segment.sum_before + segment.sum);
        Ok(Self { last: segment.last, sum, exact: true })
    }

    /// Whether `last` is where a segment ends, or the beginning: not merely what a client says.
    pub(crate) fn is_exact(&self) -> bool {
        self.exact
    }

    /// Whether it has reached the head of its bucket.
    pub(crate) fn has_reached(&self, head: &Head) -> bool {
        self.last >= head.last
    }

    /// Proves that nothing is missing at its end.
    ///
    /// # Errors
    /// When it ends elsewhere, or the sums differ.
    pub(crate) fn ends_at(&self, head: &Head) -> Result<(), Broken> {
        let here = !self.exact || self.last == head.last;
        let adds_up = self.sum.is_none_or(|sum| sum == head.sum);
        if here && adds_up && self.has_reached(head) { Ok(()) } else { Err(Broken(self.last)) }
    }
}

#[cfg(test)]
mod tests;
