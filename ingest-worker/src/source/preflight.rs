//! Checks the source database before anything is read: a list of findings, each with its fix.

use std::fmt;

use tokio_postgres::{Client, Row};

use crate::config::SourceNames;
use crate::source::catalog::SourceTable;
use crate::source::error::SourceError;
use crate::source::quote::quote_identifier;

/// The oldest supported PostgreSQL, as `server_version_num`: version 14 is the first whose `pgoutput`
/// sends logical messages, which write checkpoints need.
const SERVER_VERSION_MIN: i32 = 140_000;

/// A problem of the source database, and its fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The worker cannot start before it is fixed.
    pub is_fatal: bool,
    /// The problem.
    pub problem: String,
    /// The fix, mostly as SQL.
    pub fix: String,
}

impl Finding {
    fn fatal(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { is_fatal: true, problem: problem.into(), fix: fix.into() }
    }

    fn advice(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { is_fatal: false, problem: problem.into(), fix: fix.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    fix: {}", self.problem, self.fix)
    }
}

/// Error of a source database that is not ready for replication: fix each of the findings.
#[derive(Debug, thiserror::Error)]
pub struct PreflightError {
    /// The findings, all of them fatal.
    pub findings: Vec<Finding>,
}

impl fmt::Display for PreflightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source database is not ready for replication:")?;
        for finding in &self.findings {
            write!(f, "\n  - {finding}")?;
        }
        Ok(())
    }
}

/// Findings about the server, the publication and the tables that the sync config names.
#[derive(Debug)]
pub(crate) struct PreflightReport {
    /// The findings, fatal ones first.
    pub(crate) findings: Vec<Finding>,
    /// Our role.
    pub(crate) user: String,
}

/// Settings of the server, and rights of our role.
#[derive(Clone, Debug)]
struct ServerState {
    version: i32,
    version_text: String,
    wal_level: String,
    user: String,
    may_replicate: bool,
    slot_exists: bool,
    has_free_slots: bool,
    /// `max_slot_wal_keep_size` is unlimited.
    keeps_all_wal: bool,
    publication: Option<PublicationState>,
}

/// Settings of a publication.
#[derive(Clone, Copy, Debug)]
struct PublicationState {
    /// It publishes inserts, updates, deletes and truncations.
    has_all_operations: bool,
    /// It publishes changes of partitions as changes of their root table.
    is_via_root: bool,
    is_for_all_tables: bool,
}

const SERVER: &str = "
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
       current_setting('wal_level'), current_user::text,
       COALESCE((SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user), false)
         OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname IN ('rds_replication', 'azure_pg_admin')
                    AND pg_has_role(current_user, r.oid, 'MEMBER')),
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1),
       (SELECT count(*) FROM pg_replication_slots)
         < current_setting('max_replication_slots')::int,
       current_setting('max_slot_wal_keep_size') = '-1'";

const PUBLICATION: &str = "
SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot, puballtables
FROM pg_publication WHERE pubname = $1";

/// Checks the server, the publication and the tables that the sync config names.
///
/// Tables that only a pattern matches are not checked here: a problem of one of them must not keep
/// the others from being synced.
pub(crate) async fn preflight<'a>(
    client: &Client,
    named_tables: impl IntoIterator<Item = &'a SourceTable>,
    names: SourceNames<'_>,
) -> Result<PreflightReport, SourceError> {
    let row = client.query_one(SERVER, &[&names.slot]).await?;
    let publication = client.query_opt(PUBLICATION, &[&names.publication]).await?;
    let server = ServerState::from_rows(&row, publication.as_ref());
    let findings = findings(&server, named_tables, names);
    Ok(PreflightReport { findings, user: server.user })
}

impl ServerState {
    fn from_rows(server: &Row, publication: Option<&Row>) -> Self {
        Self {
            version: server.get(0),
            version_text: server.get(1),
            wal_level: server.get(2),
            user: server.get(3),
            may_replicate: server.get(4),
            slot_exists: server.get(5),
            has_free_slots: server.get(6),
            keeps_all_wal: server.get(7),
            publication: publication.map(|row| PublicationState {
                has_all_operations: row.get(0),
                is_via_root: row.get(1),
                is_for_all_tables: row.get(2),
            }),
        }
    }
}

/// Returns all findings, fatal ones first.
fn findings<'a>(
    server: &ServerState,
    named_tables: impl IntoIterator<Item = &'a SourceTable>,
    names: SourceNames<'_>,
) -> Vec<Finding> {
    let mut findings = server_findings(server, names);

    // Without a publication each table would be reported as unpublished, which says the same again.
    // A table that does not exist is reported when the config is compared with the catalog.
    if let Some(publication) = &server.publication {
        findings.extend(publication_findings(publication, names));
        for table in named_tables {
            findings.extend(table_findings(table, &server.user, names));
        }
    }

    findings.sort_by_key(|finding| !finding.is_fatal);
    findings
}

