//! The body of `POST /sync/stream`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::op_id::OpId;

/// The body of a client's request. Every field may be absent, and unknown ones are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamRequest {
    /// Buckets that the client holds, with its position in each.
    pub buckets: Vec<BucketPosition>,
    /// Request for checksums. Servers ignore it and always send them.
    pub include_checksum: bool,
    /// Request for an operation's `data` as a JSON string. Without it, `data` is a nested object.
    pub raw_data: bool,
    /// Connection parameters. The app sets them; they are not authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
    /// Identity of the client's database. It is part of the key of its write checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Streams that the client wants. Without it, these are the default streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<Streams>,
    /// Description of the app, for the server's logs only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_metadata: Option<BTreeMap<String, String>>,
    /// Extensions of PowerSync's protocol that the client understands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tidewater: Option<Extensions>,
}

/// The extensions that a client understands. PowerSync's SDKs send none, and no extension is sent
/// to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extensions {
    /// Version of `snapshot` lines that the client understands: 0 for none, 1 for the present one. A
    /// greater number comes from a later client, which understands 1 as well.
    pub snapshots: u32,
}

/// The position of a client in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketPosition {
    /// Name of the bucket.
    pub name: String,
    /// Position up to which the client holds everything: the op id of a completed checkpoint, the
    /// last op id of a line, or a marker inside a snapshot.
    pub after: OpId,
}

/// The sync streams that a client wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Streams {
    /// Request for the streams with `auto_subscribe`.
    pub include_defaults: bool,
    /// Explicit subscriptions. The answer names each by its index in this list.
    pub subscriptions: Vec<StreamSubscription>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { include_defaults: true, subscriptions: Vec::new() }
    }
}

/// An explicit subscription to a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamSubscription {
    /// Name of the stream.
    pub stream: String,
    /// Parameters of the subscription. They are not authenticated.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
    /// Priority instead of the stream's own, from 0 (most urgent) to 3.
    #[serde(default)]
    pub override_priority: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> serde_json::Result<StreamRequest> {
        serde_json::from_str(body)
    }

    #[test]
    fn an_empty_body_requests_the_defaults() {
        let request: StreamRequest = read("{}").unwrap();
        assert_eq!(request, StreamRequest::default());
        assert!(request.streams.unwrap_or_default().include_defaults);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let body = r#"{"binary_data":true,"only":["x"],
            "streams":{"subscriptions":[{"stream":"a","parameters":null,"more":1}]}}"#;
        let streams = read(body).unwrap().streams.unwrap();
        assert!(streams.include_defaults);
        assert_eq!(streams.subscriptions[0].stream, "a");
    }

    #[test]
    fn a_position_is_a_decimal_string() {
        let good = read(r#"{"buckets":[{"name":"b","after":"4808963628793332012"}]}"#).unwrap();
        assert_eq!(good.buckets[0].after.get(), 4_808_963_628_793_332_012);
        assert!(read(r#"{"buckets":[{"name":"b","after":5}]}"#).is_err());
    }
}
