//! One connection, from its start to its end.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, RETRY_AFTER};
use axum::http::{HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::Either;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidewater_functions::{ClientAddress, ClientStall};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::ServiceExt;

use super::limits::ConnectionLimits;
use super::places::Place;
use super::timed_io::{Held, TimedIo};

/// Paths that a connection in a reserved place may ask for.
const PROBES: &str = "/probes/";

/// Time after which a client may try again when no connection is free, in seconds.
const FULL_RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// A connection that has been accepted.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
    /// Held until the connection ends.
    pub(super) tracked: TaskTrackerToken,
}

/// Returns a future that serves one connection until it ends, or carries another protocol.
pub(super) fn serve_connection(
    accepted: Accepted,
    router: Router,
    limits: &ConnectionLimits,
    shutdown: &CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let Accepted { stream, peer, place, tracked } = accepted;
    // Nagle's algorithm would delay a small line until the previous one is acknowledged.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }

    let (ended, first_head, permit) = match place {
        Place::Ordinary(permit) => (CancellationToken::new(), limits.first_head, Some(permit)),
        Place::Reserved(ended) => (ended, limits.reserved_head, None),
    };
    let is_reserved = permit.is_none();
    let requested = CancellationToken::new();
    let stall = ClientStall::default();

    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(limits.head_bytes_max)
        .keep_alive(!is_reserved);
    let service = {
        let requested = requested.clone();
        let stall = stall.clone();
        service_fn(move |mut request: Request<Incoming>| {
            requested.cancel();
            if is_reserved && !request.uri().path().starts_with(PROBES) {
                return Either::Left(ready(Ok::<_, Infallible>(refusal())));
            }
            request.extensions_mut().insert(ClientAddress(peer.ip()));
            request.extensions_mut().insert(stall.clone());
            Either::Right(router.clone().oneshot(request.map(Body::new)))
        })
    };
    let io = TokioIo::new(TimedIo::new(stream, limits.write, stall, Held { permit, tracked }));
    let connection = builder.serve_connection(io, service).with_upgrades();

    let shutdown = shutdown.clone();
    async move {
        let mut connection = pin!(connection);
        let mut first_head = pin!(head_timeout(first_head, requested));
        let mut is_ending = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection failed");
                    }
                    return;
                }
                () = first_head.as_mut() => {
                    tracing::debug!("a connection sent no request in time");
                    return;
                }
                () = ended.cancelled() => return,
                () = shutdown.cancelled(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Waits until the timeout, or for ever once a request has come.
async fn head_timeout(timeout: Duration, requested: CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(timeout) => {}
        () = requested.cancelled() => std::future::pending().await,
    }
}

/// Returns the reply to a request for which there is no connection.
fn refusal() -> Response {
    let headers =
        [(RETRY_AFTER, FULL_RETRY_AFTER), (CONNECTION, HeaderValue::from_static("close"))];
    (StatusCode::SERVICE_UNAVAILABLE, headers).into_response()
}
