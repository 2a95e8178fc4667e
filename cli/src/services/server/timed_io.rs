//! A connection whose client must read what it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidewater_functions::ClientStall;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Bytes that a client must take within the write timeout, as long as more wait for it. A client
/// that takes a byte now and then would otherwise keep its buffers for ever. It is about 1 kB/s.
pub(super) const PROGRESS_BYTES: usize = 64 << 10;

/// A connection that fails once its client has not read for a time.
pub(super) struct TimedIo {
    stream: TcpStream,
    write_timeout: Duration,
    /// Set while bytes wait for the client.
    stall: Option<Stall>,
    /// Told when the client does not read.
    mark: ClientStall,
    _held: Held,
}

/// State that a connection keeps until it ends, also after it has been upgraded.
#[expect(dead_code, reason = "its fields act when they are dropped")]
pub(super) struct Held {
    /// The connection's place.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// The server waits for the connection at its shutdown.
    pub(super) tracked: TaskTrackerToken,
}

/// A time in which the client must make progress.
struct Stall {
    timeout: Pin<Box<Sleep>>,
    written: usize,
}

impl TimedIo {
    pub(super) fn new(
        stream: TcpStream,
        write_timeout: Duration,
        mark: ClientStall,
        held: Held,
    ) -> Self {
        Self { stream, write_timeout, stall: None, mark, _held: held }
    }

    /// Judges the result of a write.
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let (Ok(bytes), Some(stall)) = (&written, &mut self.stall) {
                stall.written += bytes;
                if stall.written >= PROGRESS_BYTES {
                    self.stall = None;
                }
            }
            return Poll::Ready(written);
        }

        let write_timeout = self.write_timeout;
        let stall = self.stall.get_or_insert_with(|| Stall {
            timeout: Box::pin(tokio::time::sleep_until(Instant::now() + write_timeout)),
            written: 0,
        });
        ready!(stall.timeout.as_mut().poll(context));
        self.mark.note();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl AsyncRead for TimedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The caller flushes once it has written everything, so nothing waits for the client any more.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stall = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
