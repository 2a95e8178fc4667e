//! The position of one connection in one bucket.

use std::sync::Arc;

use tidewater_protocol::{BucketDescription, OpId, Priority, Subscription};
use tidewater_storage::{
    Base, BaseReader, BucketHead, BucketKey, Catalog, CommittedOps, FramePosition, SegmentChain,
};

use super::resume_point::{ResumePoint, from_start, resume_point};
use crate::checkpoint::ReadableBucket;

/// A bucket that has been announced to the client, and the client's position in it.
pub(super) struct BucketCursor {
    /// The bucket's name on the wire.
    pub(super) name: String,
    pub(super) key: BucketKey,
    pub(super) priority: Priority,
    subscriptions: Vec<Subscription>,
    /// The head at the announced checkpoint: the end of what is sent.
    pub(super) head: BucketHead,
    catalog: Arc<Catalog>,
    counted_from: CountedFrom,
    pub(super) position: Position,
}

/// The beginning of what a client is counted to be sent.
#[derive(Clone, Copy)]
struct CountedFrom {
    /// Number of operations of the beginning.
    operations: u64,
    /// Number of the bucket's operations that the beginning stands for.
    count: u64,
}

/// The part of the bucket that the client is sent next.
pub(super) enum Position {
    /// The rows of a base, and then the log after it.
    Base(Box<BasePosition>),
    /// The log.
    Log(LogPosition),
}

/// The position of a client that receives a base.
pub(super) struct BasePosition {
    pub(super) base: Base,
    /// The base's manifest and the next frame; read when the first line is due.
    pub(super) open: Option<(BaseReader, FramePosition)>,
    /// Number of the base's rows that the client has.
    pub(super) rows: u64,
    /// Set if the client's rows are void, so that the next line begins with a CLEAR.
    pub(super) clear: bool,
}

/// The position of a client that receives the log.
#[derive(Clone, Copy)]
pub(super) struct LogPosition {
    /// Proof of completeness of what the client has.
    pub(super) chain: SegmentChain,
    /// Set if the client's rows are void, so that the next line begins with a CLEAR.
    pub(super) clear: bool,
}

impl BucketCursor {
    /// Creates the cursor of a client that says it has everything up to `after`.
    pub(super) fn new(
        bucket: ReadableBucket,
        after: OpId,
        checkpoint: OpId,
        committed_ops: &CommittedOps,
    ) -> Self {
        let resume = resume_point(after, checkpoint, committed_ops, &bucket.catalog);
        let position = Position::at(resume, &bucket.catalog);
        Self::with_position(bucket, position)
    }

    /// Creates the cursor of a client that has nothing of the bucket.
    pub(super) fn from_start(bucket: ReadableBucket) -> Self {
        let position = Position::at(from_start(&bucket.catalog), &bucket.catalog);
        Self::with_position(bucket, position)
    }

    fn with_position(bucket: ReadableBucket, position: Position) -> Self {
        let ReadableBucket { name, key, priority, subscriptions, head, catalog } = bucket;
        let counted_from = CountedFrom::of(&position, &catalog);
        Self { name, key, priority, subscriptions, head, catalog, counted_from, position }
    }

    /// Moves the bucket to a newer checkpoint; the client's position stays. Returns whether the
    /// bucket must be announced again.
    pub(super) fn update(&mut self, bucket: ReadableBucket) -> bool {
        let has_changed = self.update_state(bucket.head, bucket.catalog);

        // Priority and subscriptions are part of a bucket's description. Both stay as announced
        // until the bucket is described again, so that server and client agree on them.
        if has_changed {
            self.priority = bucket.priority;
            self.subscriptions = bucket.subscriptions;
        }
        has_changed
    }

    /// Moves the bucket to a newer checkpoint at which it is described as before. Returns whether the
    /// bucket must be announced again.
    pub(super) fn update_state(&mut self, head: BucketHead, catalog: Arc<Catalog>) -> bool {
        let has_changed = (self.head.sum, self.head.count) != (head.sum, head.count);
        self.head = head;
        self.catalog = catalog;
        has_changed
    }

