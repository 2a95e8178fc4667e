//! A bucket as one connection serves it.

use tidewater_protocol::{BucketDescription, OpId, Priority, Subscription};
use tidewater_storage::{BucketKey, Head, Limits};

use crate::access::BucketAt;
use crate::chain::Chain;
use crate::position::{Start, start};

/// A bucket that the client has been told of.
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) key: BucketKey,
    pub(crate) priority: Priority,
    subscriptions: Vec<Subscription>,
    /// As announced.
    pub(crate) head: Head,
    /// How far the client has got.
    pub(crate) chain: Chain,
    /// Whether what it holds is void: the next line begins with a CLEAR.
    pub(crate) clear: bool,
}

impl Served {
    /// A bucket that is new on this connection; `after` is where the client says it is.
    pub(crate) fn new(bucket: BucketAt, after: OpId, checkpoint: OpId, limits: &Limits) -> Self {
        let (chain, clear) = match start(after, checkpoint, limits) {
            Start::Log(after) => (Chain::from(after), false),
            Start::Clear => (Chain::from(OpId::ZERO), true),
        };
        let BucketAt { name, key, priority, subscriptions, head } = bucket;
        Self { name, key, priority, subscriptions, head, chain, clear }
    }

    /// Takes over what the bucket is at a newer checkpoint. Returns whether that is news to the
    /// client.
    pub(crate) fn update(&mut self, bucket: BucketAt) -> bool {
        let changed = (self.head.sum, self.head.count) != (bucket.head.sum, bucket.head.count);
        self.head = bucket.head;
        if changed {
            self.priority = bucket.priority;
            self.subscriptions = bucket.subscriptions;
        }
        changed
    }

    /// Makes the client start anew.
    pub(crate) fn restart(&mut self) {
        self.chain = Chain::from(OpId::ZERO);
        self.clear = true;
    }

    /// Whether lines of it are due.
    pub(crate) fn is_behind(&self) -> bool {
        self.clear || !self.chain.has_reached(&self.head)
    }

    pub(crate) fn describe(&self) -> BucketDescription {
        BucketDescription {
            bucket: self.name.clone(),
            checksum: self.head.sum,
            count: self.head.count,
            priority: self.priority,
            subscriptions: self.subscriptions.clone(),
        }
    }
}
