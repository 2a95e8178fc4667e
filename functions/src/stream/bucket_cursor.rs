//! A bucket as one connection serves it.

use std::sync::Arc;

use tidewater_protocol::{BucketDescription, OpId, Priority, Subscription};
use tidewater_storage::{
    Base, BaseReader, BucketHead, BucketKey, Catalog, CommittedOps, FramePosition, SegmentChain,
};

use super::resume_point::{ResumePoint, resume_point};
use crate::checkpoint::ReadableBucket;

/// A bucket that the client has been told of.
pub(crate) struct BucketCursor {
    pub(crate) name: String,
    pub(crate) key: BucketKey,
    pub(crate) priority: Priority,
    subscriptions: Vec<Subscription>,
    /// As announced.
    pub(crate) head: BucketHead,
    catalog: Arc<Catalog>,
    pub(crate) position: Position,
}

/// What brings the client forward.
pub(crate) enum Position {
    /// The rows of a base, and then the log behind it.
    Base(Box<BasePosition>),
    Log(LogPosition),
}

/// A client that is being sent a base.
pub(crate) struct BasePosition {
    pub(crate) base: Base,
    /// Read when the first line is due.
    pub(crate) open: Option<(BaseReader, FramePosition)>,
    /// How many of its rows the client has.
    pub(crate) rows: u64,
    /// Whether what the client holds is void: the next line begins with a CLEAR.
    pub(crate) clear: bool,
}

/// A client that is being sent the log.
#[derive(Clone, Copy)]
pub(crate) struct LogPosition {
    /// How far the client has got.
    pub(crate) chain: SegmentChain,
    /// Whether what it holds is void: the next line begins with a CLEAR.
    pub(crate) clear: bool,
}

impl BucketCursor {
    /// A bucket that is new on this connection; `after` is where the client says it is.
    pub(crate) fn new(
        bucket: ReadableBucket,
        after: OpId,
        checkpoint: OpId,
        committed_ops: &CommittedOps,
    ) -> Self {
        let position = match resume_point(after, checkpoint, committed_ops, &bucket.catalog) {
            ResumePoint::Log(after) => {
                Position::Log(LogPosition { chain: SegmentChain::after(after), clear: false })
            }
            ResumePoint::Base(base, rows) => Position::base(base, rows, false),
            ResumePoint::Restart => Position::restart(&bucket.catalog),
        };
        let ReadableBucket { name, key, priority, subscriptions, head, catalog } = bucket;
        Self { name, key, priority, subscriptions, head, catalog, position }
    }

    /// Takes over what the bucket is at a newer checkpoint. Returns whether that is news to the
    /// client.
    pub(crate) fn update(&mut self, bucket: ReadableBucket) -> bool {
        let changed = (self.head.sum, self.head.count) != (bucket.head.sum, bucket.head.count);
        self.head = bucket.head;
        self.catalog = bucket.catalog;
        if changed {
            self.priority = bucket.priority;
            self.subscriptions = bucket.subscriptions;
        }
        changed
    }

    /// Makes the client start anew.
    pub(crate) fn restart(&mut self) {
        self.position = Position::restart(&self.catalog);
    }

    /// Makes the client start anew if the catalog no longer has what it was being sent. What was
    /// read of it is forgotten.
    pub(crate) fn restart_if_lost(&mut self) {
        let is_lost = match &mut self.position {
            Position::Base(base) => {
                base.open = None;
                self.catalog.base_of_marker(base.base.marker).is_none()
            }
            Position::Log(log) => log.chain.last < self.catalog.floor,
        };
        if is_lost {
            self.restart();
        }
    }

    /// Whether lines of it are due.
    pub(crate) fn is_behind(&self) -> bool {
        match &self.position {
            Position::Base(_) => true,
            Position::Log(log) => log.clear || !log.chain.has_reached(&self.head),
        }
    }

    /// Segments up to it are not needed any more.
    pub(crate) fn log_position(&self) -> OpId {
        match &self.position {
            Position::Base(base) => base.base.to,
            Position::Log(log) => log.chain.last,
        }
    }

    pub(crate) fn describe(&self) -> BucketDescription {
        // What a fresh client is sent: the rows of the base stand for its operations.
        let base = self.catalog.base.as_ref();
        let count = base
            .map_or(self.head.count, |base| base.rows + self.head.count.saturating_sub(base.count));
        BucketDescription {
            bucket: self.name.clone(),
            checksum: self.head.sum,
            count,
            priority: self.priority,
            subscriptions: self.subscriptions.clone(),
        }
    }
}

impl Position {
    fn base(base: &Base, rows: u64, clear: bool) -> Self {
        Self::Base(Box::new(BasePosition { base: base.clone(), open: None, rows, clear }))
    }

    /// The way of a client that holds nothing worth keeping.
    fn restart(catalog: &Catalog) -> Self {
        match &catalog.base {
            Some(base) => Self::base(base, 0, true),
            None => Self::Log(LogPosition { chain: SegmentChain::after(OpId::ZERO), clear: true }),
        }
    }
}
