//! A bucket as one connection serves it.

use std::sync::Arc;

use tidewater_protocol::{BucketDescription, OpId, Priority, Subscription};
use tidewater_storage::{Base, BucketKey, Catalog, Chain, FramePlace, Head, Limits, OpenBase};

use super::position::{Start, start};
use crate::checkpoint::BucketAt;

/// A bucket that the client has been told of.
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) key: BucketKey,
    pub(crate) priority: Priority,
    subscriptions: Vec<Subscription>,
    /// As announced.
    pub(crate) head: Head,
    catalog: Arc<Catalog>,
    pub(crate) way: Way,
}

/// What brings the client forward.
pub(crate) enum Way {
    /// The rows of a base, and then the log behind it.
    Base(Box<BaseWay>),
    Log(LogWay),
}

/// A client that is being sent a base.
pub(crate) struct BaseWay {
    pub(crate) base: Base,
    /// Read when the first line is due.
    pub(crate) open: Option<(OpenBase, FramePlace)>,
    /// How many of its rows the client has.
    pub(crate) rows: u64,
    /// Whether what the client holds is void: the next line begins with a CLEAR.
    pub(crate) clear: bool,
}

/// A client that is being sent the log.
#[derive(Clone, Copy)]
pub(crate) struct LogWay {
    /// How far the client has got.
    pub(crate) chain: Chain,
    /// Whether what it holds is void: the next line begins with a CLEAR.
    pub(crate) clear: bool,
}

impl Served {
    /// A bucket that is new on this connection; `after` is where the client says it is.
    pub(crate) fn new(bucket: BucketAt, after: OpId, checkpoint: OpId, limits: &Limits) -> Self {
        let way = match start(after, checkpoint, limits, &bucket.catalog) {
            Start::Log(after) => Way::Log(LogWay { chain: Chain::from(after), clear: false }),
            Start::Rest(base, rows) => Way::base(base, rows, false),
            Start::Anew => Way::anew(&bucket.catalog),
        };
        let BucketAt { name, key, priority, subscriptions, head, catalog } = bucket;
        Self { name, key, priority, subscriptions, head, catalog, way }
    }

    /// Takes over what the bucket is at a newer checkpoint. Returns whether that is news to the
    /// client.
    pub(crate) fn update(&mut self, bucket: BucketAt) -> bool {
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
        self.way = Way::anew(&self.catalog);
    }

    /// Makes the client start anew if the catalog no longer has what it was being sent. What was
    /// read of it is forgotten.
    pub(crate) fn reconsider(&mut self) {
        let is_lost = match &mut self.way {
            Way::Base(way) => {
                way.open = None;
                self.catalog.base_of_marker(way.base.marker).is_none()
            }
            Way::Log(way) => way.chain.last < self.catalog.floor,
        };
        if is_lost {
            self.restart();
        }
    }

    /// Whether lines of it are due.
    pub(crate) fn is_behind(&self) -> bool {
        match &self.way {
            Way::Base(_) => true,
            Way::Log(way) => way.clear || !way.chain.has_reached(&self.head),
        }
    }

    /// Segments up to it are not needed any more.
    pub(crate) fn log_position(&self) -> OpId {
        match &self.way {
            Way::Base(way) => way.base.to,
            Way::Log(way) => way.chain.last,
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

impl Way {
    fn base(base: &Base, rows: u64, clear: bool) -> Self {
        Self::Base(Box::new(BaseWay { base: base.clone(), open: None, rows, clear }))
    }

    /// The way of a client that holds nothing worth keeping.
    fn anew(catalog: &Catalog) -> Self {
        match &catalog.base {
            Some(base) => Self::base(base, 0, true),
            None => Self::Log(LogWay { chain: Chain::from(OpId::ZERO), clear: true }),
        }
    }
}
