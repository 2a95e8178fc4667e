//! Looks over the source before anything is read: a list of findings, each with what mends it.

use std::fmt;

use tokio_postgres::Client;

use crate::config::SourceNames;
use crate::source::catalog::SourceTable;
use crate::source::connect::quote_identifier;
use crate::source::tables::CandidateTable;

/// The oldest PostgreSQL whose replication protocol carries logical messages.
const SERVER_VERSION_MIN: i32 = 140_000;

/// Something about the source that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the worker can start in spite of it.
    pub is_fatal: bool,
    /// What is wrong.
    pub problem: String,
    /// What to do about it: mostly the SQL.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    fix: {}", self.problem, self.fix)
    }
}

/// The source is not ready.
#[derive(Debug, thiserror::Error)]
pub struct NotReady(pub Vec<Finding>);

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source database is not ready for replication:")?;
        self.0.iter().try_for_each(|finding| write!(f, "\n  - {finding}"))
    }
}

/// What the server says of itself.
struct Server {
    version: i32,
    version_text: String,
    wal_level: String,
    user: String,
    may_replicate: bool,
    slot_exists: bool,
    slots_free: bool,
    slot_keeps_all_wal: bool,
    publication: Option<Publication>,
}

struct Publication {
    complete: bool,
    via_root: bool,
    all_tables: bool,
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

/// What there is to say of the server, and of the tables that the config names.
pub(crate) struct PreflightReport {
    /// The fatal ones first.
    pub(crate) findings: Vec<Finding>,
    /// Our role.
    pub(crate) user: String,
}

/// Looks over everything but the tables that patterns find: what is the matter with one of those
/// must not keep the others from being synced.
pub(crate) async fn preflight(
    client: &Client,
    candidates: &[CandidateTable],
    names: SourceNames<'_>,
) -> Result<PreflightReport, tokio_postgres::Error> {
    let server = server(client, names).await?;
    let mut findings = server_findings(&server, names);
    if let Some(publication) = &server.publication {
        findings.extend(publication_findings(publication, names));
        // A table that is not there at all is found when the config is bound.
        for CandidateTable { table, .. } in candidates.iter().filter(|candidate| candidate.is_named)
        {
            findings.extend(table_findings(table, &server.user, names));
        }
    }
    findings.sort_by_key(|finding| !finding.is_fatal);
    Ok(PreflightReport { findings, user: server.user })
}

async fn server(client: &Client, names: SourceNames<'_>) -> Result<Server, tokio_postgres::Error> {
    let row = client.query_one(SERVER, &[&names.slot]).await?;
    let publication = client.query_opt(PUBLICATION, &[&names.publication]).await?;
    Ok(Server {
        version: row.get(0),
        version_text: row.get(1),
        wal_level: row.get(2),
        user: row.get(3),
        may_replicate: row.get(4),
        slot_exists: row.get(5),
        slots_free: row.get(6),
        slot_keeps_all_wal: row.get(7),
        publication: publication.map(|row| Publication {
            complete: row.get(0),
            via_root: row.get(1),
            all_tables: row.get(2),
        }),
    })
}

fn fatal(problem: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { is_fatal: true, problem: problem.into(), fix: fix.into() }
}

fn advice(problem: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { is_fatal: false, problem: problem.into(), fix: fix.into() }
}

fn server_findings(server: &Server, names: SourceNames<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.version < SERVER_VERSION_MIN {
        findings.push(fatal(
            format!("PostgreSQL {} is too old: 14 is the oldest supported", server.version_text),
            "upgrade the server",
        ));
    }
    if server.wal_level != "logical" {
        findings.push(fatal(
            format!("wal_level is '{}', not 'logical'", server.wal_level),
            "ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL (on RDS: the \
             parameter rds.logical_replication = 1, then reboot)",
        ));
    }
    if !server.may_replicate {
        let user = quote_identifier(&server.user);
        findings.push(fatal(
            format!("role {user} may not replicate"),
            format!("ALTER ROLE {user} REPLICATION; (on RDS: GRANT rds_replication TO {user};)"),
        ));
    }
    if server.publication.is_none() {
        let name = quote_identifier(names.publication);
        findings.push(fatal(
            format!("there is no publication {name}"),
            format!("CREATE PUBLICATION {name} FOR TABLE ...; naming the tables to sync"),
        ));
    }
    if !server.slot_exists && !server.slots_free {
        findings.push(fatal(
            "all replication slots are in use",
            "drop one that nobody reads (SELECT slot_name, active FROM pg_replication_slots; \
             SELECT pg_drop_replication_slot('...');) or raise max_replication_slots",
        ));
    }
    if server.slot_keeps_all_wal {
        findings.push(advice(
            "max_slot_wal_keep_size is -1: while the worker is down, its slot keeps all WAL and \
             can fill the server's disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; (what your disk can spare), then \
             SELECT pg_reload_conf();",
        ));
    }
    findings
}

fn publication_findings(publication: &Publication, names: SourceNames<'_>) -> Vec<Finding> {
    let name = quote_identifier(names.publication);
    let mut findings = Vec::new();
    if !publication.complete {
        findings.push(fatal(
            format!("publication {name} leaves out some kinds of changes"),
            format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"),
        ));
    }
    if publication.via_root {
        findings.push(fatal(
            format!(
                "publication {name} publishes partitions as their root, which is not supported"
            ),
            format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = false);"),
        ));
    }
    if publication.all_tables {
        findings.push(advice(
            format!(
                "publication {name} is FOR ALL TABLES: changes of tables that are not synced \
                     are sent too, and thrown away"
            ),
            "publish only the tables that the sync config reads",
        ));
    }
    findings
}

