//! `POST /api/admin/v1/schema` and `validate`: the tables of the source, and a config compared with them.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tidewater_functions::AdminError;
use tidewater_ingest_worker::{ReadingError, SourceReport, SourceTable, check_source, list_tables};
use tidewater_storage::Storage;
use tidewater_sync_config::{Diagnostic, Severity, SyncConfig};

use super::context::{AdminWorker, Shared, source_failed};
use super::request::{data, read_json};

/// The name of the only connection, and its tag.
pub(super) const CONNECTION: &str = "default";

/// Flags of SQLite types, as PowerSync's tools number them.
const BLOB: u8 = 1;
const TEXT: u8 = 2;
const INTEGER: u8 = 4;
const REAL: u8 = 8;

/// Returns the tables of the source.
pub(super) async fn list(worker: &AdminWorker) -> Result<Vec<SourceTable>, ReadingError> {
    list_tables(&worker.database.database().await, &worker.publication).await
}

/// Answers with all tables that the role may read, by schema.
pub(super) async fn schema<S: Storage>(
    State(context): State<Shared<S>>,
) -> Result<Response, AdminError> {
    let worker = context.worker("list its tables")?;
    let tables = list(worker).await.map_err(|cause| source_failed(&cause))?;

    let mut schemas: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for table in tables.iter().filter(|table| table.may_select) {
        let columns = table.schema.columns.iter().zip(&table.column_types);
        let columns: Vec<_> = columns
            .map(|(column, sql_type)| {
                json!({
                    "name": column.name,
                    "sqlite_type": sqlite_type(column.type_oid),
                    "internal_type": sql_type,
                    "type": sql_type,
                    "pg_type": sql_type,
                })
            })
            .collect();
        let table_json = json!({ "name": table.schema.name, "columns": columns });
        schemas.entry(&table.schema.schema).or_default().push(table_json);
    }

    let schemas: Vec<_> = schemas
        .into_iter()
        .map(|(name, tables)| json!({ "name": name, "tables": tables }))
        .collect();
    Ok(data(json!({
        "connections": [{ "id": CONNECTION, "tag": CONNECTION, "schemas": schemas }],
        "defaultConnectionTag": CONNECTION,
        "defaultSchema": "public",
    })))
}

#[derive(Deserialize)]
pub(super) struct ValidateRequest {
    sync_rules: String,
}

/// Answers with the errors of a sync config, and compares it with the source if this process can.
pub(super) async fn validate<S: Storage>(
    State(context): State<Shared<S>>,
    body: Body,
) -> Result<Response, AdminError> {
    let request: ValidateRequest = read_json(body).await?;
    let slot = context.slot().await?;
    let mut tables = json!([]);
    let findings = match SyncConfig::compile(&request.sync_rules) {
        Err(findings) => findings.iter().map(diagnostic).collect(),
        Ok(config) => {
            let mut findings: Vec<_> = config.warnings().iter().map(diagnostic).collect();
            match &context.worker {
                Some(worker) => {
                    let checked = check(worker, slot.as_deref(), &config).await?;
                    findings.extend(checked.diagnostics.iter().map(diagnostic));
                    findings.extend(checked.findings.iter().map(|finding| {
                        let level = if finding.is_fatal { "fatal" } else { "warning" };
                        let message = format!("{}; fix: {}", finding.problem, finding.fix);
                        json!({ "level": level, "message": message })
                    }));
                    tables = table_infos(&config, &checked.tables);
                }
                None => findings.push(json!({
                    "level": "warning",
                    "message": "the config was not compared with the source database: this process has \
                                no connection to it",
                })),
            }
            findings
        }
    };

    Ok(data(json!({
        "connections": [{
            "id": CONNECTION,
            "tag": CONNECTION,
            "slot_name": slot.unwrap_or_default(),
            "initial_replication_done": false,
            "tables": tables,
        }],
        "errors": findings,
    })))
}

/// Compares a config with the source, as the start of the worker does.
pub(super) async fn check(
    worker: &AdminWorker,
    slot: Option<&str>,
    config: &SyncConfig,
) -> Result<SourceReport, AdminError> {
    let database = worker.database.database().await;
    let checked = check_source(&database, &worker.publication, slot, config).await;
    checked.map_err(|cause| source_failed(&cause))
}

/// Returns a finding about a config in PowerSync's shape. Its place is ours.
pub(super) fn diagnostic(found: &Diagnostic) -> Value {
    let level = match found.severity {
        Severity::Error => "fatal",
        Severity::Warning => "warning",
    };
    json!({
        "level": level,
        "message": message_of(found),
        "line": found.line,
        "column": found.column,
    })
}

/// Returns the text of a finding, with its place.
pub(super) fn message_of(found: &Diagnostic) -> String {
    let mut message = format!("{}:{}: {}", found.line, found.column, found.message);
    if let Some(hint) = &found.hint {
        message.push_str(&format!(" ({hint})"));
    }
    message
}

/// Returns the tables that a config reads.
pub(super) fn table_infos(config: &SyncConfig, tables: &[SourceTable]) -> Value {
    let mut infos = Vec::new();
    for table in tables {
        let schema = &table.schema.schema;
        let name = &table.schema.name;
        let mut patterns = config.tables().iter().filter(|pattern| pattern.matches(schema, name));
        let Some(first) = patterns.next() else { continue };
        let is_named = !first.is_wildcard() || patterns.any(|pattern| !pattern.is_wildcard());
        let bound = config.bind(&table.schema).ok().flatten();

        let key: Vec<_> = table.key.iter().map(|&at| &table.schema.columns[at].name).collect();
        let mut info = json!({
            "schema": schema,
            "name": name,
            "replication_id": key,
            "data_queries": bound.as_ref().is_some_and(|bound| bound.definitions().next().is_some()),
            "parameter_queries": bound.as_ref().is_some_and(|bound| bound.has_lookups()),
            "errors": [],
        });
        if !is_named {
            info["pattern"] = json!(first.name);
        }
        infos.push(info);
    }
    Value::Array(infos)
}

/// Returns the type that a column has on devices, by the oid of its type in PostgreSQL.
fn sqlite_type(type_oid: u32) -> u8 {
    match type_oid {
        // bool, int8, int2, int4, oid
        16 | 20 | 21 | 23 | 26 => INTEGER,
        // float4, float8
        700 | 701 => REAL,
        // bytea
        17 => BLOB,
        _ => TEXT,
    }
}
