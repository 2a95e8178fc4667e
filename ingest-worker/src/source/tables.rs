//! Selects the tables of the source database that a sync config reads.

use tidewater_sync_config::{Diagnostic, Severity, SyncConfig, TablePattern};

use crate::source::catalog::{SourceTable, UnsentColumn, UnsentReason};
use crate::source::table_check::unsent_column_fix;

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

/// Compares a config with the tables of a database. `publication` is empty where it is not known.
pub(crate) fn check_config(
    config: &SyncConfig,
    tables: &[SourceTable],
    publication: &str,
) -> Vec<Diagnostic> {
    let candidates = candidate_tables(config.tables(), tables, |_| true);
    let mut schemas: Vec<_> = tables
        .iter()
        // A pattern matches ordinary tables only. Those that are not read are named in hints.
        .filter(|table| {
            table.kind == 'r' || candidates.iter().any(|found| found.table.oid == table.oid)
        })
        .map(|table| table.schema.clone())
        .collect();

    let found = config.check(&schemas);
    let mut described = found.clone();
    for CandidateTable { table, .. } in &candidates {
        let at = schemas
            .iter()
            .position(|one| one.schema == table.schema.schema && one.name == table.schema.name);
        let Some(at) = at else { continue };
        for unsent in &table.check.unsent_columns {
            if found.is_empty() {
                return described;
            }
            // What is no error once the table has the column is an error about this column.
            schemas[at].columns.push(unsent.column.clone());
            let others = config.check(&schemas);
            schemas[at].columns.pop();
            for (finding, described) in found.iter().zip(&mut described) {
                let is_about = !others.iter().any(|other| is_same(other, finding));
                if is_about && finding.severity == Severity::Error {
                    describe_unsent(described, table, unsent, publication);
                }
            }
        }
    }
    described
}

/// Returns whether two findings are the same. Their hints may list other columns.
fn is_same(one: &Diagnostic, other: &Diagnostic) -> bool {
    (one.line, one.column, &one.message) == (other.line, other.column, &other.message)
}

/// Says why the stream lacks a column that the config names, and how it would have it.
fn describe_unsent(
    finding: &mut Diagnostic,
    table: &SourceTable,
    unsent: &UnsentColumn,
    publication: &str,
) {
    let reason = match unsent.reason {
        UnsentReason::NotListed => "the publication does not list it",
        UnsentReason::NotPublished => "it is generated, and the publication leaves it out",
        UnsentReason::NotPublishable => {
            "it is generated, and this version of PostgreSQL does not publish it"
        }
        UnsentReason::Virtual => "it is generated and not stored, and so cannot be published",
    };
    finding.message = format!(
        "the column `{}` of table `{}` is not replicated: {reason}",
        unsent.column.name, table.schema.name
    );
    finding.hint = Some(unsent_column_fix(table, unsent, publication));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::catalog::tests::source_table;
    use tidewater_sync_config::Column;

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
        check_config(&config, tables, "powersync")
            .into_iter()
            .map(|finding| finding.message)
            .collect()
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

    #[test]
    fn a_named_column_that_is_not_replicated_is_described_with_the_sql_that_publishes_it() {
        let with = |reason| {
            let mut one = table(1, "lists", 'r', true);
            let column = Column { name: "total".into(), type_oid: 25 };
            one.check.unsent_columns = vec![
                UnsentColumn {
                    column: Column { name: "other".into(), type_oid: 25 },
                    reason: UnsentReason::NotListed,
                    in_identity: false,
                },
                UnsentColumn { column, reason, in_identity: false },
            ];
            one
        };
        let hint = |reason, query: &str| {
            let text = format!("config: {{edition: 3}}\nstreams:\n  s: {{query: '{query}'}}\n");
            let config = SyncConfig::compile(&text).unwrap();
            let mut found = check_config(&config, &[with(reason)], "p");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].message.contains("`total` of table `lists`"), "{found:?}");
            found.remove(0).hint.unwrap()
        };

        let query = "SELECT id, total FROM lists";
        let listed = "ALTER PUBLICATION \"p\" ADD TABLE \"public\".\"lists\" (\"id\", \"total\");";
        for reason in [UnsentReason::NotListed, UnsentReason::NotPublished] {
            assert!(hint(reason, query).contains(listed), "{}", hint(reason, query));
        }
        let generated = hint(UnsentReason::NotPublishable, query);
        assert!(generated.contains("compute the value in the sync config"), "{generated}");
        assert_eq!(check("SELECT * FROM lists", &[with(UnsentReason::NotListed)]), [""; 0]);
    }
}
