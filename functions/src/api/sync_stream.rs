//! The sync stream as an HTTP response.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use metrics::counter;
use tidewater_protocol::{ErrorChain, LineFormat, StreamRequest, SyncLine, write_line};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, field, info_span};

use super::error::ApiError;
use super::old_sdk;
use super::request::{authorise, client, client_key, read_stream_request, user_agent};
use crate::app_state::{AppState, SyncStore};
use crate::auth::{AuthError, Verified};
use crate::clock::unix_now;
use crate::content::{
    AnswerBound, BSON_STREAM, Coding, accepted_coding, accepts_bson, bounded, compressed,
};
use crate::metrics::STREAMS_CUT;
use crate::open_streams::StreamPlace;
use crate::settings::{ClientStall, StreamDeadline};
use crate::stream::{Connection, HAND_OVER_TOLD_SECONDS, StreamParams};
use crate::stream_log::{StreamEnd, StreamFacts, StreamLimit, StreamLog, StreamTally};

/// Content type of a stream of JSON lines.
const JSON_STREAM: &str = "application/x-ndjson";

/// The way on which lines reach a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// An HTTP response of JSON lines of the form that the request wants.
    Json,
    /// An HTTP response of BSON documents.
    Bson,
    /// A WebSocket with BSON documents.
    WebSocket,
}

impl Carrier {
    /// Returns the name in the log.
    const fn name(self) -> &'static str {
        match self {
            Self::Json => "ndjson",
            Self::Bson => "bson",
            Self::WebSocket => "websocket",
        }
    }
}

/// The parts of a stream that its request body does not determine.
pub(super) struct Transport {
    pub(super) carrier: Carrier,
    /// The coding of the response.
    pub(super) coding: Option<Coding>,
    /// The user agent of the SDK.
    pub(super) sdk: Option<Box<str>>,
    /// The time when the stream must have ended.
    pub(super) deadline: Option<Instant>,
    pub(super) permit: OwnedSemaphorePermit,
    /// Set by whoever runs the router when the client does not read.
    pub(super) stall: Option<ClientStall>,
    pub(super) tally: Arc<StreamTally>,
}

/// An open stream. Its work belongs to the span.
pub(super) struct LineStream<S: SyncStore> {
    connection: Connection<S>,
    place: StreamPlace,
    span: Span,
    log: StreamLog,
}

/// The facts about a connection beside its request.
#[derive(Clone)]
pub(super) struct Surroundings {
    deadline: Option<Instant>,
    stall: Option<ClientStall>,
}

impl<S: Send + Sync> FromRequestParts<S> for Surroundings {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let deadline = parts.extensions.get().map(|&StreamDeadline(at)| at);
        Ok(Self { deadline, stall: parts.extensions.get().cloned() })
    }
}

