//! Which tables of the source the sync config reads, and by which numbers their rows are stored.

use tidewater_storage::Truncation;
use tidewater_sync_config::{Diagnostic, SyncConfig, TablePattern};

use crate::apply::SyncedTable;
use crate::catalog::Table;
use crate::copy::{CopiedTable, CopyState, GoneTable, TableCopy};
use crate::error::RunError;

/// Most tables that a sync config may read: their list is one stored record.
const TABLES_MAX: usize = 2_500;
/// When more numbers than these have been given out, everything is numbered and copied anew.
const NUMBERS_MAX: usize = 10_000;
/// The same when more tables are gone of whose answers readers must know: each is part of every
/// commit.
const GONE_MAX: usize = 100;

/// A table that the sync config reads.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) table: Table,
    /// Whether the config names it in full; else a pattern found it.
    pub(crate) is_named: bool,
}

/// The tables that a config reads, in its order: those that it names, whatever they are, and of those
/// that its patterns find the ordinary ones for which `may_be_found` holds.
pub(crate) fn candidates(
    patterns: &[TablePattern],
    tables: &[Table],
    may_be_found: impl Fn(&Table) -> bool,
) -> Vec<Candidate> {
    let matches = |pattern: &TablePattern, table: &Table| {
        pattern.matches(&table.schema.schema, &table.schema.name)
    };
    let mut candidates: Vec<Candidate> = Vec::new();
    for pattern in patterns {
        for table in tables.iter().filter(|table| matches(pattern, table)) {
            let is_named =
                patterns.iter().any(|pattern| !pattern.is_wildcard() && matches(pattern, table));
            let is_known = candidates.iter().any(|known| known.table.oid == table.oid);
            if !is_known && (is_named || (table.kind == 'r' && may_be_found(table))) {
                candidates.push(Candidate { table: table.clone(), is_named });
            }
        }
    }
    candidates
}

/// What a config finds fault with in the tables of a database.
pub(crate) fn check(config: &SyncConfig, tables: &[Table]) -> Vec<Diagnostic> {
    let found = candidates(config.tables(), tables, |_| true);
    let is_found = |table: &Table| found.iter().any(|found| found.table.oid == table.oid);
    // A pattern finds ordinary tables only. The others are there to be named in hints.
    let seen = tables.iter().filter(|table| table.kind == 'r' || is_found(table));
    config.check(&seen.map(|table| table.schema.clone()).collect::<Vec<_>>())
}

/// The tables of a generation.
pub(crate) struct Numbered {
    pub(crate) tables: Vec<SyncedTable>,
    pub(crate) copy: CopyState,
    /// Tables that the generation holds, and that are not there any more.
    pub(crate) gone: Vec<GoneTable>,
    /// Whether any is gone, or new.
    pub(crate) is_changed: bool,
}

impl Numbered {
    /// Whether the generation can hold these tables too.
    pub(crate) fn can_go_on(&self, truncated: &[Truncation]) -> bool {
        let is_gone = |one: &&Truncation| self.tables.iter().all(|table| table.number != one.table);
        let new = self.gone.iter().filter(|gone| gone.has_lookups).count();
        let gone = truncated.iter().filter(is_gone).count() + new;
        self.copy.tables.len() <= NUMBERS_MAX && gone <= GONE_MAX
    }
}

/// Numbers tables as they are in the record of a copy. `None` when there is no number left.
///
/// # Errors
/// When there are too many tables, or the config does not fit one of them.
pub(crate) fn number(
    config: &SyncConfig,
    tables: &[Table],
    mut copy: CopyState,
) -> Result<Option<Numbered>, RunError> {
    if tables.len() > TABLES_MAX {
        return Err(too_many_tables());
    }
    let mut evaluators = Vec::with_capacity(tables.len());
    for table in tables {
        let evaluator = config.bind(&table.schema)?;
        let unread = || RunError::Unexpected(format!("{} is not read", table.display_name()));
        evaluators.push(evaluator.ok_or_else(unread)?);
    }
    let known = copy.tables.len();
    let copied = tables.iter().zip(&evaluators).map(|(table, evaluator)| CopiedTable {
        oid: table.oid,
        shape: table.shape(),
        has_lookups: evaluator.has_lookups(),
        progress: TableCopy::Todo,
    });
    let Some((numbers, gone)) = copy.number(copied) else { return Ok(None) };
    let is_changed = copy.tables.len() > known || !gone.is_empty();
    let numbered = numbers.into_iter().zip(tables).zip(evaluators);
    let synced = numbered.map(|((number, table), evaluator)| SyncedTable {
        number,
        table: table.clone(),
        evaluator,
    });
    Ok(Some(Numbered { tables: synced.collect(), copy, gone, is_changed }))
}

pub(crate) fn too_many_tables() -> RunError {
    RunError::Unexpected(format!(
        "the sync config reads more than {TABLES_MAX} tables: use patterns that find fewer"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_sync_config::{PgTypes, TableSchema};

    fn table(oid: u32, name: &str, kind: char, is_published: bool) -> Table {
        Table {
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
    fn everything_is_numbered_anew_before_the_control_record_is_large() {
        let truncated = |count: u16| {
            let one = |table| Truncation { table, op: tidewater_protocol::OpId::ZERO };
            (0..count).map(one).collect::<Vec<_>>()
        };
        let gone = GoneTable { number: 0, has_lookups: true };
        let mut numbered = Numbered {
            tables: Vec::new(),
            copy: CopyState::new(tidewater_storage::Lsn(0)),
            gone: vec![gone; 50],
            is_changed: true,
        };
        assert!(numbered.can_go_on(&truncated(50)));
        assert!(!numbered.can_go_on(&truncated(51)));
        numbered.copy.tables = vec![None; NUMBERS_MAX + 1];
        assert!(!numbered.can_go_on(&[]));
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
            let found = candidates(&patterns, &tables, |table| table.is_published);
            let short = |one: &Candidate| (one.table.oid, one.is_named);
            found.iter().map(short).collect::<Vec<_>>()
        };
        assert_eq!(found(&["ev_%"]), [(1, false)]);
        // In the config's order, each once, and by name where that stands anywhere.
        assert_eq!(found(&["other", "ev_%", "ev_1"]), [(4, true), (1, true)]);
        assert_eq!(found(&["ev_2", "ev_view"]), [(2, true), (5, true)]);
        assert_eq!(found(&["%"]), [(1, false), (4, false)]);
    }
}
