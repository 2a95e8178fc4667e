//! The log of streams: one line when a stream begins, and one when it ends, however it ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::settings::ClientStall;

/// The longest text of a client in a log line, in characters. Ids are shorter: SDKs send UUIDs.
const LOGGED_CHARS_MAX: usize = 128;

/// The reason why a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// The client has closed the stream or its connection, or its network is gone.
    ClientLeft,
    /// The client was up to date for as long as the process keeps streams open.
    UpToDate,
    /// The stream came near the time limit of its function.
    HandOver,
    /// The token has expired.
    TokenExpired,
    /// The process ends.
    Shutdown,
    /// Readers have another sync config.
    ConfigChanged,
    /// No checkpoint is visible yet.
    NotReady,
    /// The request cannot be read.
    Invalid,
    /// A limit is exceeded.
    Limit(StreamLimit),
    /// The client did not read in time what it was sent.
    WriteTimeout,
    /// The client of a WebSocket has sent nothing for too long.
    Silent,
    /// The server has failed.
    Error,
}

/// A limit that ends streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamLimit {
    /// Buckets, parameter lookups or work of a request.
    Request,
    /// Streams of one user, or what they keep of their requests.
    UserStreams,
    /// Streams of one client: later ones have taken the place.
    ClientStreams,
    /// Streams of the process.
    Connections,
    /// Requests of one user or address.
    Rate,
    /// Bytes of one answer of a function.
    AnswerBytes,
}

impl StreamEnd {
    /// Returns the name in the log.
    const fn name(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::UpToDate => "up_to_date",
            Self::HandOver => "hand_over",
            Self::TokenExpired => "token_expired",
            Self::Shutdown => "shutdown",
            Self::ConfigChanged => "config_changed",
            Self::NotReady => "not_ready",
            Self::Invalid => "invalid",
            Self::Limit(_) => "limit",
            Self::WriteTimeout => "write_timeout",
            Self::Silent => "silent",
            Self::Error => "error",
        }
    }

    /// Returns the name of the limit that has ended the stream, if one has.
    const fn limit(self) -> Option<&'static str> {
        let Self::Limit(limit) = self else { return None };
        Some(match limit {
            StreamLimit::Request => "request",
            StreamLimit::UserStreams => "user_streams",
            StreamLimit::ClientStreams => "client_streams",
            StreamLimit::Connections => "connections",
            StreamLimit::Rate => "rate",
            StreamLimit::AnswerBytes => "answer_bytes",
        })
    }
}

/// The account of one stream, shared by everything that serves it.
#[derive(Debug, Default)]
pub(crate) struct StreamTally {
    buckets: AtomicU64,
    operations: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    end: Mutex<Option<StreamEnd>>,
}

impl StreamTally {
    /// Notes how many buckets the client reads.
    pub(crate) fn set_buckets(&self, buckets: usize) {
        self.buckets.store(buckets as u64, Ordering::Relaxed);
    }

    /// Adds operations of data lines, and the rows that they and snapshots have.
    pub(crate) fn add_operations(&self, operations: u64, rows: u64) {
        self.operations.fetch_add(operations, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Adds bytes that were handed to the connection.
    pub(crate) fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the number of bytes that were handed to the connection.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Notes why the stream ends. The last reason is the one that is logged.
    pub(crate) fn end(&self, end: StreamEnd) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }
}

/// The parts of a request that are logged.
pub(crate) struct StreamFacts<'a> {
    /// The user and the client id; empty if they are not known.
    pub(crate) user: &'a str,
    pub(crate) client: &'a str,
    /// The user agent of the SDK.
    pub(crate) sdk: Option<&'a str>,
    /// The transport and the form of lines: `ndjson`, `bson` or `websocket`.
    pub(crate) transport: &'static str,
    /// The name of the content coding.
    pub(crate) coding: Option<&'static str>,
    /// Number of buckets whose positions the client has sent.
    pub(crate) positions: usize,
    /// Number of streams of the sync config that the client subscribes to.
    pub(crate) subscriptions: usize,
}

/// An open stream in the log. The line of its end is written when this is dropped.
pub(crate) struct StreamLog {
    /// Number of the stream in this process, which its two lines have in common.
    number: u64,
    user: Box<str>,
    client: Box<str>,
    started: Instant,
    tally: Arc<StreamTally>,
    shutdown: CancellationToken,
    stall: Option<ClientStall>,
}

