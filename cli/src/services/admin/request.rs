//! Bodies of requests and replies.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidewater_functions::AdminError;

/// Bytes of the longest body: a sync config has some KB.
const BODY_BYTES_MAX: usize = 2 << 20;

/// Returns the reply with a result.
pub(super) fn data(value: Value) -> Response {
    Json(json!({ "data": value })).into_response()
}

/// Reads a body of JSON. An empty one is an empty object.
pub(super) async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, AdminError> {
    let bytes = read(body).await?;
    let bytes = if bytes.trim_ascii().is_empty() { b"{}".to_vec() } else { bytes };
    serde_json::from_slice(&bytes).map_err(|error| {
        AdminError::new(400, "PSYNC_S2001", format!("The body is not valid: {error}"))
    })
}

/// Reads a sync config: the body itself, or the member `content` of one that is JSON.
pub(super) async fn read_config(headers: &HeaderMap, body: Body) -> Result<String, AdminError> {
    #[derive(serde::Deserialize)]
    struct Content {
        content: String,
    }

    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|text| text.starts_with("application/json")) {
        return Ok(read_json::<Content>(body).await?.content);
    }
    String::from_utf8(read(body).await?)
        .map_err(|_| AdminError::new(400, "PSYNC_S2001", "The sync config is not UTF-8"))
}

async fn read(body: Body) -> Result<Vec<u8>, AdminError> {
    let bytes = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let text = format!("The body cannot be read, or exceeds {BODY_BYTES_MAX} bytes");
        AdminError::new(413, "PSYNC_S2001", text)
    })?;
    Ok(bytes.to_vec())
}
