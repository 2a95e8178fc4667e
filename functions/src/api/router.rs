//! The paths of the API.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, RANGE, USER_AGENT,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tidewater_protocol::{ErrorChain, Priority, RowData, StreamRequest};
use tidewater_storage::{ClientKey, Storage};
use tower_http::cors::{Any, CorsLayer};
use tracing::{Instrument, debug, error, info_span};

use super::error::ApiError;
use super::{snapshot_file, write_checkpoint};
use crate::app_state::AppState;
use crate::auth::Verified;
use crate::checkpoint::Client;
use crate::clock::unix_now;
use crate::settings::{Settings, StreamDeadline};
use crate::snapshot_url;
use crate::stream::{Connection, StreamParams};

/// A body that has not arrived by then is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer client ids are refused: they are part of stored keys. SDKs send UUIDs.
const CLIENT_ID_BYTES_MAX: usize = 256;

type SharedState<S> = State<Arc<AppState<S>>>;

/// The sync API over a store.
///
/// Nothing runs outside a request: a stream does its work as its response is pulled, so the router
/// can be served by a plain server or inside a function whose process is frozen between requests.
pub fn router<S: Storage>(storage: S, settings: Settings) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            CONTENT_TYPE,
            AUTHORIZATION,
            USER_AGENT,
            HeaderName::from_static("x-user-agent"),
            RANGE,
        ])
        .expose_headers([CONTENT_TYPE, CONTENT_RANGE])
        .max_age(Duration::from_secs(3_600));
    Router::new()
        .route("/sync/stream", post(sync_stream::<S>))
        .route("/sync/checkpoint-request", post(checkpoint_request::<S>))
        .route("/write-checkpoint2.json", get(next_write_checkpoint::<S>))
        .route(snapshot_url::PATH, get(snapshot::<S>))
        .route("/probes/startup", get(alive))
        .route("/probes/liveness", get(alive))
        .route("/probes/readiness", get(readiness::<S>))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(cors)
        .with_state(Arc::new(AppState::new(storage, settings)))
}

