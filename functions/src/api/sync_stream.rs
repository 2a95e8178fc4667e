//! The sync stream as an HTTP response.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use metrics::counter;
use tidewater_protocol::{ErrorChain, LineFormat, StreamRequest};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, error, field, info_span};

use super::error::ApiError;
use super::old_sdk;
use super::request::{authorise, client, client_key, read_stream_request};
use crate::app_state::{AppState, SyncStore};
use crate::auth::{AuthError, Verified};
use crate::clock::unix_now;
use crate::content::{BSON_STREAM, accepted_coding, accepts_bson, compressed};
use crate::metrics::STREAMS_CUT;
use crate::open_streams::StreamPlace;
use crate::settings::StreamDeadline;
use crate::stream::{Connection, StreamParams};

/// Content type of a stream of JSON lines.
const JSON_STREAM: &str = "application/x-ndjson";

/// The parts of a stream that its request body does not determine.
pub(super) struct Transport {
    /// Set if the lines are BSON; otherwise they are JSON of the form that the request wants.
    pub(super) bson: bool,
    /// The time when the stream must have ended.
    pub(super) deadline: Option<Instant>,
    pub(super) permit: OwnedSemaphorePermit,
}

/// An open stream. Its work belongs to the span.
pub(super) struct LineStream<S: SyncStore> {
    connection: Connection<S>,
    place: StreamPlace,
    span: Span,
}

/// Serves `POST /sync/stream`.
pub(super) async fn sync_stream<S: SyncStore>(
    State(app): State<Arc<AppState<S>>>,
    deadline: Option<Extension<StreamDeadline>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let deadline = deadline.map(|Extension(StreamDeadline(at))| at);
    let verified = match authorise(&app, &headers, unix_now()).await {
        Err(ApiError::Unauthorized(AuthError::Expired))
            if old_sdk::repeats_expired_tokens(&headers) =>
        {
            let permit = Arc::clone(&app.expired_streams).try_acquire_owned();
            let permit = permit.map_err(|_| ApiError::Unauthorized(AuthError::Expired))?;
            let shutdown = app.settings.shutdown.clone();
            return Ok(old_sdk::expired_stream(permit, deadline, shutdown));
        }
        verified => verified?,
    };

    // The permit is taken before the body is read, so that refused streams cost little.
    let transport = Transport { bson: accepts_bson(&headers), deadline, permit: permit(&app)? };
    let content_type = if transport.bson { BSON_STREAM } else { JSON_STREAM };
    let request = read_stream_request(body, &app.settings.quotas).await?;
    let chunks = LineStream::open(app, verified, request, transport).await?.chunks();

    let coding = accepted_coding(&headers);
    let body = match coding {
        Some(coding) => Body::from_stream(compressed(chunks, coding)),
        None => Body::from_stream(chunks),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        // Tells reverse proxies not to buffer the response.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let mut response = (headers, body).into_response();
    if let Some(coding) = coding {
        let coding = HeaderValue::from_static(coding.name());
        response.headers_mut().insert(CONTENT_ENCODING, coding);
    }
    Ok(response)
}

/// Returns the permit for another stream of this process.
pub(super) fn permit<S>(app: &AppState<S>) -> Result<OwnedSemaphorePermit, ApiError> {
    if app.settings.shutdown.is_cancelled() {
        return Err(ApiError::ShuttingDown);
    }
    let permit = Arc::clone(&app.connections).try_acquire_owned();
    permit.map_err(|_| ApiError::TooManyConnections)
}

impl<S: SyncStore> LineStream<S> {
    /// Opens the stream of an authorised request.
    pub(super) async fn open(
        app: Arc<AppState<S>>,
        verified: Verified,
        request: StreamRequest,
        transport: Transport,
    ) -> Result<Self, ApiError> {
        let client_key = client_key(&verified.user_id, request.client_id.as_deref())?;
        let place = app.streams.open(&client_key).ok_or(ApiError::TooManyStreams)?;
        let span = info_span!("stream", client_id = client_key.client_id, buckets = field::Empty);
        let valid_seconds = verified.expires_at.saturating_sub(unix_now());
        let positions =
            request.buckets.iter().map(|bucket| (bucket.name.clone(), bucket.after)).collect();

        let params = StreamParams {
            client_key,
            positions,
            format: match (transport.bson, request.raw_data) {
                (true, _) => LineFormat::Bson,
                (false, true) => LineFormat::Json,
                (false, false) => LineFormat::NestedJson,
            },
            snapshots: request.tidewater.as_ref().is_some_and(|tidewater| tidewater.snapshots > 0),
            valid: Duration::from_secs(u64::try_from(valid_seconds).unwrap_or(0)),
            deadline: transport.deadline,
            permit: transport.permit,
            client: client(verified, request)?,
        };
        let connection = Box::pin(Connection::open(app, params)).instrument(span.clone()).await?;
        if !place.keep(connection.kept_bytes()) {
            return Err(ApiError::TooManyStreams);
        }

        span.record("buckets", connection.bucket_count());
        span.in_scope(|| debug!("stream opened"));
        Ok(Self { connection, place, span })
    }

    /// Returns the chunks of the stream, until it ends or must give its place to a later one. An error
    /// cuts the connection: the status has been sent long before, so there is no other way to tell the
    /// client.
    pub(super) fn chunks(self) -> impl futures::Stream<Item = io::Result<Bytes>> {
        let Self { connection, place, span } = self;
        stream::unfold(Some((connection, place)), move |open| {
            let next = async move {
                let (mut connection, place) = open?;
                let chunk = tokio::select! {
                    chunk = connection.next_chunk() => chunk,
                    // A chunk has whole lines, so the stream ends after one.
                    () = place.ended() => return None,
                };
                match chunk {
                    Ok(Some(chunk)) => Some((Ok(chunk), Some((connection, place)))),
                    Ok(None) => None,
                    Err(cause) => {
                        counter!(STREAMS_CUT).increment(1);
                        error!(error = %ErrorChain(&cause), "stream cut");
                        // The server drops unsent bytes when it sees the error. One turn of the
                        // scheduler lets it send them before.
                        tokio::task::yield_now().await;
                        Some((Err(io::Error::other(cause)), None))
                    }
                }
            };

            next.instrument(span.clone())
        })
    }
}
