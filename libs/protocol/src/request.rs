//! The body of `POST /sync/stream`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::OpId;

/// What a client asks for. Every field may be absent; unknown ones are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamRequest {
    /// What the client holds.
    pub buckets: Vec<BucketPosition>,
    /// Sent by clients; checksums are always sent.
    pub include_checksum: bool,
    /// Whether an operation's `data` is to be a JSON string (else a nested object).
    pub raw_data: bool,
    /// Connection parameters, set by the app and not authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
    /// Identity of the client's database, part of the key of its write checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Which streams; absent means the default ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<Streams>,
    /// For the server's logs only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_metadata: Option<BTreeMap<String, String>>,
    /// What the client understands beyond PowerSync's protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tidewater: Option<Extensions>,
}

/// Extensions that a client asks for. Others' clients send none, and are sent none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extensions {
    /// 1: `snapshot` lines are understood. 0: they are not. A greater number is one of a later
    /// version, which understands 1 as well.
    pub snapshots: u32,
}

/// How far a client has got in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketPosition {
    /// The bucket.
    pub name: String,
    /// Everything up to it is there: the op id of a completed checkpoint, the last op id of a
    /// line, or a marker inside a snapshot.
    pub after: OpId,
}

/// Which sync streams a client wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Streams {
    /// Whether the streams that subscribe by themselves are wanted.
    pub include_defaults: bool,
    /// Explicit subscriptions, which the answer names by their index.
    pub subscriptions: Vec<StreamSubscription>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { include_defaults: true, subscriptions: Vec::new() }
    }
}

/// One explicit subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamSubscription {
    /// The stream's name.
    pub stream: String,
    /// Its parameters, not authenticated.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
    /// 0 (most urgent) to 3, instead of the stream's own.
    #[serde(default)]
    pub override_priority: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_asks_for_the_defaults() {
        let request: StreamRequest = serde_json::from_str("{}").unwrap();
        assert_eq!(request, StreamRequest::default());
        assert!(request.streams.unwrap_or_default().include_defaults);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let body = r#"{"binary_data":true,"only":["x"],
            "streams":{"subscriptions":[{"stream":"a","parameters":null,"more":1}]}}"#;
        let streams = serde_json::from_str::<StreamRequest>(body).unwrap().streams.unwrap();
        assert!(streams.include_defaults);
        assert_eq!(streams.subscriptions[0].stream, "a");
    }

    #[test]
    fn a_position_is_a_decimal_string() {
        let read = |body| serde_json::from_str::<StreamRequest>(body);
        let good = read(r#"{"buckets":[{"name":"b","after":"4808963628793332012"}]}"#).unwrap();
        assert_eq!(good.buckets[0].after.get(), 4_808_963_628_793_332_012);
        assert!(read(r#"{"buckets":[{"name":"b","after":5}]}"#).is_err());
    }
}
