//! The check of the source: compares it with a sync config before anything is made in it.
//!
//! The start of a run and the commands that only check use the same one. It changes nothing, and finds
//! everything that it can find at once.

use std::time::Duration;

use tidewater_storage::Lsn;
use tidewater_sync_config::{Diagnostic, Severity, SyncConfig};
use tokio_postgres::Client;

use crate::config::SourceNames;
use crate::source::catalog::{self, SourceTable};
use crate::source::connect::{ConnectError, connect};
use crate::source::database::Database;
use crate::source::dsn::Dsn;
use crate::source::error::SourceError;
use crate::source::preflight::{Finding, ServerState, read_server, server_findings};
use crate::source::table_check::{findings_without_publication, reading_findings, table_findings};
use crate::source::table_reader::ReadingError;
use crate::source::tables::{CandidateTable, candidate_tables, check_config};
use crate::source::text_check::find_other_text;

/// Duration of the inspection of the source, by queries of its catalog, before its connection counts
/// as dead. A catalog of very many tables takes seconds.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Tables outside the publication that are reported where only a pattern matches them.
const UNPUBLISHED_REPORTED_MAX: usize = 10;

/// The source as it was inspected.
#[derive(Debug)]
pub(crate) struct Inspection {
    /// The tables that the sync config reads.
    pub(crate) tables: Vec<InspectedTable>,
    /// Our role.
    pub(crate) user: String,
    /// A position before the catalog was read.
    pub(crate) catalog_read_at: Lsn,
    /// The findings about the source, fatal ones first.
    pub(crate) findings: Vec<Finding>,
    /// The findings about the sync config: what it names and the source does not have.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// A table that the sync config reads.
#[derive(Debug)]
pub(crate) struct InspectedTable {
    pub(crate) table: SourceTable,
    /// The reasons to leave out a table that only a pattern matches. A table that the config names has
    /// its findings in [`Inspection::findings`].
    pub(crate) left_out_for: Vec<Finding>,
}

/// The findings about a source, for people.
#[derive(Debug)]
pub struct SourceReport {
    /// The findings about the server, the publication and the tables, fatal ones first.
    pub findings: Vec<Finding>,
    /// The findings about the sync config: what it names and the source does not have.
    pub diagnostics: Vec<Diagnostic>,
    /// The tables that the sync config reads.
    pub tables: Vec<SourceTable>,
}

impl SourceReport {
    /// Returns whether a worker can start.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.findings.iter().any(|finding| finding.is_fatal)
            && !self.diagnostics.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Checks a source as the start of a worker does, and changes nothing. `slot` is the replication slot
/// that a worker would use: without one, a new slot must be free.
///
/// # Errors
/// When the database cannot be reached or read.
pub async fn check_source(
    database: &Database,
    publication: &str,
    slot: Option<&str>,
    config: &SyncConfig,
) -> Result<SourceReport, ReadingError> {
    let dsn = Dsn::of(database).map_err(ConnectError::from)?;
    let client = connect(&dsn).await?;
    // No slot has an empty name.
    let names = SourceNames { publication, slot: slot.unwrap_or_default() };
    let Inspection { tables, mut findings, diagnostics, .. } =
        inspect(&client, config, names).await?;

    // A worker starts without these tables.
    let mut read = Vec::new();
    for InspectedTable { table, left_out_for } in tables {
        if left_out_for.is_empty() {
            read.push(table);
        }
        findings.extend(left_out_for.into_iter().map(|finding| Finding {
            is_fatal: false,
            problem: format!("left out: {}", finding.problem),
            ..finding
        }));
    }
    Ok(SourceReport { findings, diagnostics, tables: read })
}

/// Returns all tables of a database, with the columns that a publication sends.
///
/// # Errors
/// When the database cannot be reached or read.
pub async fn list_tables(
    database: &Database,
    publication: &str,
) -> Result<Vec<SourceTable>, ReadingError> {
    let dsn = Dsn::of(database).map_err(ConnectError::from)?;
    let client = connect(&dsn).await?;
    let reading = catalog::read_tables(&client, publication);
    let tables = tokio::time::timeout(INSPECTION_TIMEOUT, reading).await;
    Ok(tables.map_err(|_| SourceError::Silent(INSPECTION_TIMEOUT))??)
}

/// Inspects the source, unless its connection is dead.
pub(crate) async fn inspect(
    client: &Client,
    config: &SyncConfig,
    names: SourceNames<'_>,
) -> Result<Inspection, SourceError> {
    let inspection = inspect_catalog(client, config, names);
    let inspected = tokio::time::timeout(INSPECTION_TIMEOUT, inspection).await;
    let (server, mut inspection) =
        inspected.map_err(|_| SourceError::Silent(INSPECTION_TIMEOUT))??;

    // A slot that exists has had its check. Reading all rows takes as long as it takes.
    if server.may_hold_other_text() && !server.slot_exists {
        let mut readable = Vec::new();
        for InspectedTable { table, .. } in &inspection.tables {
            if reading_findings(table, &server.user).is_empty() {
                readable.push(table);
            }
        }
        let found = find_other_text(client, &readable).await?;
        inspection.findings.splice(0..0, found);
    }
    Ok(inspection)
}

async fn inspect_catalog(
    client: &Client,
    config: &SyncConfig,
    names: SourceNames<'_>,
) -> Result<(ServerState, Inspection), SourceError> {
    let position: String =
        client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
    let catalog_read_at =
        position.parse().map_err(|_| SourceError::UnexpectedAnswer("pg_current_wal_insert_lsn"))?;
    let tables = catalog::read_tables(client, names.publication).await?;
    let server = read_server(client, names).await?;

    let (published, unpublished): (Vec<_>, Vec<_>) =
        candidate_tables(config.tables(), &tables, |_| true)
            .into_iter()
            .partition(|one| one.is_named || one.table.is_published);
    let named = published.iter().filter(|one| one.is_named).map(|one| &one.table);
    let matched = unpublished.iter().map(|one| &one.table);
    let mut findings = all_findings(&server, named, matched, names);
    if server.publication.is_some() {
        findings.extend(unpublished_findings(&unpublished, &server.user, names));
    }

    let tables_read = published
        .into_iter()
        .map(|CandidateTable { table, is_named }| {
            let left_out_for = match is_named {
                true => Vec::new(),
                false => table_findings(&table, &server.user, names),
            };
            InspectedTable { table, left_out_for }
        })
        .collect();
    let inspection = Inspection {
        tables: tables_read,
        user: server.user.clone(),
        catalog_read_at,
        findings,
        diagnostics: check_config(config, &tables, names.publication),
    };
    Ok((server, inspection))
}

/// Checks the server, the publication, and the tables that a run reads.
///
/// Tables that only a pattern matches are not checked here: a problem of one of them must not keep
/// the others from being synced.
pub(crate) async fn preflight<'a>(
    client: &Client,
    tables: impl IntoIterator<Item = &'a SourceTable>,
    names: SourceNames<'_>,
) -> Result<Vec<Finding>, SourceError> {
    let server = read_server(client, names).await?;
    Ok(all_findings(&server, tables, [], names))
}

/// Returns all findings, fatal ones first. `matched` are tables that only a pattern matches.
fn all_findings<'a>(
    server: &ServerState,
    tables: impl IntoIterator<Item = &'a SourceTable>,
    matched: impl IntoIterator<Item = &'a SourceTable>,
    names: SourceNames<'_>,
) -> Vec<Finding> {
    let tables: Vec<_> = tables.into_iter().collect();
    let to_publish: Vec<_> = tables
        .iter()
        .copied()
        .chain(matched)
        .filter(|table| table.kind == 'r')
        .map(SourceTable::sql_name)
        .collect();
    let mut findings = server_findings(server, names, &to_publish);

    // A table that does not exist is reported when the config is compared with the catalog.
    for table in tables {
        let found = match server.publication {
            Some(_) => table_findings(table, &server.user, names),
            // Each table would be reported as unpublished, which says the same again.
            None => findings_without_publication(table, &server.user, names),
        };
        for finding in found {
            // Tables of one schema share the right to use it.
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings.sort_by_key(|finding| !finding.is_fatal);
    findings
}

/// Returns advice about tables that a pattern matches and that the publication does not contain. A
/// partition leaves the publication when it is detached.
fn unpublished_findings(
    tables: &[CandidateTable],
    user: &str,
    names: SourceNames<'_>,
) -> Vec<Finding> {
    let advice = |finding: Finding| Finding {
        is_fatal: false,
        problem: format!("not synced although a pattern matches it: {}", finding.problem),
        ..finding
    };

    // The first finding of each says why it is not published.
    tables
        .iter()
        .take(UNPUBLISHED_REPORTED_MAX)
        .flat_map(|one| table_findings(&one.table, user, names).into_iter().next())
        .map(advice)
        .collect()
}

#[cfg(test)]
mod tests;
