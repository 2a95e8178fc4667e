//! Which tables of the source the sync config reads.

use tidewater_sync_config::{Diagnostic, SyncConfig, TablePattern};

use crate::source::catalog::SourceTable;

/// A table that the sync config reads.
#[derive(Clone, Debug)]
pub(crate) struct CandidateTable {
    pub(crate) table: SourceTable,
    /// Whether the config names it in full; else a pattern found it.
    pub(crate) is_named: bool,
}

/// The tables that a config reads, in its order: those that it names, whatever they are, and of those
/// that its patterns find the ordinary ones for which `may_be_found` holds.
pub(crate) fn candidate_tables(
    patterns: &[TablePattern],
    tables: &[SourceTable],
    may_be_found: impl Fn(&SourceTable) -> bool,
) -> Vec<CandidateTable> {
    let matches = |pattern: &TablePattern, table: &SourceTable| {
        pattern.matches(&table.schema.schema, &table.schema.name)
    };
    let mut candidates: Vec<CandidateTable> = Vec::new();
    for pattern in patterns {
        for table in tables.iter().filter(|table| matches(pattern, table)) {
            let is_named =
                patterns.iter().any(|pattern| !pattern.is_wildcard() && matches(pattern, table));
            let is_known = candidates.iter().any(|known| known.table.oid == table.oid);
            if !is_known && (is_named || (table.kind == 'r' && may_be_found(table))) {
                candidates.push(CandidateTable { table: table.clone(), is_named });
            }
        }
    }
    candidates
}

/// What a config finds fault with in the tables of a database.
pub(crate) fn check_config(config: &SyncConfig, tables: &[SourceTable]) -> Vec<Diagnostic> {
    let found = candidate_tables(config.tables(), tables, |_| true);
    let is_found = |table: &SourceTable| found.iter().any(|found| found.table.oid == table.oid);
    // A pattern finds ordinary tables only. The others are there to be named in hints.
    let seen = tables.iter().filter(|table| table.kind == 'r' || is_found(table));
    config.check(&seen.map(|table| table.schema.clone()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_sync_config::{PgTypes, TableSchema};

    fn table(oid: u32, name: &str, kind: char, is_published: bool) -> SourceTable {
        SourceTable {
            oid,
            schema: TableSchema {
                schema: "public".into(),
                name: name.into(),
                columns: Vec::new(),
                types: PgTypes::default(),
            },
            column_types: Vec::new(),
            kind,
            replica_identity: 'd',
            key: Vec::new(),
            may_select: true,
            row_security: false,
            is_published,
            has_row_filter: false,
            estimated_rows: 0.0,
        }
    }

    #[test]
    fn patterns_find_ordinary_published_tables_and_names_find_all() {
        let tables = [
            table(1, "ev_1", 'r', true),
            table(2, "ev_2", 'r', false),
            table(3, "ev_v", 'v', false),
            table(4, "other", 'r', true),
            table(5, "ev_view", 'v', false),
        ];
        let found = |names: &[&str]| {
            let pattern =
                |name: &&str| TablePattern { schema: "public".into(), name: (*name).into() };
            let patterns: Vec<_> = names.iter().map(pattern).collect();
            let found = candidate_tables(&patterns, &tables, |table| table.is_published);
            let short = |one: &CandidateTable| (one.table.oid, one.is_named);
            found.iter().map(short).collect::<Vec<_>>()
        };
        assert_eq!(found(&["ev_%"]), [(1, false)]);
        // In the config's order, each once, and by name where that stands anywhere.
        assert_eq!(found(&["other", "ev_%", "ev_1"]), [(4, true), (1, true)]);
        assert_eq!(found(&["ev_2", "ev_view"]), [(2, true), (5, true)]);
        assert_eq!(found(&["%"]), [(1, false), (4, false)]);
    }
}
