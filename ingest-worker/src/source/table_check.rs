//! Checks a table of the source database: what prevents it from being read or synced.

use crate::config::SourceNames;
use crate::source::catalog::{SourceTable, UnsentColumn, UnsentReason};
use crate::source::preflight::Finding;
use crate::source::quote::quote_identifier;

/// Fix for a generated column that this server cannot publish.
const COMPUTE_IT: &str = "compute the value in the sync config, or use an ordinary column that a \
     trigger fills (PostgreSQL 18 and later can publish generated columns that are STORED)";

/// Returns what prevents a table from being synced.
pub(crate) fn table_findings(
    table: &SourceTable,
    user: &str,
    names: SourceNames<'_>,
) -> Vec<Finding> {
    if table.kind != 'r' || table.check.persistence == 't' {
        return reading_findings(table, user);
    }

    let membership = membership_finding(table, names.publication);
    let unlogged = unlogged_finding(table, names.publication);
    // An unlogged table cannot be in a publication.
    let mut findings: Vec<_> = unlogged.or(membership).into_iter().collect();
    findings.extend(reading_findings(table, user));
    findings.extend(identity_finding(table, names.publication));
    findings
}

/// Returns what would prevent a table from being synced if the publication existed.
pub(crate) fn findings_without_publication(
    table: &SourceTable,
    user: &str,
    names: SourceNames<'_>,
) -> Vec<Finding> {
    let mut findings = reading_findings(table, user);
    if table.kind == 'r' {
        findings.extend(unlogged_finding(table, names.publication));
        findings.extend(identity_finding(table, names.publication));
    }
    findings
}

fn unlogged_finding(table: &SourceTable, publication: &str) -> Option<Finding> {
    if table.check.persistence != 'u' {
        return None;
    }
    let sql = table.sql_name();
    let name = quote_identifier(publication);
    Some(Finding::fatal(
        format!(
            "table {} is unlogged: PostgreSQL cannot publish its changes",
            table.display_name()
        ),
        format!(
            "ALTER TABLE {sql} SET LOGGED; ALTER PUBLICATION {name} ADD TABLE {sql}; (the latter \
             unless the publication is FOR ALL TABLES)"
        ),
    ))
}

/// Returns why the publication does not contain all rows of an ordinary table.
fn membership_finding(table: &SourceTable, publication: &str) -> Option<Finding> {
    let shown = table.display_name();
    let sql = table.sql_name();
    let name = quote_identifier(publication);
    if !table.is_published {
        return Some(Finding::fatal(
            format!("table {shown} is not in publication {name}"),
            format!("ALTER PUBLICATION {name} ADD TABLE {sql};"),
        ));
    }
    if table.has_row_filter {
        let republish = republish(table, publication, &[]);
        return Some(Finding::fatal(
            format!("publication {name} filters rows of table {shown}, which is not supported"),
            format!("{republish} (and filter in the sync config)"),
        ));
    }
    None
}