/// Serves `POST /sync/stream`.
pub(super) async fn sync_stream<S: SyncStore>(
    State(app): State<Arc<AppState<S>>>,
    Surroundings { deadline, stall }: Surroundings,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let verified = match authorise(&app, &headers, unix_now()).await {
        Err(ApiError::Unauthorized(AuthError::Expired))
            if old_sdk::repeats_expired_tokens(&headers) =>
        {
            let permit = Arc::clone(&app.expired_streams).try_acquire_owned();
            let permit = permit.map_err(|_| ApiError::Unauthorized(AuthError::Expired))?;
            let shutdown = app.settings.shutdown.clone();
            let log = begin_expired(&headers, shutdown.clone(), stall);
            return Ok(old_sdk::expired_stream(permit, deadline, shutdown, log));
        }
        verified => verified?,
    };

    // The permit is taken before the body is read, so that refused streams cost little.
    let permit = permit(&app)?;
    let is_bson = accepts_bson(&headers);
    let content_type = if is_bson { BSON_STREAM } else { JSON_STREAM };
    let coding = accepted_coding(&headers);
    let transport = Transport {
        carrier: if is_bson { Carrier::Bson } else { Carrier::Json },
        coding,
        sdk: user_agent(&headers).map(Box::from),
        deadline,
        permit,
        stall,
        tally: Arc::default(),
    };
    let request = read_stream_request(body, &app.settings.quotas).await?;
    let bytes_max = app.settings.answer_bytes_max;
    let format = line_format(transport.carrier, request.raw_data);
    let stream = LineStream::open(app, verified, request, transport).await?;

    let (log, chunks) = stream.into_chunks();
    let body = match (bytes_max, coding) {
        (Some(bytes_max), coding) => {
            let bound = AnswerBound { bytes_max, last_line: hand_over(format), tally: log.tally() };
            Body::from_stream(log.attach_counting(bounded(chunks, coding, bound)))
        }
        (None, Some(coding)) => Body::from_stream(log.attach_counting(compressed(chunks, coding))),
        (None, None) => Body::from_stream(log.attach_counting(chunks)),
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

fn line_format(carrier: Carrier, is_raw: bool) -> LineFormat {
    match (carrier, is_raw) {
        (Carrier::Bson | Carrier::WebSocket, _) => LineFormat::Bson,
        (Carrier::Json, true) => LineFormat::Json,
        (Carrier::Json, false) => LineFormat::NestedJson,
    }
}

/// Returns the line that asks a client to connect again at once.
fn hand_over(format: LineFormat) -> Bytes {
    let mut line = Vec::new();
    write_line(&mut line, &SyncLine::TokenExpiresIn(HAND_OVER_TOLD_SECONDS), format);
    line.into()
}

/// Returns the permit for another stream of this process.
pub(super) fn permit<S>(app: &AppState<S>) -> Result<OwnedSemaphorePermit, ApiError> {
    if app.settings.shutdown.is_cancelled() {
        return Err(ApiError::ShuttingDown);
    }
    let permit = Arc::clone(&app.connections).try_acquire_owned();
    permit.map_err(|_| ApiError::TooManyConnections)
}

/// Logs the stream of an old SDK whose token has expired. Nothing that the token says is believed.
fn begin_expired(
    headers: &HeaderMap,
    shutdown: CancellationToken,
    stall: Option<ClientStall>,
) -> StreamLog {
    let facts = StreamFacts {
        user: "",
        client: "",
        sdk: user_agent(headers),
        transport: Carrier::Json.name(),
        coding: None,
        positions: 0,
        subscriptions: 0,
    };
    let tally = StreamTally::default();
    tally.end(StreamEnd::TokenExpired);
    StreamLog::begin(&facts, Arc::new(tally), shutdown, stall)
}

impl<S: SyncStore> LineStream<S> {
    /// Opens the stream of an authorised request, and logs it, also if it is refused.
    pub(super) async fn open(
        app: Arc<AppState<S>>,
        verified: Verified,
        request: StreamRequest,
        transport: Transport,
    ) -> Result<Self, ApiError> {
        let facts = StreamFacts {
            user: &verified.user_id,
            client: request.client_id.as_deref().unwrap_or_default(),
            sdk: transport.sdk.as_deref(),
            transport: transport.carrier.name(),
            coding: transport.coding.map(Coding::name),
            positions: request.buckets.len(),
            subscriptions: request.streams.as_ref().map_or(0, |one| one.subscriptions.len()),
        };
        let tally = Arc::clone(&transport.tally);
        let shutdown = app.settings.shutdown.clone();
        let stall = transport.stall.clone();
        let log = StreamLog::begin(&facts, Arc::clone(&tally), shutdown, stall);

        let opened = Self::open_logged(app, verified, request, transport).await;
        let (connection, place, span) =
            opened.inspect_err(|error| tally.end(error.stream_end()))?;
        Ok(Self { connection, place, span, log })
    }

    async fn open_logged(
        app: Arc<AppState<S>>,
        verified: Verified,
        request: StreamRequest,
        transport: Transport,
    ) -> Result<(Connection<S>, StreamPlace, Span), ApiError> {
        let client_key = client_key(&verified.user_id, request.client_id.as_deref())?;
        let place = app.streams.open(&client_key).ok_or(ApiError::TooManyStreams)?;
        let span = info_span!("stream", client_id = client_key.client_id, buckets = field::Empty);
        let valid_seconds = verified.expires_at.saturating_sub(unix_now());
        let positions =
            request.buckets.iter().map(|bucket| (bucket.name.clone(), bucket.after)).collect();

        let params = StreamParams {
            client_key,
            positions,
            format: line_format(transport.carrier, request.raw_data),
            snapshots: request.tidewater.as_ref().is_some_and(|tidewater| tidewater.snapshots > 0),
            valid: Duration::from_secs(u64::try_from(valid_seconds).unwrap_or(0)),
            deadline: transport.deadline,
            permit: transport.permit,
            tally: transport.tally,
            client: client(verified, request)?,
        };
        let connection = Box::pin(Connection::open(app, params)).instrument(span.clone()).await?;
        if !place.keep(connection.kept_bytes()) {
            return Err(ApiError::TooManyStreams);
        }

        span.record("buckets", connection.bucket_count());
        Ok((connection, place, span))
    }

    /// Returns the chunks of the stream, until it ends or must give its place to a later one, and the log
    /// that must be dropped with them. An error cuts the connection: the status has been sent long before,
    /// so there is no other way to tell the client.
    pub(super) fn into_chunks(
        self,
    ) -> (StreamLog, impl futures::Stream<Item = io::Result<Bytes>> + use<S>) {
        let Self { connection, place, span, log } = self;
        let tally = log.tally();
        let chunks = stream::unfold(Some((connection, place)), move |open| {
            let tally = Arc::clone(&tally);
            let next = async move {
                let (mut connection, place) = open?;
                let chunk = tokio::select! {
                    chunk = connection.next_chunk() => chunk,
                    // A chunk has whole lines, so the stream ends after one.
                    () = place.ended() => {
                        tally.end(StreamEnd::Limit(StreamLimit::ClientStreams));
                        return None;
                    }
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
        });
        (log, chunks)
    }
}
