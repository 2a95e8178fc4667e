//! An HTTP/1.1 server whose connections are bounded in number, time and memory.
//!
//! `axum::serve` has no timeouts and no bound on connections, and speaks HTTP/2 as soon as any crate
//! of the build enables it. So connections are served by hyper directly, and by HTTP/1.1 only: one
//! connection is one request at a time, which the bounds on connections then bound as well.

mod connection;
mod file_limit;
mod places;
mod timed_io;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connection::serve_connection;
use places::Places;

/// Length of the queue of connections that the kernel has accepted for us. A storm of clients after a
/// restart fits in, and the kernel lowers it to its own maximum.
const BACKLOG: u32 = 4_096;

/// Bytes that the kernel may keep for a client that does not read. By itself it would keep several
/// MB. A client at 100 ms distance still gets some MB per second.
const SEND_BUFFER_BYTES: u32 = 256 << 10;

/// Pause after an error of `accept` that repeats at once, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Minimum time between two log lines about the same trouble, which a client may cause at any rate.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Bounds on the connections of a server.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimits {
    /// Number of connections, besides those that are reserved for probes.
    pub(crate) connections_max: usize,
    /// Number of connections beyond that, which answer probes only.
    pub(crate) reserved: usize,
    /// Time from the start of a connection to the end of the first request's head. A proxy or SDK
    /// sends it at once.
    pub(crate) first_head: Duration,
    /// The same for connections that are reserved for probes.
    pub(crate) reserved_head: Duration,
    /// Time from the end of a reply to the end of the next request's head. It is longer than the 60 s
    /// for which common load balancers keep idle connections, since these must close them first.
    pub(crate) idle: Duration,
    /// Time in which a client must take 64 KiB while it has more to read.
    pub(crate) write: Duration,
    /// Bytes of a request's head. Tokens of SDKs have some KB.
    pub(crate) head_bytes_max: usize,
    /// Time that open connections have to end after the shutdown begins. A stream ends at its next
    /// line; the timeout is for clients that do not read.
    pub(crate) shutdown: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            reserved: 32,
            first_head: Duration::from_secs(10),
            reserved_head: Duration::from_secs(2),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(60),
            head_bytes_max: 64 << 10,
            shutdown: Duration::from_secs(10),
        }
    }
}

impl ConnectionLimits {
    /// Raises the limit on open files as far as it may be, and returns what fits below it, but at most
    /// `wanted` connections.
    pub(crate) fn within_file_limit(wanted: usize) -> Self {
        let limits = Self::default();
        let files = file_limit::raise();
        let fits = file_limit::connections(files, limits.reserved);
        if fits < wanted {
            tracing::warn!(
                open_files_max = files,
                connections_max = fits,
                wanted,
                "the limit on open files allows fewer connections than --max-connections: raise the \
                 hard limit (ulimit -Hn, LimitNOFILE)"
            );
        }
        Self { connections_max: fits.min(wanted), ..limits }
    }
}

/// Starts to listen. Port 0 selects a free port.
pub(crate) async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let failed = || format!("cannot listen on '{address}': choose another address with --listen");
    let mut last_error = None;
    for address in tokio::net::lookup_host(address).await.with_context(failed)? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last_error = Some(error),
        }
    }
    let error = last_error.unwrap_or_else(|| io::Error::other("the name has no address"));
    Err(error).with_context(failed)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `shutdown`, then waits until the connections have ended or the timeout expires.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &ConnectionLimits,
    shutdown: &CancellationToken,
) {
    let places = Places::new(limits);
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    let mut accepting = Accepting { listener, trouble: LogPause::default() };

    while let Some((stream, peer)) = accepting.next(shutdown).await {
        let Some(place) = places.take() else { continue };
        let connection = serve_connection(stream, peer, place, router.clone(), limits, shutdown);
        let abort = abort.clone();
        connections.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = abort.cancelled() => {}
            }
        });
    }

    drop(accepting);
    connections.close();
    if tokio::time::timeout(limits.shutdown, connections.wait()).await.is_err() {
        tracing::warn!("shutdown timeout: closing connections that are still open");
        abort.cancel();
    }
}

/// A listener, and what was last logged about it.
struct Accepting {
    listener: TcpListener,
    trouble: LogPause,
}

impl Accepting {
    /// Returns the next connection; `None` once the shutdown begins.
    async fn next(&mut self, shutdown: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => return None,
            };
            let error = match accepted {
                Ok(connection) => return Some(connection),
                Err(error) => error,
            };

            // The client has gone before it was accepted. The next one may be there already.
            if is_of_client(&error) {
                continue;
            }
            if self.trouble.may_log() {
                tracing::error!(
                    %error,
                    "cannot accept a connection: if too many files are open, raise their limit \
                     (ulimit -n, LimitNOFILE)"
                );
            }
            // The connection stays in the queue, so the same error would follow at once.
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn is_of_client(error: &io::Error) -> bool {
    [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionRefused,
    ]
    .contains(&error.kind())
}

/// The time of the last log line about some trouble.
#[derive(Debug, Default)]
struct LogPause(Option<tokio::time::Instant>);

impl LogPause {
    /// Returns whether enough time has passed to log again, and begins another pause if so.
    fn may_log(&mut self) -> bool {
        let now = tokio::time::Instant::now();
        let may_log = self.0.is_none_or(|last| now - last >= LOG_INTERVAL);
        if may_log {
            self.0 = Some(now);
        }
        may_log
    }
}

#[cfg(test)]
mod tests;