fn server_findings(server: &ServerState, names: SourceNames<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.version < SERVER_VERSION_MIN {
        findings.push(Finding::fatal(
            format!("PostgreSQL {} is too old: 14 is the oldest supported", server.version_text),
            "upgrade the server",
        ));
    }
    if server.wal_level != "logical" {
        findings.push(Finding::fatal(
            format!("wal_level is '{}', not 'logical'", server.wal_level),
            "ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL (on RDS: set the \
             parameter rds.logical_replication = 1, then reboot)",
        ));
    }
    if !server.may_replicate {
        let user = quote_identifier(&server.user);
        findings.push(Finding::fatal(
            format!("role {user} lacks the REPLICATION attribute"),
            format!("ALTER ROLE {user} REPLICATION; (on RDS: GRANT rds_replication TO {user};)"),
        ));
    }
    if server.publication.is_none() {
        let name = quote_identifier(names.publication);
        findings.push(Finding::fatal(
            format!("publication {name} does not exist"),
            format!("CREATE PUBLICATION {name} FOR TABLE ...; (list the tables to sync)"),
        ));
    }
    if !server.slot_exists && !server.has_free_slots {
        findings.push(Finding::fatal(
            "all replication slots are in use",
            "drop a slot that nobody reads (SELECT slot_name, active FROM pg_replication_slots; \
             SELECT pg_drop_replication_slot('...');) or raise max_replication_slots",
        ));
    }
    if server.keeps_all_wal {
        findings.push(Finding::advice(
            "max_slot_wal_keep_size is -1: while the worker is down, its slot retains all WAL and \
             can fill the server's disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; (as much as the disk can spare), \
             then SELECT pg_reload_conf();",
        ));
    }
    findings
}

fn publication_findings(publication: &PublicationState, names: SourceNames<'_>) -> Vec<Finding> {
    let name = quote_identifier(names.publication);
    let mut findings = Vec::new();
    if !publication.has_all_operations {
        findings.push(Finding::fatal(
            format!("publication {name} does not publish all kinds of changes"),
            format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"),
        ));
    }
    if publication.is_via_root {
        findings.push(Finding::fatal(
            format!(
                "publication {name} publishes partitions as their root table, which is not supported"
            ),
            format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = false);"),
        ));
    }
    if publication.is_for_all_tables {
        findings.push(Finding::advice(
            format!(
                "publication {name} is FOR ALL TABLES: the worker also receives, and discards, \
                 changes of tables that are not synced"
            ),
            "publish only the tables that the sync config reads",
        ));
    }
    findings
}

/// Returns what prevents a table from being synced.
pub(crate) fn table_findings(
    table: &SourceTable,
    user: &str,
    names: SourceNames<'_>,
) -> Vec<Finding> {
    if table.kind != 'r' {
        return reading_findings(table, user);
    }

    let shown = table.display_name();
    let sql = table.sql_name();
    let publication = quote_identifier(names.publication);
    let mut findings = Vec::new();
    if !table.is_published {
        findings.push(Finding::fatal(
            format!("table {shown} is not in publication {publication}"),
            format!("ALTER PUBLICATION {publication} ADD TABLE {sql};"),
        ));
    }
    if table.has_row_filter {
        findings.push(Finding::fatal(
            format!(
                "publication {publication} filters rows of table {shown}, which is not supported"
            ),
            "remove the WHERE clause from the publication, and filter in the sync config",
        ));
    }
    findings.extend(reading_findings(table, user));
    if table.key.is_empty() && table.replica_identity != 'f' {
        findings.push(Finding::fatal(
            format!(
                "table {shown} has neither a primary key nor a replica identity: updated and \
                 deleted rows cannot be identified"
            ),
            format!(
                "ALTER TABLE {sql} ADD PRIMARY KEY (...); or, slower: ALTER TABLE {sql} \
                 REPLICA IDENTITY FULL;"
            ),
        ));
    }
    findings
}

/// Returns what prevents our role from reading all rows that the replication stream has of a table.
pub(crate) fn reading_findings(table: &SourceTable, user: &str) -> Vec<Finding> {
    let shown = table.display_name();
    let sql = table.sql_name();
    let user = quote_identifier(user);
    if table.kind != 'r' {
        let kind = match table.kind {
            'p' => "a partitioned table",
            'v' | 'm' => "a view",
            'f' => "a foreign table",
            _ => "not an ordinary table",
        };
        return vec![Finding::fatal(
            format!("{shown} is {kind}, which has no changes of its own to replicate"),
            "name an ordinary table in the sync config (for a partitioned table its partitions, as \
             in \"events_%\" AS events, which also matches those created later)",
        )];
    }

    let mut findings = Vec::new();
    if !table.may_select {
        findings.push(Finding::fatal(
            format!("role {user} may not read table {shown}"),
            format!("GRANT SELECT ON {sql} TO {user};"),
        ));
    }
    if table.row_security {
        findings.push(Finding::fatal(
            format!(
                "row security hides rows of table {shown} from role {user}: the initial copy would \
                 miss rows that the replication stream has"
            ),
            format!("ALTER ROLE {user} BYPASSRLS; (the sync config decides who sees which rows)"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests;
