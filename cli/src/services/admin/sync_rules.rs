//! `/api/sync-rules/v1/current` and `validate`: sync configs as texts, with what they compile to.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidewater_functions::AdminError;
use tidewater_ingest_worker::ConfigState;
use tidewater_storage::Storage;
use tidewater_sync_config::SyncConfig;

use super::context::Shared;
use super::request::read_config;
use super::source_tables::message_of;

/// Answers with the config in use and the one on its way.
pub(super) async fn current<S: Storage>(
    State(context): State<Shared<S>>,
) -> Result<Response, AdminError> {
    let slot = context.slot().await?;
    let configs = context.configs().await?;
    let shown = |state| {
        let config = configs.iter().find(|config| config.state == state)?;
        let mut shown = describe(&config.text);
        shown["slot_name"] = json!(slot);
        shown["content"] = json!(config.text);
        Some(shown)
    };
    let current = shown(ConfigState::InUse).ok_or_else(no_config)?;
    Ok(pretty(&json!({ "data": { "current": current, "next": shown(ConfigState::OnItsWay) } })))
}

/// Answers whether a config compiles.
pub(super) async fn validate(headers: HeaderMap, body: Body) -> Result<Response, AdminError> {
    let text = read_config(&headers, body).await?;
    Ok(pretty(&describe(&text)))
}

/// Returns the error of a deployment that has no config in use yet.
pub(super) fn no_config() -> AdminError {
    AdminError::new(422, "PSYNC_S4104", "No active sync config: the initial copy is not complete")
}

/// Returns what a config compiles to, or its errors.
fn describe(text: &str) -> Value {
    let config = match SyncConfig::compile(text) {
        Ok(config) => config,
        Err(findings) => {
            let errors: Vec<_> = findings.iter().map(message_of).collect();
            return json!({ "valid": false, "errors": errors });
        }
    };

    let definitions: Vec<_> =
        config.definitions().iter().map(|definition| json!({ "name": definition.name })).collect();
    let tables: Vec<_> = config
        .tables()
        .iter()
        .map(|pattern| {
            json!({
                "schema": pattern.schema,
                "name": pattern.name,
                "is_wildcard": pattern.is_wildcard(),
            })
        })
        .collect();
    json!({ "valid": true, "bucket_definitions": definitions, "source_tables": tables })
}

/// Returns JSON that is easy to read, as PowerSync's service sends it on these paths.
fn pretty(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], format!("{value:#}\n")).into_response()
}
