//! Reads requests: the token, the body, the client.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderName, USER_AGENT};
use futures::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidewater_protocol::{Priority, StreamRequest};
use tidewater_storage::ClientKey;
use tokio::time::Instant;

use super::body_shape;
use super::error::{ApiError, Limited};
use crate::app_state::AppState;
use crate::auth::Verified;
use crate::checkpoint::{Client, ClientRequest};
use crate::client_address::limited_address;
use crate::settings::{ClientAddress, Quotas};

/// Time in which a body must arrive. SDKs send a few KB. A client that needs longer has lost its
/// connection, or occupies a place on purpose.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Length in bytes of the longest client id that is accepted. Client ids are part of stored keys;
/// SDKs send UUIDs of 36 bytes.
const CLIENT_ID_BYTES_MAX: usize = 256;

/// Greatest number of a write-checkpoint request that a client may choose. The server's own numbers go
/// on from there, so the greatest one of all would leave none.
const REQUEST_NUMBER_MAX: i64 = 1 << 62;

/// The query of `/write-checkpoint2.json`.
#[derive(Deserialize)]
pub(super) struct ClientIdQuery {
    pub(super) client_id: Option<String>,
}

/// The body of `/sync/checkpoint-request`.
#[derive(Deserialize)]
pub(super) struct CheckpointRequest {
    pub(super) client_id: String,
    checkpoint_request_id: NumberOrText,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl CheckpointRequest {
    /// Returns the number that the client chose.
    pub(super) fn number(&self) -> Result<i64, ApiError> {
        let number = match &self.checkpoint_request_id {
            NumberOrText::Number(number) => Some(*number),
            NumberOrText::Text(text) => text.parse().ok(),
        };
        number.filter(|number| (1..=REQUEST_NUMBER_MAX).contains(number)).ok_or_else(|| {
            let max = REQUEST_NUMBER_MAX;
            ApiError::Invalid(format!("checkpoint_request_id must be an integer from 1 to {max}"))
        })
    }
}

/// Checks the token of a request at `now`, in seconds since 1970.
pub(super) async fn authorise<S>(
    app: &AppState<S>,
    headers: &HeaderMap,
    now: i64,
) -> Result<Verified, ApiError> {
    let header = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let verdict = app.settings.auth.check(header, now).await;
    let verified = verdict.map_err(|refusal| ApiError::Unauthorized(refusal.error()))?;

    let taken = app.user_requests.take(&verified.user_id, Instant::now());
    taken.map_err(|wait| ApiError::TooManyRequests(Limited::User, wait))?;
    Ok(verified)
}

/// Returns how the SDK calls itself. Browsers do not let it set `User-Agent`, so `X-User-Agent` counts
/// first.
pub(super) fn user_agent(headers: &HeaderMap) -> Option<&str> {
    let agent =
        headers.get(HeaderName::from_static("x-user-agent")).or_else(|| headers.get(USER_AGENT));
    agent.and_then(|agent| agent.to_str().ok())
}

/// Fails if an address has sent too many requests. Probes are not counted.
pub(super) fn limit_address<S>(app: &AppState<S>, request: &Request) -> Result<(), ApiError> {
    let Some(ClientAddress(peer)) = request.extensions().get() else { return Ok(()) };
    if request.uri().path().starts_with("/probes/") {
        return Ok(());
    }
    let trusted = &app.settings.quotas.trusted_proxies;
    let address = limited_address(*peer, request.headers(), trusted);
    let Some(address) = address else { return Ok(()) };
    let taken = app.address_requests.take(&address, Instant::now());
    taken.map_err(|wait| ApiError::TooManyRequests(Limited::Address, wait))
}

/// Returns the key under which the requests of a user's client are stored.
pub(super) fn client_key(user_id: &str, client_id: Option<&str>) -> Result<ClientKey, ApiError> {
    let client_id = client_id.unwrap_or_default();
    if client_id.len() > CLIENT_ID_BYTES_MAX {
        let problem = format!("client_id may have at most {CLIENT_ID_BYTES_MAX} bytes");
        return Err(ApiError::Invalid(problem));
    }
    Ok(ClientKey { user_id: user_id.to_owned(), client_id: client_id.to_owned() })
}

/// Returns the client that a stream request describes.
pub(super) fn client(verified: Verified, request: StreamRequest) -> Result<Client, ApiError> {
    let streams = request.streams.unwrap_or_default();
    for (index, subscription) in streams.subscriptions.iter().enumerate() {
        let priority = subscription.override_priority;
        if priority.is_some_and(|priority| Priority::new(priority).is_none()) {
            let field = format!("streams.subscriptions[{index}].override_priority");
            return Err(ApiError::Invalid(format!("{field} must be 0, 1, 2 or 3")));
        }
    }

    Ok(Client::new(ClientRequest {
        user_id: verified.user_id,
        claims: verified.claims,
        parameters: request.parameters,
        include_defaults: streams.include_defaults,
        subscriptions: streams.subscriptions,
    }))
}

/// Reads a body of JSON. The reply to an invalid body names the field, but not its value.
pub(super) async fn read_json<T: DeserializeOwned>(
    body: Body,
    bytes_max: usize,
) -> Result<T, ApiError> {
    let bytes = read_body(body, bytes_max).await?;
    parse_json(&bytes)
}

/// Reads the body of a stream request.
pub(super) async fn read_stream_request(
    body: Body,
    quotas: &Quotas,
) -> Result<StreamRequest, ApiError> {
    let bytes = read_body(body, quotas.body_bytes_max).await?;
    parse_stream_request(&bytes, quotas)
}

/// Parses the body of a stream request. It fails before it builds more values than the quotas allow.
pub(super) fn parse_stream_request(
    bytes: &[u8],
    quotas: &Quotas,
) -> Result<StreamRequest, ApiError> {
    body_shape::check(bytes, quotas.request_values_max())?;
    parse_json(bytes)
}

async fn read_body(body: Body, bytes_max: usize) -> Result<Vec<u8>, ApiError> {
    let read = async {
        let mut bytes = Vec::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            // The client has broken its transfer, by a malformed chunk or by its end.
            let chunk = chunk
                .map_err(|_| ApiError::Invalid("The body cannot be read to its end".to_owned()))?;
            if chunk.len() > bytes_max - bytes.len() {
                return Err(ApiError::BodyTooLarge(bytes_max));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await;
    read.map_err(|_| ApiError::Invalid("The body did not arrive in time".to_owned()))?
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde also reads a struct from a list, item by item. Such a body is a mistake of the client.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::Invalid(
            "The body is not valid JSON: it must be an object".to_owned(),
        ));
    }

    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        if !error.inner().is_data() {
            return ApiError::Invalid("The body is not valid JSON".to_owned());
        }
        let field = match error.path().to_string().as_str() {
            "." => "The body".to_owned(),
            path => format!("\"{path}\""),
        };
        ApiError::Invalid(format!("{field} lacks a field or has a value of the wrong type"))
    })?;
    json.end().map_err(|_| ApiError::Invalid("The body is not valid JSON".to_owned()))?;
    Ok(value)
}
