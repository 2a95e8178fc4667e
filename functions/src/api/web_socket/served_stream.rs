//! One stream of a connection: its lines, and how many the client has asked for.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;

use crate::api::error::ApiError;
use crate::rsocket::Credits;
use crate::stream_log::StreamTally;

/// The end of a stream that fails.
pub(super) enum StreamFailure {
    /// The request is refused.
    Refused(ApiError),
    /// The stream is cut because of an error of the server, which is logged.
    Cut,
}

/// The next event of a stream.
pub(super) enum Next {
    /// A line: one BSON document.
    Line(Bytes),
    /// The stream has ended.
    End,
    /// The stream has failed.
    Failed(StreamFailure),
}

/// One stream of a connection.
pub(super) struct ServedStream {
    pub(super) id: u32,
    pub(super) credits: Credits,
    /// The time from which the stream is dropped although its client asks for no more lines.
    pub(super) drop_at: Instant,
    pub(super) tally: Arc<StreamTally>,
    chunks: BoxStream<'static, Result<Bytes, StreamFailure>>,
    /// Lines of the last chunk that are not sent yet.
    waiting: Bytes,
}

impl ServedStream {
    pub(super) fn new(
        id: u32,
        credits: Credits,
        drop_at: Instant,
        tally: Arc<StreamTally>,
        chunks: BoxStream<'static, Result<Bytes, StreamFailure>>,
    ) -> Self {
        Self { id, credits, drop_at, tally, chunks, waiting: Bytes::new() }
    }

    /// Returns what the stream has next, once the client has asked for it. Nothing is read or made
    /// before, which is the backpressure of a stream.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        loop {
            if self.credits.is_empty() {
                return Poll::Pending;
            }
            if let Some(line) = self.take_line() {
                self.credits.spend();
                return Poll::Ready(Next::Line(line));
            }
            match self.chunks.poll_next_unpin(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(chunk))) => self.waiting = chunk,
                Poll::Ready(Some(Err(failure))) => return Poll::Ready(Next::Failed(failure)),
                Poll::Ready(None) => return Poll::Ready(Next::End),
            }
        }
    }

    /// Takes the next line, which begins with its length. A chunk has whole lines only.
    fn take_line(&mut self) -> Option<Bytes> {
        let length = self.waiting.first_chunk::<4>()?;
        let length = usize::try_from(i32::from_le_bytes(*length)).ok()?;
        Some(self.waiting.split_to(length.min(self.waiting.len())))
    }
}
