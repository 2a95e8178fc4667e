//! Finds the buckets that a request may read, in rounds of lookups.

pub(crate) mod bindings;
pub(crate) mod evaluation;
pub(crate) mod limits;
mod search;
mod subscriber;

use serde_json::{Map, Value as Json};
use tidewater_protocol::{Priority, StreamDescription, StreamSubscription, Subscription};

/// Request of a client.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The claim `sub` as text. If `sub` among the claims is a number, the user is equal to it, too.
    pub user_id: &'a str,
    /// All claims of the verified token.
    pub claims: &'a Map<String, Json>,
    /// Parameters of the connection. They are not authenticated.
    pub parameters: Option<&'a Map<String, Json>>,
    /// `true` if the client wants the streams that subscribe automatically.
    pub include_defaults: bool,
    /// Explicit subscriptions. Results refer to them by index.
    pub subscriptions: &'a [StreamSubscription],
}

/// Key to look up in a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Index into [`SyncConfig::lookups`](crate::SyncConfig::lookups).
    pub lookup: usize,
    /// Values of the key, as a canonical JSON array.
    pub key: String,
}

/// Buckets that a request may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The buckets, each once.
    pub buckets: Vec<GrantedBucket>,
    /// Streams that the connection is subscribed to.
    pub streams: Vec<StreamDescription>,
}

/// Bucket that a request may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedBucket {
    /// Index into [`SyncConfig::definitions`](crate::SyncConfig::definitions).
    pub definition: usize,
    /// Bucket parameters, in the format of [`BucketRow::params`](crate::BucketRow::params).
    pub params: String,
    /// Highest priority among the subscriptions.
    pub priority: Priority,
    /// Subscriptions that grant the bucket.
    pub subscriptions: Vec<Subscription>,
}
