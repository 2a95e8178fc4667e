//! The metrics of the sync API.
//!
//! Labels have few values: routes, status codes, error codes. Nothing that a client chooses is a
//! label.

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use tokio::time::Instant;

/// Requests that were answered, by `route` and HTTP `status`. A stream is counted when it begins. Count.
pub const REQUESTS: &str = "tidewater_api_requests_total";

/// Time from a request's arrival to the head of its reply, by `route`. Seconds.
pub const REQUEST_DURATION: &str = "tidewater_api_request_duration_seconds";

/// Tokens that were refused, by error `code` and `reason`. Count.
pub const TOKENS_REFUSED: &str = "tidewater_api_tokens_refused_total";

/// Requests that were refused because a user or address sent too many, by `limit`: `user`, `address`,
/// `streams` or `admin`. Count.
pub const REQUESTS_LIMITED: &str = "tidewater_api_requests_limited_total";

/// Fetches of JWK Sets that ended, by `result`: `ok` or `failed`. Count.
pub const KEY_FETCHES: &str = "tidewater_api_key_fetches_total";

/// Streams that are open. Count.
pub const STREAMS_OPEN: &str = "tidewater_api_streams_open";

/// Time that a stream was open, recorded at its end. Seconds.
pub const STREAM_DURATION: &str = "tidewater_api_stream_duration_seconds";

/// WebSockets that are open. Count.
pub const SOCKETS_OPEN: &str = "tidewater_api_sockets_open";

/// Streams that were cut because of an error of the server. Count.
pub const STREAMS_CUT: &str = "tidewater_api_streams_cut_total";

/// Waiting streams that were woken, because a commit or a write checkpoint may concern them. Count.
pub const STREAMS_WOKEN: &str = "tidewater_api_streams_woken_total";

/// Lines that were handed to clients' connections. Count.
pub const SENT_LINES: &str = "tidewater_api_sent_lines_total";

/// Operations in data lines that were handed to clients' connections. Count.
pub const SENT_OPERATIONS: &str = "tidewater_api_sent_operations_total";

/// Bytes of stream chunks, before compression, that were handed to clients' connections. Bytes.
pub const SENT_BYTES: &str = "tidewater_api_sent_bytes_total";

/// Bytes of streams after compression, by `coding` (`zstd`, `gzip`). Bytes.
pub const COMPRESSED_BYTES: &str = "tidewater_api_compressed_bytes_total";

/// Time since this process first saw the newest visible checkpoint. Updated while streams are open,
/// at least every 22 seconds. The control record holds no time of its own. Seconds.
pub const CHECKPOINT_AGE: &str = "tidewater_api_checkpoint_age_seconds";

/// Describes all metrics of this crate to the installed recorder.
pub fn describe_metrics() {
    describe_counter!(REQUESTS, Unit::Count, "Requests answered, by route and HTTP status");
    describe_histogram!(
        REQUEST_DURATION,
        Unit::Seconds,
        "Time from a request's arrival to the head of its reply, by route"
    );

    describe_counter!(TOKENS_REFUSED, Unit::Count, "Tokens refused, by error code and reason");
    describe_counter!(KEY_FETCHES, Unit::Count, "Fetches of JWK Sets that ended, by result");

    describe_counter!(REQUESTS_LIMITED, Unit::Count, "Requests beyond a rate or quota, by limit");

    describe_gauge!(STREAMS_OPEN, Unit::Count, "Streams that are open");
    describe_histogram!(STREAM_DURATION, Unit::Seconds, "How long a stream was open");
    describe_gauge!(SOCKETS_OPEN, Unit::Count, "WebSockets that are open");
    describe_counter!(STREAMS_CUT, Unit::Count, "Streams cut because of an error of the server");

    describe_counter!(
        STREAMS_WOKEN,
        Unit::Count,
        "Streams woken by a change that may concern them"
    );

    describe_counter!(SENT_LINES, Unit::Count, "Lines sent on streams");
    describe_counter!(SENT_OPERATIONS, Unit::Count, "Operations sent in data lines");
    describe_counter!(SENT_BYTES, Unit::Bytes, "Bytes sent on streams");

    describe_counter!(COMPRESSED_BYTES, Unit::Bytes, "Bytes of streams after compression");

    describe_gauge!(
        CHECKPOINT_AGE,
        Unit::Seconds,
        "Time since this process first saw the newest visible checkpoint"
    );
}

/// Counts a reply.
pub(crate) fn record_request(route: &'static str, status: u16, started: Instant) {
    counter!(REQUESTS, "route" => route, "status" => status.to_string()).increment(1);
    histogram!(REQUEST_DURATION, "route" => route).record(started.elapsed());
}

/// An open stream: counted from its creation until it is dropped.
pub(crate) struct OpenStream {
    since: Instant,
}

impl OpenStream {
    /// Counts a stream that begins.
    pub(crate) fn new(now: Instant) -> Self {
        gauge!(STREAMS_OPEN).increment(1.0);
        Self { since: now }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        gauge!(STREAMS_OPEN).decrement(1.0);
        histogram!(STREAM_DURATION).record(self.since.elapsed());
    }
}

/// An open WebSocket: counted from its creation until it is dropped.
pub(crate) struct OpenSocket(());

impl OpenSocket {
    /// Counts a WebSocket that begins.
    pub(crate) fn new() -> Self {
        gauge!(SOCKETS_OPEN).increment(1.0);
        Self(())
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        gauge!(SOCKETS_OPEN).decrement(1.0);
    }
}
