//! An HTTP/1.1 server whose connections are bounded in number, time and memory.
//!
//! `axum::serve` has no timeouts and no bound on connections, and speaks HTTP/2 as soon as any crate
//! of the build enables it. So connections are served by hyper directly, and by HTTP/1.1 only: one
//! connection is one request at a time, which the bounds on connections then bound as well.

mod connection;
mod file_limit;
mod limits;
mod log_pause;
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

use connection::{Accepted, serve_connection};
use log_pause::LogPause;
use places::Places;

pub(crate) use limits::ConnectionLimits;

/// Length of the queue of connections that the kernel has accepted for us. A storm of clients after a
/// restart fits in, and the kernel lowers it to its own maximum.
const BACKLOG: u32 = 4_096;

/// Bytes that the kernel may keep for a client that does not read. By itself it would keep several
/// MB. A client at 100 ms distance still gets some MB per second.
const SEND_BUFFER_BYTES: u32 = 256 << 10;

/// Pause after an error of `accept` that repeats at once, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

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
        let accepted = Accepted { stream, peer, place, tracked: connections.token() };
        let connection = serve_connection(accepted, router.clone(), limits, shutdown);
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

#[cfg(test)]
mod tests;