/// What keeps a table from being synced.
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
    let mut findings = Vec::new();
    if !table.is_published {
        let name = quote_identifier(names.publication);
        findings.push(fatal(
            format!("table {shown} is not in publication {name}"),
            format!("ALTER PUBLICATION {name} ADD TABLE {sql};"),
        ));
    }
    if table.has_row_filter {
        findings.push(fatal(
            format!("the publication filters rows of {shown}, which is not supported"),
            "remove the WHERE of the publication, and filter in the sync config",
        ));
    }
    findings.extend(reading_findings(table, user));
    if table.key.is_empty() && table.replica_identity != 'f' {
        findings.push(fatal(
            format!(
                "table {shown} has neither a primary key nor a replica identity: a changed or \
                     deleted row could not be told from others"
            ),
            format!(
                "ALTER TABLE {sql} ADD PRIMARY KEY (...); or, slower: ALTER TABLE {sql} \
                     REPLICA IDENTITY FULL;"
            ),
        ));
    }
    findings
}

/// What keeps a role from reading all rows that a table's stream has.
pub(crate) fn reading_findings(table: &SourceTable, user: &str) -> Vec<Finding> {
    let shown = table.display_name();
    let sql = table.sql_name();
    let user = quote_identifier(user);
    if table.kind != 'r' {
        let kind = match table.kind {
            'p' => "a partitioned table",
            'v' | 'm' => "a view",
            'f' => "a foreign table",
            _ => "no ordinary table",
        };
        return vec![fatal(
            format!("{shown} is {kind}, which has no changes of its own to replicate"),
            "name an ordinary table in the sync config (of a partitioned table its partitions, as in \
             \"events_%\" AS events, which finds those that are made later too)",
        )];
    }
    let mut findings = Vec::new();
    if !table.may_select {
        findings.push(fatal(
            format!("role {user} may not read table {shown}"),
            format!("GRANT SELECT ON {sql} TO {user};"),
        ));
    }
    if table.row_security {
        findings.push(fatal(
            format!(
                "row security hides rows of {shown} from role {user}: the first copy would \
                     miss what the stream shows"
            ),
            format!("ALTER ROLE {user} BYPASSRLS; (the sync config decides who sees what)"),
        ));
    }
    findings
}
