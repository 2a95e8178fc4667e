//! `deploy` and `reprocess`: what changes a deployment.

use std::path::Path;

use anyhow::Context;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::json;
use tidewater_functions::AdminError;
use tidewater_ingest_worker::{ConfigState, copy_again};
use tidewater_storage::Storage;
use tidewater_sync_config::{Severity, SyncConfig};
use tracing::info;

use super::context::{Shared, source_failed};
use super::request::{data, read_config};
use super::source_tables::{CONNECTION, check, message_of};
use super::sync_rules::no_config;

/// Takes a sync config into use: writes it to the file that the worker watches.
///
/// A config that does not compile or does not fit the source is refused, and nothing is written.
pub(super) async fn deploy<S: Storage>(
    State(context): State<Shared<S>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, AdminError> {
    let worker = context.worker("deploy: it runs no ingest worker")?;
    let text = read_config(&headers, body).await?;
    let config = SyncConfig::compile(&text)
        .map_err(|findings| refused(findings.iter().map(message_of).collect()))?;
    let slot = context.slot().await?;
    let report = check(worker, slot.as_deref(), &config).await?;
    if !report.is_ready() {
        let diagnostics =
            report.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        let findings = report.findings.iter().filter(|finding| finding.is_fatal);
        let problems = diagnostics
            .map(message_of)
            .chain(findings.map(|found| format!("{}; fix: {}", found.problem, found.fix)));
        return Err(refused(problems.collect()));
    }

    let file = worker.sync_config.clone();
    let written = tokio::task::spawn_blocking(move || replace(&file, &text)).await;
    written.map_err(anyhow::Error::from).and_then(|written| written).map_err(|error| {
        let description = "The sync config's file cannot be replaced";
        AdminError::new(422, "PSYNC_S4105", description).with_details(format!("{error:#}"))
    })?;
    info!(file = %worker.sync_config.display(), "a sync config was deployed by the admin API");
    Ok(data(json!({ "slot_name": slot })))
}

fn refused(problems: Vec<String>) -> AdminError {
    AdminError::new(422, "PSYNC_R0001", "The sync config cannot be used")
        .with_details(problems.join("\n"))
}

/// Replaces the content of a file at once: who reads it finds the former content or the new one.
fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    // A link stays, and its target is replaced.
    let target =
        std::fs::canonicalize(file).with_context(|| format!("cannot find '{}'", file.display()))?;
    let folder = target.parent().context("the file has no folder")?;
    let mut next = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write to '{}'", folder.display()))?;
    std::io::Write::write_all(&mut next, text.as_bytes()).context("cannot write the file")?;
    let permissions = std::fs::metadata(&target).context("cannot read the file's mode")?;
    next.as_file().set_permissions(permissions.permissions()).context("cannot set its mode")?;
    next.as_file().sync_all().context("cannot write the file")?;
    next.persist(&target).with_context(|| format!("cannot replace '{}'", target.display()))?;
    Ok(())
}

/// Has all tables copied again: `POST /api/admin/v1/reprocess`.
pub(super) async fn reprocess<S: Storage>(
    State(context): State<Shared<S>>,
) -> Result<Response, AdminError> {
    let slot = request_copies(&context).await?;
    let connection = json!({ "id": CONNECTION, "tag": CONNECTION, "slot_name": slot });
    Ok(data(json!({ "connections": [connection] })))
}

/// Has all tables copied again: `POST /api/sync-rules/v1/reprocess`.
pub(super) async fn reprocess_rules<S: Storage>(
    State(context): State<Shared<S>>,
) -> Result<Response, AdminError> {
    let slot = request_copies(&context).await?;
    Ok(data(json!({ "slot_name": slot })))
}

/// Asks the worker to copy all tables again, and returns the slot. Rows are compared with what is stored of
/// them, so devices receive what differs.
async fn request_copies<S: Storage>(context: &Shared<S>) -> Result<Option<String>, AdminError> {
    let worker = context.worker("copy tables again: it runs no ingest worker")?;
    let configs = context.configs().await?;
    if configs.iter().any(|config| config.state == ConfigState::OnItsWay) {
        return Err(AdminError::new(
            409,
            "PSYNC_S4106",
            "A sync config is being deployed: try again when its tables are copied",
        ));
    }
    if configs.is_empty() {
        return Err(no_config());
    }

    let database = worker.database.database().await;
    let copied = copy_again(&context.storage, &database, &worker.publication).await;
    let tables = copied.map_err(|cause| source_failed(&cause))?;
    info!(tables, "the admin API asked the ingest worker to copy all tables again");
    context.slot().await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_keeps_its_mode_and_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sync-config.yaml");
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let link = dir.path().join("link.yaml");
        std::os::unix::fs::symlink(&file, &link).unwrap();

        replace(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn a_file_that_does_not_exist_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.yaml");
        assert!(format!("{:#}", replace(&missing, "x").unwrap_err()).contains("missing.yaml"));
    }
}
