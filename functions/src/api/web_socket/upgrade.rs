//! The beginning of a WebSocket.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tracing::{Instrument, debug, info_span, warn};

use super::connection::Connection;
use crate::api::error::ApiError;
use crate::app_state::{AppState, SyncStore};
use crate::clock::unix_now;

/// Size in bytes of the buffer for received frames. Requests are larger and make it grow, but a
/// connection that waits receives keep-alives of some 20 bytes.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// Room for the names, lengths and metadata around a request's body, in bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 64 << 10;

/// Time between two warnings about upgrades that are not served, in seconds. Clients repeat them every
/// few seconds.
const WARNING_INTERVAL_SECONDS: i64 = 60;

/// Returns whether a request asks for a WebSocket. Some proxies and functions remove `Upgrade`.
fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(SEC_WEBSOCKET_KEY) || has_word(headers, &UPGRADE, "websocket")
}

/// Serves `GET /sync/stream`, which only asks for a WebSocket.
pub(in crate::api) async fn upgrade<S: SyncStore>(
    State(app): State<Arc<AppState<S>>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    if !is_upgrade(&parts.headers) {
        return Err(ApiError::NotFound);
    }
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let (Some(on_upgrade), Some(accept)) = (on_upgrade, accept_key(&parts.headers)) else {
        warn_of_upgrade();
        return Err(ApiError::NoWebSocket);
    };

    if app.settings.shutdown.is_cancelled() {
        return Err(ApiError::ShuttingDown);
    }
    let permit = Arc::clone(&app.sockets).try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::TooManyConnections)?;

    let message_bytes_max = app.settings.quotas.body_bytes_max + MESSAGE_OVERHEAD_BYTES;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0) // A line is written in small frames, so that no buffer grows to its size.
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));

    let span = info_span!("web_socket");
    let serve = async move {
        match on_upgrade.await {
            Ok(upgraded) => {
                let io = TokioIo::new(upgraded);
                let io = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
                Connection::new(app, io, permit).serve().await;
            }
            Err(error) => debug!(%error, "a WebSocket was not established"),
        }
    };
    tokio::spawn(serve.instrument(span));
    Ok(switching_protocols(accept))
}

/// Warns that a client needs WebSocket, which it does not get.
fn warn_of_upgrade() {
    static LAST: AtomicI64 = AtomicI64::new(i64::MIN);
    let now = unix_now();
    let last = LAST.load(Ordering::Relaxed);
    let is_due = now.saturating_sub(last) >= WARNING_INTERVAL_SECONDS;
    let is_first =
        || LAST.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();

    if is_due && is_first() {
        warn!(
            "a client asks for a WebSocket, which is served at /sync/stream of a plain server only: \
             choose HTTP as the connection method in the app, use `tidewater serve` instead of a \
             function, or let the proxy pass on the Upgrade header"
        );
    }
}

/// Returns the proof that the server has read the handshake. `None` if this is not a handshake of the
/// only version.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_handshake = has_word(headers, &UPGRADE, "websocket")
        && has_word(headers, &CONNECTION, "upgrade")
        && has_word(headers, &SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_handshake)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|list| list.to_str().ok());
    let mut words = lists.flat_map(|list| list.split(',')).map(str::trim);
    words.any(|one| one.eq_ignore_ascii_case(word))
}

fn switching_protocols(accept: HeaderValue) -> Response {
    let headers = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}