/// Returns what prevents our role from reading all rows that the replication stream has of a table.
pub(crate) fn reading_findings(table: &SourceTable, user: &str) -> Vec<Finding> {
    let shown = table.display_name();
    let sql = table.sql_name();
    let user = quote_identifier(user);
    if table.kind != 'r' || table.check.persistence == 't' {
        let kind = match table.kind {
            'r' => "a temporary table, which only the session that made it can read",
            'p' => "a partitioned table, which has no changes of its own to replicate",
            'v' | 'm' => "a view, which has no changes of its own to replicate",
            'f' => "a foreign table, which has no changes of its own to replicate",
            _ => "not an ordinary table, and has no changes of its own to replicate",
        };
        return vec![Finding::fatal(
            format!("{shown} is {kind}"),
            "name an ordinary table in the sync config (for a partitioned table its partitions, as \
             in \"events_%\" AS events, which also matches those created later)",
        )];
    }

    let mut findings = Vec::new();
    if table.check.lacks_schema_usage {
        let schema = quote_identifier(&table.schema.schema);
        findings.push(Finding::fatal(
            format!("role {user} may not use schema {}", table.schema.schema),
            format!("GRANT USAGE ON SCHEMA {schema} TO {user};"),
        ));
    }
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

/// Returns why the stream cannot tell which row was updated or deleted.
fn identity_finding(table: &SourceTable, publication: &str) -> Option<Finding> {
    let shown = table.display_name();
    let sql = table.sql_name();
    if table.check.unsent_columns.iter().any(|unsent| unsent.in_identity) {
        return Some(unsent_identity_finding(table, publication));
    }
    if !table.key.is_empty() || table.replica_identity == 'f' {
        return None;
    }

    let full = format!("ALTER TABLE {sql} REPLICA IDENTITY FULL;");
    if table.replica_identity != 'd' && table.check.has_primary_key {
        let identity =
            if table.replica_identity == 'n' { "NOTHING" } else { "an index that is gone" };
        return Some(Finding::fatal(
            format!(
                "the replica identity of table {shown} is {identity}: PostgreSQL refuses UPDATE and \
                 DELETE on it while it is published"
            ),
            format!("ALTER TABLE {sql} REPLICA IDENTITY DEFAULT; (which is its primary key)"),
        ));
    }
    if table.check.has_deferrable_key {
        return Some(Finding::fatal(
            format!(
                "the primary key of table {shown} is DEFERRABLE, and so cannot be its replica \
                 identity: PostgreSQL refuses UPDATE and DELETE on it while it is published"
            ),
            format!("make the key again without DEFERRABLE; or, slower: {full}"),
        ));
    }
    let default = match table.replica_identity {
        'd' => String::new(),
        _ => format!(" ALTER TABLE {sql} REPLICA IDENTITY DEFAULT;"),
    };
    Some(Finding::fatal(
        format!(
            "table {shown} has neither a primary key nor a replica identity: updated and deleted \
             rows cannot be identified"
        ),
        format!("ALTER TABLE {sql} ADD PRIMARY KEY (...);{default} or, slower: {full}"),
    ))
}

/// Describes columns of the replica identity that the stream does not carry.
fn unsent_identity_finding(table: &SourceTable, publication: &str) -> Finding {
    let shown = table.display_name();
    let sql = table.sql_name();
    let missed: Vec<&UnsentColumn> =
        table.check.unsent_columns.iter().filter(|unsent| unsent.in_identity).collect();
    let names: Vec<_> = missed.iter().map(|unsent| quote_identifier(&unsent.column.name)).collect();
    let columns = names.join(", ");
    let name = quote_identifier(publication);

    let has = |reason| missed.iter().any(|unsent| unsent.reason == reason);
    let default_identity = format!("ALTER TABLE {sql} REPLICA IDENTITY DEFAULT;");
    if has(UnsentReason::NotPublishable) {
        return Finding::fatal(
            format!(
                "the replica identity of table {shown} contains the generated column {columns}, \
                 which this version of PostgreSQL does not publish"
            ),
            format!(
                "give the table a key of ordinary columns; or, slower: ALTER TABLE {sql} REPLICA \
                 IDENTITY FULL;"
            ),
        );
    }
    if has(UnsentReason::Virtual) {
        return Finding::fatal(
            format!(
                "the replica identity of table {shown} is the whole row, which contains the virtual \
                 generated column {columns}: PostgreSQL refuses UPDATE and DELETE on it"
            ),
            format!("{default_identity} (the table then needs a primary key)"),
        );
    }
    if has(UnsentReason::NotPublished) && !is_listed(table) {
        return Finding::fatal(
            format!(
                "the replica identity of table {shown} contains the generated column {columns}, \
                 which publication {name} leaves out: PostgreSQL refuses UPDATE and DELETE on it"
            ),
            format!("ALTER PUBLICATION {name} SET (publish_generated_columns = stored);"),
        );
    }
    Finding::fatal(
        format!(
            "publication {name} does not contain all columns of the replica identity of table \
             {shown}, {columns} is missing: PostgreSQL refuses UPDATE and DELETE on it"
        ),
        republish(table, publication, &missed),
    )
}

/// Returns how the stream would carry a column. `publication` is empty where it is not known.
pub(crate) fn unsent_column_fix(
    table: &SourceTable,
    unsent: &UnsentColumn,
    publication: &str,
) -> String {
    match unsent.reason {
        UnsentReason::NotPublishable | UnsentReason::Virtual => COMPUTE_IT.to_owned(),
        UnsentReason::NotPublished if !is_listed(table) => {
            let name = match publication {
                "" => "...".to_owned(),
                name => quote_identifier(name),
            };
            format!("ALTER PUBLICATION {name} SET (publish_generated_columns = stored);")
        }
        UnsentReason::NotListed | UnsentReason::NotPublished => {
            republish(table, publication, &[unsent])
        }
    }
}

/// Returns whether the publication lists columns of the table.
fn is_listed(table: &SourceTable) -> bool {
    table.check.unsent_columns.iter().any(|unsent| unsent.reason == UnsentReason::NotListed)
}

/// Returns the SQL that publishes a table without a row filter, with these columns in addition to
/// those that are published. The column list goes if no ordinary column is left out.
fn republish(table: &SourceTable, publication: &str, added: &[&UnsentColumn]) -> String {
    let name = quote_identifier(publication);
    let sql = table.sql_name();
    let is_added = |unsent: &UnsentColumn| added.iter().any(|one| one.column == unsent.column);
    let needs_list = table
        .check
        .unsent_columns
        .iter()
        .any(|unsent| unsent.reason == UnsentReason::NotListed && !is_added(unsent))
        || added.iter().any(|unsent| unsent.reason == UnsentReason::NotPublished);

    let sent = table.schema.columns.iter();
    let columns: Vec<_> = sent
        .chain(added.iter().map(|unsent| &unsent.column))
        .map(|column| quote_identifier(&column.name))
        .collect();
    let list = if needs_list { format!(" ({})", columns.join(", ")) } else { String::new() };
    format!(
        "BEGIN; ALTER PUBLICATION {name} DROP TABLE {sql}; ALTER PUBLICATION {name} ADD TABLE \
         {sql}{list}; COMMIT;"
    )
}

#[cfg(test)]
mod tests;
