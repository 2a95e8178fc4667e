//! `POST /api/admin/v1/picture`: a sync config as a picture, which is that of `tidewater explain`.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use tidewater_functions::AdminError;
use tidewater_ingest_worker::ConfigState;
use tidewater_storage::Storage;
use tidewater_sync_config::SyncConfig;

use super::context::Shared;
use super::request::{data, read_json};
use super::source_tables::diagnostic;
use super::sync_rules::no_config;
use crate::services::config_picture::Picture;

#[derive(Deserialize)]
pub(super) struct PictureRequest {
    /// The text of a config; without it, the config in use is drawn.
    sync_rules: Option<String>,
}

/// Answers with nodes and edges, or with the errors of the config.
pub(super) async fn picture<S: Storage>(
    State(context): State<Shared<S>>,
    body: Body,
) -> Result<Response, AdminError> {
    let request: PictureRequest = read_json(body).await?;
    let text = match request.sync_rules {
        Some(text) => text,
        None => {
            let configs = context.configs().await?;
            let in_use = configs.into_iter().find(|config| config.state == ConfigState::InUse);
            in_use.ok_or_else(no_config)?.text
        }
    };

    let answer = match SyncConfig::compile(&text) {
        Ok(config) => json!({ "picture": Picture::new(&config.explain()).json(), "errors": [] }),
        Err(findings) => {
            json!({ "errors": findings.iter().map(diagnostic).collect::<Vec<_>>() })
        }
    };
    Ok(data(answer))
}
