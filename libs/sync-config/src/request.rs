//! Requests to buckets, in stages: what tables must be asked, then what the answers grant.

pub(crate) mod bindings;
pub(crate) mod evaluation;
mod search;
mod subscriber;

use serde_json::{Map, Value as Json};
use tidewater_protocol::{Priority, StreamDescription, StreamSubscription, Subscription};

/// What is known of a request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `sub` as text.
    pub user_id: &'a str,
    /// All verified claims.
    pub claims: &'a Map<String, Json>,
    /// Connection parameters, not authenticated.
    pub parameters: Option<&'a Map<String, Json>>,
    /// Whether streams that subscribe by themselves are wanted.
    pub include_defaults: bool,
    /// Explicit subscriptions; answers name them by index.
    pub subscriptions: &'a [StreamSubscription],
}

/// A question to a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Index into [`SyncConfig::lookups`](crate::SyncConfig::lookups).
    pub lookup: usize,
    /// The values: a canonical JSON array.
    pub key: String,
}

/// What a request may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Each bucket once.
    pub buckets: Vec<GrantedBucket>,
    /// The streams that the connection is subscribed to.
    pub streams: Vec<StreamDescription>,
}

/// A bucket that a request may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedBucket {
    /// Index into [`SyncConfig::definitions`](crate::SyncConfig::definitions).
    pub definition: usize,
    /// As [`BucketRow::params`](crate::BucketRow::params).
    pub params: String,
    /// The most urgent of its reasons.
    pub priority: Priority,
    /// Why.
    pub subscriptions: Vec<Subscription>,
}
