//! The app's choices.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use tidewater_protocol::{Extensions, StreamRequest, Streams};

/// The app's choices. The default is right for a Tidewater server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Recomputes the checksum of each operation. On by default. Turn it off for a PowerSync
    /// service, which hashes operations in another way.
    pub verify_operations: bool,
    /// The pause before a server that has ended the stream is polled again. 5 s by default.
    pub poll_interval: Duration,
    /// Accepts buckets as snapshots where the server offers them. This is many times faster than
    /// row by row. On by default; a server without snapshots sends rows either way.
    pub snapshots: bool,
    /// Connection parameters, which the sync config can use. They are not authenticated.
    pub parameters: Option<Map<String, Value>>,
    /// The streams to subscribe to. By default the auto-subscribed ones.
    pub streams: Option<Streams>,
    /// Key-value pairs for the server's logs.
    pub app_metadata: BTreeMap<String, String>,
    /// The number of failures in a row after which [`crate::Client::sync_once`] gives up. 5 by
    /// default.
    pub failures_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verify_operations: true,
            poll_interval: Duration::from_secs(5),
            snapshots: true,
            parameters: None,
            streams: None,
            app_metadata: BTreeMap::new(),
            failures_max: 5,
        }
    }
}

impl Options {
    /// Returns the stream request, still without the buckets' positions.
    pub(super) fn stream_request(&self, client_id: &str) -> StreamRequest {
        let metadata = &self.app_metadata;

        StreamRequest {
            buckets: Vec::new(),
            include_checksum: true,
            raw_data: true,
            parameters: self.parameters.clone(),
            client_id: Some(client_id.to_owned()),
            streams: Some(self.streams.clone().unwrap_or_default()),
            app_metadata: (!metadata.is_empty()).then(|| metadata.clone()),
            tidewater: self.snapshots.then_some(Extensions { snapshots: 1 }),
        }
    }
}
