//! `POST /api/admin/v1/why`: the reason why a row does not arrive at a user, as `tidewater why` prints it.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidewater_functions::AdminError;
use tidewater_ingest_worker::{WhyError, WhyOptions, why};
use tidewater_protocol::StreamSubscription;
use tidewater_storage::Storage;

use super::context::{Shared, internal};
use super::request::{data, read_json};

/// The body of the request. Its members have the meaning of the flags of `tidewater why`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhyRequest {
    table: String,
    id: Value,
    user_id: String,
    #[serde(default)]
    claims: Map<String, Value>,
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    streams: Vec<Subscribed>,
    client_id: Option<String>,
}

/// A stream that the app subscribes to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribed {
    stream: String,
    parameters: Option<Map<String, Value>>,
}

/// Answers with the JSON of `tidewater why`. A process without a worker does not ask the source.
pub(super) async fn answer<S: Storage>(
    State(context): State<Shared<S>>,
    body: Body,
) -> Result<Response, AdminError> {
    let mut request: WhyRequest = read_json(body).await?;
    request.claims.insert("sub".to_owned(), json!(request.user_id));
    let subscriptions: Vec<_> = request
        .streams
        .into_iter()
        .map(|one| StreamSubscription {
            stream: one.stream,
            parameters: one.parameters,
            override_priority: None,
        })
        .collect();
    // A number is the value of a column of numbers.
    let id = match request.id.as_str() {
        Some(text) => text.to_owned(),
        None => request.id.to_string(),
    };

    let (database, publication) = match &context.worker {
        Some(worker) => (Some(worker.database.database().await), worker.publication.as_str()),
        None => (None, ""),
    };
    let options = WhyOptions {
        database,
        publication,
        table: &request.table,
        id: &id,
        user_id: &request.user_id,
        claims: &request.claims,
        parameters: request.parameters.as_ref(),
        subscriptions: &subscriptions,
        client_id: request.client_id.as_deref(),
    };
    let report = Box::pin(why(&context.storage, options)).await.map_err(|error| match error {
        WhyError::NoWorker | WhyError::Config(_) => {
            AdminError::new(422, "PSYNC_S4104", error.to_string())
        }
        WhyError::Storage(cause) => internal(&cause),
    })?;
    Ok(data(json!(report)))
}
