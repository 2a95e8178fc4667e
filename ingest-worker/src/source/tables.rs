//! Selects the tables of the source database that a sync config reads.

use tidewater_sync_config::{Diagnostic, SyncConfig, TablePattern};

use crate::source::catalog::SourceTable;

/// A table that the sync config reads.
#[derive(Clone, Debug)]
pub(crate) struct CandidateTable {
    pub(crate) table: SourceTable,
    /// The config gives its full name; otherwise only a pattern matches it.
    pub(crate) is_named: bool,
}

/// Returns the tables that a config reads, each once and in the config's order: those that it names,
/// whatever they are, and of those that its patterns match the ordinary ones for which `is_eligible`
/// holds.
pub(crate) fn candidate_tables(
    patterns: &[TablePattern],
    tables: &[SourceTable],
    is_eligible: impl Fn(&SourceTable) -> bool,
) -> Vec<CandidateTable> {
    let mut candidates: Vec<CandidateTable> = Vec::new();
    for pattern in patterns {
        for table in tables.iter().filter(|table| matches(pattern, table)) {
            if candidates.iter().any(|known| known.table.oid == table.oid) {
                continue;
            }
            let is_named =
                patterns.iter().any(|pattern| !pattern.is_wildcard() && matches(pattern, table));
            if is_named || (table.kind == 'r' && is_eligible(table)) {
                candidates.push(CandidateTable { table: table.clone(), is_named });
            }
        }
    }
    candidates
}

fn matches(pattern: &TablePattern, table: &SourceTable) -> bool {
    pattern.matches(&table.schema.schema, &table.schema.name)
}

/// Compares a config with the tables of a database.
pub(crate) fn check_config(config: &SyncConfig, tables: &[SourceTable]) -> Vec<Diagnostic> {
    let candidates = candidate_tables(config.tables(), tables, |_| true);
    let schemas: Vec<_> = tables
        .iter()
        // A pattern matches ordinary tables only. Those that are not read are named in hints.
        .filter(|table| {
            table.kind == 'r' || candidates.iter().any(|found| found.table.oid == table.oid)
        })
        .map(|table| table.schema.clone())
        .collect();
    config.check(&schemas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::catalog::tests::source_table;

    fn table(oid: u32, name: &str, kind: char, is_published: bool) -> SourceTable {
        SourceTable { kind, is_published, ..source_table(oid, name) }
    }

    /// Returns the candidates for these names and patterns: their ids, and whether they are named.
    fn found(names: &[&str]) -> Vec<(u32, bool)> {
        let tables = [
            table(1, "ev_1", 'r', true),
            table(2, "ev_2", 'r', false),
            table(3, "ev_v", 'v', false),
            table(4, "other", 'r', true),
            table(5, "ev_view", 'v', false),
        ];
        let patterns: Vec<_> = names
            .iter()
            .map(|name| TablePattern { schema: "public".into(), name: (*name).into() })
            .collect();
        candidate_tables(&patterns, &tables, |table| table.is_published)
            .iter()
            .map(|candidate| (candidate.table.oid, candidate.is_named))
            .collect()
    }

    #[test]
    fn patterns_match_ordinary_published_tables_only() {
        assert_eq!(found(&["ev_%"]), [(1, false)]);
        assert_eq!(found(&["%"]), [(1, false), (4, false)]);
    }

    #[test]
    fn names_match_any_table() {
        assert_eq!(found(&["ev_2", "ev_view"]), [(2, true), (5, true)]);
        assert_eq!(found(&["absent"]), []);
    }

    #[test]
    fn each_table_is_found_once_in_the_order_of_the_config() {
        // A table counts as named if it is named anywhere, also after a pattern that matches it.
        assert_eq!(found(&["other", "ev_%", "ev_1"]), [(4, true), (1, true)]);
        assert_eq!(found(&["ev_1", "ev_1"]), [(1, true)]);
    }

    fn check(query: &str, tables: &[SourceTable]) -> Vec<String> {
        let text = format!("config: {{edition: 3}}\nstreams:\n  s: {{query: '{query}'}}\n");
        let config = SyncConfig::compile(&text).unwrap();
        check_config(&config, tables).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_config_is_checked_against_the_tables_that_it_reads() {
        let lists = [table(1, "lists", 'r', true)];
        assert_eq!(check("SELECT id FROM lists", &lists), [""; 0]);
        assert_ne!(check("SELECT id, nam FROM lists", &lists), [""; 0]);
        assert_ne!(check("SELECT id FROM todos", &lists), [""; 0]);
    }

    #[test]
    fn a_view_is_checked_only_where_it_is_named() {
        let mut view = table(2, "ev_2", 'v', false);
        view.schema.columns.clear();
        let tables = [table(1, "ev_1", 'r', true), view];
        assert_eq!(check("SELECT id FROM \"ev_%\" AS e", &tables), [""; 0]);
        assert_ne!(check("SELECT id FROM ev_2", &tables), [""; 0]);
    }
}