impl StreamLog {
    /// Logs that a stream begins.
    pub(crate) fn begin(
        facts: &StreamFacts<'_>,
        tally: Arc<StreamTally>,
        shutdown: CancellationToken,
        stall: Option<ClientStall>,
    ) -> Self {
        static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
        let user = logged(facts.user);
        let client = logged(facts.client);
        let sdk = facts.sdk.map(logged);

        info!(
            parent: None,
            stream = number,
            user = &*user,
            client = &*client,
            sdk = sdk.as_deref(),
            transport = facts.transport,
            coding = facts.coding,
            positions = facts.positions,
            subscriptions = facts.subscriptions,
            "stream began"
        );
        Self { number, user, client, started: Instant::now(), tally, shutdown, stall }
    }

    /// Returns the account of the stream.
    pub(crate) fn tally(&self) -> Arc<StreamTally> {
        Arc::clone(&self.tally)
    }

    /// Returns the chunks. The stream ends in the log when they are dropped.
    pub(crate) fn attach<T>(self, chunks: impl Stream<Item = T>) -> impl Stream<Item = T> {
        chunks.inspect(move |_| {
            let _held = &self;
        })
    }

    /// Returns the chunks as [`Self::attach`] does, and counts their bytes as sent.
    pub(crate) fn attach_counting<E>(
        self,
        chunks: impl Stream<Item = Result<Bytes, E>>,
    ) -> impl Stream<Item = Result<Bytes, E>> {
        chunks.inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                self.tally.add_bytes(chunk.len());
            }
        })
    }

    /// Returns why the stream has ended. One that was dropped was closed by its client, unless the server
    /// had a reason to close the connection.
    fn end(&self) -> StreamEnd {
        let noted = *self.tally.end.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stall.as_ref().is_some_and(ClientStall::is_noted) {
            return StreamEnd::WriteTimeout;
        }
        let is_ending = self.shutdown.is_cancelled();
        noted.unwrap_or(if is_ending { StreamEnd::Shutdown } else { StreamEnd::ClientLeft })
    }
}

impl Drop for StreamLog {
    fn drop(&mut self) {
        let end = self.end();
        let StreamTally { buckets, operations, rows, bytes, end: _ } = &*self.tally;
        info!(
            parent: None,
            stream = self.number,
            user = &*self.user,
            client = &*self.client,
            buckets = buckets.load(Ordering::Relaxed),
            rows = rows.load(Ordering::Relaxed),
            operations = operations.load(Ordering::Relaxed),
            bytes = bytes.load(Ordering::Relaxed),
            seconds = self.started.elapsed().as_secs_f64(),
            reason = end.name(),
            limit = end.limit(),
            "stream ended"
        );
    }
}

/// Returns a text of a client as it is logged: of limited length, and without characters that could look
/// like another line or reorder the text around them.
fn logged(text: &str) -> Box<str> {
    let chars = text.chars().take(LOGGED_CHARS_MAX);
    chars.map(|c| if is_deceptive(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn is_deceptive(c: char) -> bool {
    // Line and paragraph separators, and marks that change the direction of text.
    let is_format =
        matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_format || c == '\u{FEFF}'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_client_cannot_look_like_another_line() {
        let hostile = "a\r\n{\"reason\":\"x\"}\u{1b}[2J\u{9b}2J\u{202e}b\u{2028}c\0";
        assert!(logged(hostile).starts_with("a\u{FFFD}\u{FFFD}{"));
        assert!(!logged(hostile).chars().any(is_deceptive));
        assert_eq!(logged(&"é".repeat(5_000)).chars().count(), LOGGED_CHARS_MAX);
        assert_eq!(&*logged("powersync-js/1.45.0 Zoë"), "powersync-js/1.45.0 Zoë");
    }

    #[test]
    fn the_last_reason_counts_and_a_client_that_does_not_read_is_no_client_that_left() {
        let facts = StreamFacts {
            user: "u1",
            client: "c1",
            sdk: None,
            transport: "ndjson",
            coding: None,
            positions: 0,
            subscriptions: 0,
        };
        let tally = Arc::new(StreamTally::default());
        let shutdown = CancellationToken::new();
        let stall = ClientStall::default();
        let log =
            StreamLog::begin(&facts, Arc::clone(&tally), shutdown.clone(), Some(stall.clone()));
        assert_eq!(log.end(), StreamEnd::ClientLeft);
        shutdown.cancel();
        assert_eq!(log.end(), StreamEnd::Shutdown);
        tally.end(StreamEnd::HandOver);
        tally.end(StreamEnd::Error);
        assert_eq!(log.end(), StreamEnd::Error);
        stall.note();
        assert_eq!(log.end(), StreamEnd::WriteTimeout);
    }
}
