//! Checks the server and the publication before anything is made: a list of findings, each with its
//! fix.

use std::fmt;

use tokio_postgres::{Client, Row};

use crate::config::SourceNames;
use crate::source::error::SourceError;
use crate::source::quote::quote_identifier;

/// The oldest supported PostgreSQL, as `server_version_num`: version 14 is the first whose `pgoutput`
/// sends logical messages, which write checkpoints need.
const SERVER_VERSION_MIN: i32 = 140_000;

/// The newest PostgreSQL that the tests run on, as a major version.
const MAJOR_VERSION_TESTED_MAX: i32 = 18;

/// Slots and WAL senders that a fix adds: for a worker, the one that follows it, and a backup.
const SPARE_CAPACITY: i64 = 5;

/// Tables that a fix lists. A pattern may match thousands.
const LISTED_TABLES_MAX: usize = 50;

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
    pub(crate) fn fatal(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { is_fatal: true, problem: problem.into(), fix: fix.into() }
    }

    pub(crate) fn advice(problem: impl Into<String>, fix: impl Into<String>) -> Self {
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

/// Settings of the server, and rights of our role.
#[derive(Clone, Debug)]
pub(crate) struct ServerState {
    version: i32,
    version_text: String,
    wal_level: String,
    /// Our role.
    pub(crate) user: String,
    may_replicate: bool,
    pub(crate) slot_exists: bool,
    /// A session streams from our slot, and so has a WAL sender.
    is_slot_active: bool,
    slots: InUse,
    wal_senders: InUse,
    /// Name of the database's encoding.
    encoding: String,
    database: String,
    /// `max_slot_wal_keep_size` is unlimited.
    keeps_all_wal: bool,
    pub(crate) publication: Option<PublicationState>,
}

/// The use of something that a server has a fixed number of.
#[derive(Clone, Copy, Debug)]
struct InUse {
    used: i64,
    max: i64,
}

impl InUse {
    fn is_exhausted(self) -> bool {
        self.used >= self.max
    }
}

/// Settings of a publication.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicationState {
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
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active),
       (SELECT count(*) FROM pg_replication_slots),
       current_setting('max_replication_slots')::int8,
       (SELECT count(*) FROM pg_stat_replication), current_setting('max_wal_senders')::int8,
       current_setting('server_encoding'), current_database()::text,
       current_setting('max_slot_wal_keep_size') = '-1'";

const PUBLICATION: &str = "
SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot, puballtables
FROM pg_publication WHERE pubname = $1";

/// Reads the settings of the server and of the publication.
pub(crate) async fn read_server(
    client: &Client,
    names: SourceNames<'_>,
) -> Result<ServerState, SourceError> {
    let row = client.query_one(SERVER, &[&names.slot]).await?;
    let publication = client.query_opt(PUBLICATION, &[&names.publication]).await?;
    Ok(ServerState::from_rows(&row, publication.as_ref()))
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
            is_slot_active: server.get(6),
            slots: InUse { used: server.get(7), max: server.get(8) },
            wal_senders: InUse { used: server.get(9), max: server.get(10) },
            encoding: server.get(11),
            database: server.get(12),
            keeps_all_wal: server.get(13),
            publication: publication.map(|row| PublicationState {
                has_all_operations: row.get(0),
                is_via_root: row.get(1),
                is_for_all_tables: row.get(2),
            }),
        }
    }

    /// Returns whether the database may hold text that is not UTF-8. All other encodings are converted.
    pub(crate) fn may_hold_other_text(&self) -> bool {
        self.encoding == "SQL_ASCII"
    }
}

/// Returns the findings about the server and the publication. `to_publish` are the SQL names of the
/// tables that the sync config reads.
pub(crate) fn server_findings(
    server: &ServerState,
    names: SourceNames<'_>,
    to_publish: &[String],
) -> Vec<Finding> {
    let mut findings = setting_findings(server);
    match &server.publication {
        Some(publication) => findings.extend(publication_findings(publication, names)),
        None => findings.push(missing_publication(names.publication, to_publish)),
    }
    findings.extend(capacity_findings(server));

    if server.may_hold_other_text() {
        findings.push(Finding::advice(
            format!(
                "database {} has the encoding SQL_ASCII: PostgreSQL does not check that text is \
                 UTF-8, and replication stops at the first row in which it is not",
                server.database
            ),
            "move the data to a database with ENCODING 'UTF8' (pg_dump, createdb --encoding=UTF8 \
             --template=template0, psql)",
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

/// Returns the findings about version, settings and role.
fn setting_findings(server: &ServerState) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.version < SERVER_VERSION_MIN {
        findings.push(Finding::fatal(
            format!("PostgreSQL {} is too old: 14 is the oldest supported", server.version_text),
            "upgrade the server",
        ));
    }
    if server.version / 10_000 > MAJOR_VERSION_TESTED_MAX {
        findings.push(Finding::advice(
            format!(
                "PostgreSQL {} is newer than {MAJOR_VERSION_TESTED_MAX}, the newest that this \
                 version of Tidewater was tested on",
                server.version_text
            ),
            "use a version of Tidewater that was tested on it",
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
    findings
}

/// Returns what the server has none left of. A worker needs one slot and one WAL sender.
fn capacity_findings(server: &ServerState) -> Vec<Finding> {
    let mut findings = Vec::new();
    let InUse { used, max } = server.slots;
    if !server.slot_exists && server.slots.is_exhausted() {
        findings.push(Finding::fatal(
            format!("all replication slots are in use: {used} of max_replication_slots = {max}"),
            format!(
                "drop a slot that nobody reads (SELECT slot_name, active FROM \
                 pg_replication_slots; SELECT pg_drop_replication_slot('...');), or ALTER SYSTEM \
                 SET max_replication_slots = {}; then restart PostgreSQL",
                max + SPARE_CAPACITY
            ),
        ));
    }

    // The session that streams from our slot is a former one of ours, which ends, or another worker's,
    // which this one waits for.
    let InUse { used, max } = server.wal_senders;
    if !server.is_slot_active && server.wal_senders.is_exhausted() {
        findings.push(Finding::fatal(
            format!("all WAL senders are in use: {used} of max_wal_senders = {max}"),
            format!(
                "end a replication connection (SELECT pid, application_name, client_addr FROM \
                 pg_stat_replication;), or ALTER SYSTEM SET max_wal_senders = {}; then restart \
                 PostgreSQL",
                max + SPARE_CAPACITY
            ),
        ));
    }
    findings
}

fn missing_publication(publication: &str, to_publish: &[String]) -> Finding {
    let name = quote_identifier(publication);
    let mut tables = to_publish.iter().take(LISTED_TABLES_MAX).cloned().collect::<Vec<_>>();
    if to_publish.len() > LISTED_TABLES_MAX || to_publish.is_empty() {
        tables.push("...".to_owned());
    }
    Finding::fatal(
        format!("publication {name} does not exist"),
        format!("CREATE PUBLICATION {name} FOR TABLE {};", tables.join(", ")),
    )
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

#[cfg(test)]
mod tests;
