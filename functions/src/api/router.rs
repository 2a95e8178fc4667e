//! The routes of the API.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, RANGE, RETRY_AFTER, USER_AGENT,
};
use axum::http::{HeaderMap, Method};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tidewater_protocol::ErrorChain;
use tidewater_storage::{Control, ControlStore, ObjectStore, WriteCheckpointStore};
use tokio::time::Instant;
use tower_http::cors::{Any, CorsLayer};
use tracing::{Instrument, error, field, info_span};

use super::error::ApiError;
use super::readiness::Readiness;
use super::request::{
    CheckpointRequest, ClientIdQuery, authorise, client_key, limit_address, read_json,
};
use super::sync_stream::sync_stream;
use super::web_socket::upgrade;
use super::{admin, replicated_checkpoint, snapshot_file, write_checkpoint};
use crate::app_state::{AppState, SyncStore};
use crate::clock::{unix_now, unix_now_millis};
use crate::metrics::record_request;
use crate::settings::{Settings, StreamDeadline};
use crate::snapshot_url;

/// Time for which browsers may remember that they may call. An hour saves the preflight request of
/// nearly every call, and a changed policy still arrives on the same day.
const CORS_MAX_AGE: Duration = Duration::from_secs(3_600);

type SharedState<S> = State<Arc<AppState<S>>>;

/// Returns the sync API over a store.
///
/// Nothing needs to run outside a request. A stream does its work as its response is pulled, one task
/// follows the control record while streams are open, and keys are fetched while a request waits for
/// them. So the router can be served by a plain server, or inside a function whose process is frozen
/// between requests.
pub fn router<S: SyncStore>(storage: S, mut settings: Settings) -> Router {
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
        .expose_headers([CONTENT_TYPE, CONTENT_RANGE, RETRY_AFTER])
        .max_age(CORS_MAX_AGE);

    let admin = admin::routes(settings.admin.take(), &settings.quotas.trusted_proxies);
    let app = Arc::new(AppState::new(storage, settings));
    Router::new()
        .route("/sync/stream", post(sync_stream::<S>).get(upgrade::<S>))
        .route("/sync/checkpoint-request", post(checkpoint_request::<S>))
        .route("/write-checkpoint2.json", get(next_write_checkpoint::<S>))
        .route("/write-checkpoint.json", get(replicated_checkpoint::<S>))
        .route(snapshot_url::PATH, get(snapshot::<S>))
        .route("/probes/startup", get(alive))
        .route("/probes/liveness", get(alive))
        .route("/probes/readiness", get(readiness::<S>))
        .merge(admin)
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(from_fn_with_state(Arc::clone(&app), refuse_floods::<S>))
        .layer(from_fn(observe))
        .layer(cors)
        .with_state(app)
}

/// Refuses the requests of an address that sends too many.
async fn refuse_floods<S: SyncStore>(
    State(app): SharedState<S>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    limit_address(&app, &request)?;
    Ok(next.run(request).await)
}

/// Puts a request into a span, and counts its reply.
async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = route_of(request.uri().path());
    let span = info_span!("request", method = %request.method(), route, status = field::Empty);

    let response = next.run(request).instrument(span.clone()).await;

    let status = response.status().as_u16();
    span.record("status", status);
    record_request(route, status, started);
    response
}

/// Returns the name of a path's route. All unknown paths share one name, so that clients cannot
/// create metrics.
fn route_of(path: &str) -> &'static str {
    match path {
        "/sync/stream" => "/sync/stream",
        "/sync/checkpoint-request" => "/sync/checkpoint-request",
        "/write-checkpoint2.json" => "/write-checkpoint2.json",
        "/write-checkpoint.json" => "/write-checkpoint.json",
        path if path.starts_with(snapshot_url::PREFIX) => "/sync/snapshot",
        path if path.starts_with("/probes/") => "/probes",
        path if path.starts_with("/api/") => "/api",
        _ => "other",
    }
}

async fn next_write_checkpoint<S: ControlStore + WriteCheckpointStore>(
    State(app): SharedState<S>,
    headers: HeaderMap,
    query: Result<Query<ClientIdQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let verified = authorise(&app, &headers, unix_now()).await?;
    let Query(query) =
        query.map_err(|_| ApiError::Invalid("The query cannot be read".to_owned()))?;
    let client = client_key(&verified.user_id, query.client_id.as_deref())?;
    let number = write_checkpoint::next_number(&app.storage, &client).await?;
    Ok(Json(json!({ "data": { "write_checkpoint": number.to_string() } })).into_response())
}

/// Serves SDKs that are older than numbered write checkpoints.
async fn replicated_checkpoint<S: ControlStore + WriteCheckpointStore>(
    State(app): SharedState<S>,
    deadline: Option<Extension<StreamDeadline>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    authorise(&app, &headers, unix_now()).await?;
    let permit = app.waiting_requests.try_acquire();
    let _permit = permit.map_err(|_| ApiError::TooManyConnections)?;

    let deadline = deadline.map(|Extension(StreamDeadline(at))| at);
    let shutdown = &app.settings.shutdown;
    let checkpoint = replicated_checkpoint::replicated(&app.storage, deadline, shutdown).await?;
    Ok(Json(json!({ "data": { "checkpoint": checkpoint } })).into_response())
}

async fn checkpoint_request<S: ControlStore + WriteCheckpointStore>(
    State(app): SharedState<S>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let verified = authorise(&app, &headers, unix_now()).await?;
    let request: CheckpointRequest = read_json(body, app.settings.quotas.body_bytes_max).await?;
    let number = request.number()?;
    let client = client_key(&verified.user_id, Some(&request.client_id))?;
    let number = write_checkpoint::register(&app.storage, &client, number).await?;
    Ok(Json(json!({ "data": { "checkpoint_request_id": number.to_string() } })).into_response())
}

/// Serves a file of a snapshot. The address is the authorisation: it is signed and expires.
async fn snapshot<S: ObjectStore + Clone + 'static>(
    State(app): SharedState<S>,
    Path(address): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let object = app.snapshot_urls.check(&address).ok_or(ApiError::AddressRefused)?;
    snapshot_file::serve(app.storage.clone(), object, &headers).await
}

async fn alive() -> Response {
    Json(json!({ "started": true })).into_response()
}

/// Replies that the server is ready while a checkpoint is visible that was current a short time ago.
async fn readiness<S: ControlStore>(State(app): SharedState<S>) -> Response {
    let mut is_deploying = false;
    let readiness = match app.storage.control().await {
        Ok(control) => {
            is_deploying = control.as_ref().is_some_and(Control::is_switch_delayed);
            Readiness::of(control.as_ref(), unix_now_millis(), app.settings.max_staleness)
        }
        Err(cause) => {
            error!(error = %ErrorChain(&cause), "cannot determine readiness: the store failed");
            Readiness::StoreFailed
        }
    };
    let worker = &app.settings.worker_problem;
    readiness.reply(is_deploying, worker.get(), worker.warnings())
}

async fn not_found() -> ApiError {
    ApiError::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_path_has_no_metric_of_its_own() {
        assert_eq!(route_of("/sync/stream"), "/sync/stream");
        assert_eq!(route_of("/sync/snapshot/abc.def"), "/sync/snapshot");
        assert_eq!(route_of("/probes/liveness"), "/probes");
        for path in ["/", "/sync", "/sync/stream/", "/.env", "/wp-login.php"] {
            assert_eq!(route_of(path), "other", "{path}");
        }
    }
}
