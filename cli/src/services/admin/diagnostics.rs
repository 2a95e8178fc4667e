//! `POST /api/admin/v1/diagnostics`: the state of the deployment, in PowerSync's shape and in ours.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tidewater_functions::AdminError;
use tidewater_ingest_worker::{ConfigState, ConfigStatus, SourceTable, Status, display_uri};
use tidewater_storage::Storage;
use tidewater_sync_config::SyncConfig;

use super::context::{AdminContext, Shared};
use super::request::{data, read_json};
use super::source_tables::{self, CONNECTION, table_infos};
use crate::process::clock::rfc3339;

#[derive(Deserialize)]
pub(super) struct DiagnosticsRequest {
    #[serde(default)]
    sync_rules_content: bool,
}

/// Answers with the connection, the config in use and the one on its way. The member `tidewater` is the
/// JSON of `tidewater status`, and the member `server` says what this process can do.
pub(super) async fn answer<S: Storage>(
    State(context): State<Shared<S>>,
    body: Body,
) -> Result<Response, AdminError> {
    let request: DiagnosticsRequest = read_json(body).await?;
    let status = context.status().await?;
    let is_reachable = status.source.as_ref().is_some_and(|source| source.reachable);
    let tables = match &context.worker {
        // A source that failed in between has no tables in this answer.
        Some(worker) if is_reachable => source_tables::list(worker).await.unwrap_or_default(),
        Some(_) | None => Vec::new(),
    };

    let slot = context.slot().await?.unwrap_or_default();
    let shown = Shown { status: &status, tables: &tables, slot: &slot };
    let find = |state| status.configs.iter().find(|config| config.state == state);
    let mut reply = json!({ "connections": connections(&context, &status).await });
    if let Some(config) = find(ConfigState::InUse) {
        reply["active_sync_rules"] = shown.sync_rules(config, request.sync_rules_content);
    }
    if let Some(config) = find(ConfigState::OnItsWay) {
        reply["deploying_sync_rules"] = shown.sync_rules(config, request.sync_rules_content);
    }
    reply["tidewater"] = json!(status);
    reply["server"] = json!({ "deploys": context.worker.is_some() });
    Ok(data(reply))
}

/// Returns the connection to the source, if this process has one.
async fn connections<S: Storage>(context: &AdminContext<S>, status: &Status) -> Value {
    let (Some(worker), Some(source)) = (&context.worker, &status.source) else {
        return json!([]);
    };
    let uri = display_uri(&worker.database.database().await);
    let errors: Vec<_> = source.error.iter().map(|error| report("fatal", error)).collect();
    json!([{
        "id": CONNECTION,
        "postgres_uri": uri,
        "uri": uri,
        "connected": source.reachable,
        "errors": errors,
    }])
}

/// A state as it is shown.
struct Shown<'a> {
    status: &'a Status,
    tables: &'a [SourceTable],
    slot: &'a str,
}

impl Shown<'_> {
    /// Returns the status of one sync config.
    fn sync_rules(&self, config: &ConfigStatus, with_content: bool) -> Value {
        let is_in_use = config.state == ConfigState::InUse;
        let mut connection = json!({
            "id": CONNECTION,
            "tag": CONNECTION,
            "slot_name": self.slot,
            "initial_replication_done": is_in_use,
            "tables": [],
        });
        if let Ok(compiled) = SyncConfig::compile(&config.text) {
            connection["tables"] = table_infos(&compiled, self.tables);
        }
        if let Some(worker) = &self.status.worker {
            connection["last_lsn"] = json!(worker.committed_lsn);
            if let Some(confirmed) = worker.confirmed_at_ms {
                connection["last_keepalive_ts"] = json!(rfc3339(confirmed));
                connection["last_checkpoint_ts"] = json!(rfc3339(confirmed));
            }
        }
        if let Some(lag) = self.status.slot.as_ref().and_then(|slot| slot.lag_bytes) {
            connection["replication_lag_bytes"] = json!(lag);
        }

        let mut errors = Vec::new();
        if is_in_use || !self.status.configs.iter().any(|one| one.state == ConfigState::InUse) {
            errors.extend(self.status.problems.iter().map(|text| report("fatal", text)));
            errors.extend(self.status.warnings.iter().map(|text| report("warning", text)));
        }
        let mut status = json!({ "connections": [connection], "errors": errors });
        if with_content {
            status["content"] = json!(config.text);
        }
        status
    }
}

/// Returns a finding in PowerSync's shape.
pub(super) fn report(level: &str, message: &str) -> Value {
    json!({ "level": level, "message": message })
}