    /// Returns whether the client knows the bucket's priority and subscriptions.
    pub(super) fn is_described_as(&self, bucket: &ReadableBucket) -> bool {
        self.priority == bucket.priority && self.subscriptions == bucket.subscriptions
    }

    /// Discards the client's position: it is cleared and receives the whole bucket.
    pub(super) fn restart(&mut self) {
        self.position = Position::restart(&self.catalog);
        self.counted_from = CountedFrom::of(&self.position, &self.catalog);
    }

    /// Restarts the client if the catalog no longer has the base or the log that it was receiving.
    /// Otherwise forgets only what was read of the base, so that it is read again.
    pub(super) fn restart_if_lost(&mut self) {
        let is_lost = match &mut self.position {
            Position::Base(position) => {
                position.open = None;
                self.catalog.base_of_marker(position.base.marker).is_none()
            }
            Position::Log(log) => log.chain.last < self.catalog.floor,
        };
        if is_lost {
            self.restart();
        }
    }

    /// Returns whether lines of the bucket must be sent to reach the announced checkpoint.
    pub(super) fn is_behind(&self) -> bool {
        match &self.position {
            Position::Base(_) => true,
            Position::Log(log) => log.clear || !log.chain.has_reached(&self.head),
        }
    }

    /// Returns the position up to which the client needs no segments of the log.
    pub(super) fn log_position(&self) -> OpId {
        match &self.position {
            Position::Base(position) => position.base.to,
            Position::Log(log) => log.chain.last,
        }
    }

    /// Returns the bucket's description for a checkpoint line.
    pub(super) fn describe(&self) -> BucketDescription {
        BucketDescription {
            bucket: self.name.clone(),
            checksum: self.head.sum,
            count: self.count(),
            priority: self.priority,
            subscriptions: self.subscriptions.clone(),
        }
    }

    /// Returns the number of operations that a client without a position is sent. Clients show
    /// progress by it, and count every operation that arrives, also CLEAR and MOVE.
    fn count(&self) -> u64 {
        let CountedFrom { operations, count } = self.counted_from;
        operations + self.head.count.saturating_sub(count)
    }
}

impl CountedFrom {
    /// Returns the beginning for a client at a position. It is kept while the client receives the
    /// bucket, although newer bases are published meanwhile: what follows is sent from the log.
    fn of(position: &Position, catalog: &Catalog) -> Self {
        let base = match position {
            Position::Base(position) => Some(&position.base),
            Position::Log(log) if log.chain.last == OpId::ZERO => {
                return Self { operations: u64::from(log.clear), count: 0 };
            }
            Position::Log(_) => catalog.base.as_ref(),
        };
        match base {
            Some(base) => Self { operations: base.sent_operations(), count: base.count },
            None => Self { operations: 0, count: 0 },
        }
    }
}

impl Position {
    fn at(resume: ResumePoint<'_>, catalog: &Catalog) -> Self {
        match resume {
            ResumePoint::Log(after) => {
                Self::Log(LogPosition { chain: SegmentChain::after(after), clear: false })
            }
            ResumePoint::Base(base, rows) => Self::base(base, rows, false),
            ResumePoint::Restart => Self::restart(catalog),
        }
    }

    fn restart(catalog: &Catalog) -> Self {
        match &catalog.base {
            Some(base) => Self::base(base, 0, true),
            None => Self::Log(LogPosition { chain: SegmentChain::after(OpId::ZERO), clear: true }),
        }
    }

    fn base(base: &Base, rows: u64, clear: bool) -> Self {
        Self::Base(Box::new(BasePosition { base: base.clone(), open: None, rows, clear }))
    }
}

impl BasePosition {
    /// Returns whether the client has nothing of the base yet, so that files can replace all of it.
    pub(super) fn is_untouched(&self) -> bool {
        self.clear && self.rows == 0
    }
}