async fn sync_stream<S: Storage>(
    State(app): SharedState<S>,
    deadline: Option<Extension<StreamDeadline>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let now = unix_now();
    let verified = authorised(&app, &headers, now).await?;
    if app.settings.shutdown.is_cancelled() {
        return Err(ApiError::ShuttingDown);
    }
    let permit = Arc::clone(&app.connections).try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::TooManyConnections)?;
    let request: StreamRequest = read_json(body, app.settings.quotas.body_bytes_max).await?;
    let snapshots = request.tidewater.unwrap_or_default().snapshots > 0;
    let valid = u64::try_from(verified.expires_at.saturating_sub(now)).unwrap_or(0);
    let client_key = client_key(&verified.user_id, request.client_id.as_deref())?;
    let row_data = if request.raw_data { RowData::Text } else { RowData::Nested };
    let positions = request.buckets.iter().map(|held| (held.name.clone(), held.after)).collect();
    let opening = StreamParams {
        client: client(verified, request)?,
        client_key,
        positions,
        row_data,
        snapshots,
        valid: Duration::from_secs(valid),
        deadline: deadline.map(|Extension(StreamDeadline(at))| at),
        permit,
    };
    let span = info_span!("stream");
    let connection = Box::pin(Connection::open(app, opening)).instrument(span.clone()).await?;
    span.in_scope(|| debug!(buckets = connection.bucket_count(), "stream begun"));
    let chunks = stream::unfold(Some(connection), move |connection| {
        next_chunk(connection).instrument(span.clone())
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

type Chunk = Result<bytes::Bytes, std::io::Error>;

/// The next chunk of a stream and what is left of it. After an error nothing is left: the
/// connection is cut, which is all that can be told by then.
async fn next_chunk<S: Storage>(
    connection: Option<Connection<S>>,
) -> Option<(Chunk, Option<Connection<S>>)> {
    let mut connection = connection?;
    match connection.next().await {
        Ok(Some(chunk)) => Some((Ok(chunk), Some(connection))),
        Ok(None) => None,
        Err(cause) => {
            error!(error = %ErrorChain(&cause), "a stream was cut");
            // Lets the server send what it has: after an error it drops that too.
            tokio::task::yield_now().await;
            Some((Err(std::io::Error::other("the stream was cut")), None))
        }
    }
}

#[derive(Deserialize)]
struct ClientId {
    client_id: Option<String>,
}

async fn next_write_checkpoint<S: Storage>(
    State(app): SharedState<S>,
    headers: HeaderMap,
    query: Result<Query<ClientId>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let verified = authorised(&app, &headers, unix_now()).await?;
    let Query(query) =
        query.map_err(|_| ApiError::Invalid("The query cannot be read".to_owned()))?;
    let client = client_key(&verified.user_id, query.client_id.as_deref())?;
    let number = write_checkpoint::next_number(&app.storage, &client).await?;
    Ok(Json(json!({ "data": { "write_checkpoint": number.to_string() } })).into_response())
}

#[derive(Deserialize)]
struct CheckpointRequest {
    client_id: String,
    checkpoint_request_id: Number,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(i64),
    Text(String),
}

async fn checkpoint_request<S: Storage>(
    State(app): SharedState<S>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let verified = authorised(&app, &headers, unix_now()).await?;
    let request: CheckpointRequest = read_json(body, app.settings.quotas.body_bytes_max).await?;
    let number = match request.checkpoint_request_id {
        Number::Number(number) => Some(number),
        Number::Text(text) => text.parse().ok(),
    };
    let number = number.filter(|number| *number > 0).ok_or_else(|| {
        let most = i64::MAX;
        ApiError::Invalid(format!("checkpoint_request_id must be an integer from 1 to {most}"))
    })?;
    let client = client_key(&verified.user_id, Some(&request.client_id))?;
    let number = write_checkpoint::register(&app.storage, &client, number).await?;
    Ok(Json(json!({ "data": { "checkpoint_request_id": number.to_string() } })).into_response())
}

/// A file of a snapshot; whoever was told its address may have it.
async fn snapshot<S: Storage>(
    State(app): SharedState<S>,
    Path(address): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let address = app.snapshot_urls.check(&address).ok_or(ApiError::AddressRefused)?;
    snapshot_file::serve(app.storage.clone(), address, &headers).await
}

async fn alive() -> Response {
    Json(json!({ "started": true })).into_response()
}

async fn readiness<S: Storage>(State(app): SharedState<S>) -> Response {
    let ready = match app.storage.control().await {
        Ok(control) => control.is_some_and(|control| control.visible.is_some()),
        Err(cause) => {
            error!(error = %ErrorChain(&cause), "readiness cannot be determined");
            false
        }
    };
    let status = if ready { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    (status, Json(json!({ "started": true, "ready": ready }))).into_response()
}

async fn not_found() -> ApiError {
    ApiError::NotFound
}

async fn authorised<S: Storage>(
    app: &AppState<S>,
    headers: &HeaderMap,
    now: i64,
) -> Result<Verified, ApiError> {
    let header = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    Ok(app.settings.auth.check(header, now).await?)
}

fn client_key(user_id: &str, client_id: Option<&str>) -> Result<ClientKey, ApiError> {
    let client_id = client_id.unwrap_or_default();
    if client_id.len() > CLIENT_ID_BYTES_MAX {
        let text = format!("client_id may have at most {CLIENT_ID_BYTES_MAX} bytes");
        return Err(ApiError::Invalid(text));
    }
    Ok(ClientKey { user_id: user_id.to_owned(), client_id: client_id.to_owned() })
}

fn client(verified: Verified, request: StreamRequest) -> Result<Client, ApiError> {
    let streams = request.streams.unwrap_or_default();
    for (index, one) in streams.subscriptions.iter().enumerate() {
        if one.override_priority.is_some_and(|priority| Priority::new(priority).is_none()) {
            let field = format!("streams.subscriptions[{index}].override_priority");
            return Err(ApiError::Invalid(format!("{field} must be 0, 1, 2 or 3")));
        }
    }
    Ok(Client {
        user_id: verified.user_id,
        claims: verified.claims,
        parameters: request.parameters,
        include_defaults: streams.include_defaults,
        subscriptions: streams.subscriptions,
    })
}

/// Reads a body of JSON; the reply to a wrong one names the field, not what was in it.
async fn read_json<T: DeserializeOwned>(body: Body, bytes_max: usize) -> Result<T, ApiError> {
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, bytes_max)).await;
    let read = read.map_err(|_| ApiError::Invalid("The body did not arrive".to_owned()))?;
    let bytes = read.map_err(|_| ApiError::BodyTooLarge(bytes_max))?;
    // Without this a list would pass for an object, its items for fields.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::Invalid(
            "The body is not valid JSON: it must be an object".to_owned(),
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        if !error.inner().is_data() {
            return ApiError::Invalid("The body is not valid JSON".to_owned());
        }
        let field = if field == "." { "The body".to_owned() } else { format!("\"{field}\"") };
        ApiError::Invalid(format!("{field} lacks a field or has a value of the wrong type"))
    })?;
    json.end().map_err(|_| ApiError::Invalid("The body is not valid JSON".to_owned()))?;
    Ok(value)
}
