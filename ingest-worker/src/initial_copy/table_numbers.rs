//! The numbers by which the tables of a generation are stored.

use tidewater_storage::{Lsn, Truncation};
use tidewater_sync_config::{Diagnostic, SyncConfig};

use crate::apply::applier::SyncedTable;
use crate::initial_copy::state::{CopiedTable, CopyState, GoneTable, NumberedCopies, TableCopy};
use crate::source::catalog::SourceTable;

/// Tables that a sync config may read. Their list is one stored record, which is written with each
/// commit of a copy.
const TABLES_MAX: usize = 2_500;
/// Numbers that a generation gives out. Beyond them, all tables are numbered and copied again, so
/// that the list keeps its size although tables come and go.
const TABLE_NUMBERS_MAX: usize = 10_000;
/// Gone tables of which readers must know, since their rows answer lookups. Each is part of every
/// commit, so beyond this all tables are numbered and copied again.
const GONE_TABLES_MAX: usize = 100;

/// A reason why tables cannot be numbered.
#[derive(Debug, thiserror::Error)]
pub enum NumberingError {
    /// The sync config finds more tables than can be numbered.
    #[error("the sync config reads more than {TABLES_MAX} tables: use patterns that find fewer")]
    TooManyTables,
    /// The sync config does not fit a table.
    #[error("the sync config does not fit a table")]
    SyncConfig(Vec<Diagnostic>),
    /// The sync config does not read a table.
    #[error("the sync config does not read table {0}")]
    NotRead(String),
}

/// The tables of a generation, with their numbers.
#[derive(Debug)]
pub(crate) struct NumberedTables {
    pub(crate) tables: Vec<SyncedTable>,
    pub(crate) copy: CopyState,
    /// Tables that the generation had and that no longer exist.
    pub(crate) gone: Vec<GoneTable>,
    /// True if any table is gone or new.
    pub(crate) is_changed: bool,
    /// Known tables that are copied again, each with the reason.
    pub(crate) changed: Vec<String>,
}

impl NumberedTables {
    /// Returns whether the generation has room for these tables.
    pub(crate) fn fits(&self, truncated: &[Truncation]) -> bool {
        let is_gone = |one: &&Truncation| self.tables.iter().all(|table| table.number != one.table);
        let newly_gone = self.gone.iter().filter(|gone| gone.has_lookups).count();
        let gone = truncated.iter().filter(is_gone).count() + newly_gone;
        self.copy.tables.len() <= TABLE_NUMBERS_MAX && gone <= GONE_TABLES_MAX
    }
}

/// Numbers tables as in the record of a copy, and those that it does not have after them. These are
/// copied after the position `catalog_read_at`. Returns `None` when no number is left.
pub(crate) fn number(
    config: &SyncConfig,
    tables: &[SourceTable],
    mut copy: CopyState,
    catalog_read_at: Lsn,
) -> Result<Option<NumberedTables>, NumberingError> {
    if tables.len() > TABLES_MAX {
        return Err(NumberingError::TooManyTables);
    }

    let mut evaluators = Vec::with_capacity(tables.len());
    for table in tables {
        let evaluator = config.bind(&table.schema).map_err(NumberingError::SyncConfig)?;
        let not_read = || NumberingError::NotRead(table.display_name());
        evaluators.push(evaluator.ok_or_else(not_read)?);
    }

    let known = copy.tables.len();
    let copied = tables.iter().zip(&evaluators).map(|(table, evaluator)| CopiedTable {
        oid: table.oid,
        shape: table.shape(),
        has_lookups: evaluator.has_lookups(),
        progress: TableCopy::Todo,
        copied_after: catalog_read_at,
    });
    let Some(NumberedCopies { numbers, gone, changed }) = copy.number(copied) else {
        return Ok(None);
    };
    let is_changed = copy.tables.len() > known || !gone.is_empty();
    let changed = changed
        .into_iter()
        .map(|(index, reason)| format!("{}: {reason}", tables[index].display_name()))
        .collect();

    let mut synced = Vec::with_capacity(tables.len());
    for ((number, table), evaluator) in numbers.into_iter().zip(tables).zip(evaluators) {
        let copied_after = copy.copied_after(number);
        synced.push(SyncedTable { number, table: table.clone(), evaluator, copied_after });
    }
    Ok(Some(NumberedTables { tables: synced, copy, gone, is_changed, changed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_has_room_for_a_bounded_number_of_gone_tables() {
        let truncated = |count: u16| {
            let one = |table| Truncation { table, op: tidewater_protocol::OpId::ZERO };
            (0..count).map(one).collect::<Vec<_>>()
        };
        let gone = GoneTable { number: 0, has_lookups: true };
        let mut numbered = NumberedTables {
            tables: Vec::new(),
            copy: CopyState::default(),
            gone: vec![gone; 50],
            is_changed: true,
            changed: Vec::new(),
        };
        assert!(numbered.fits(&truncated(50)));
        assert!(!numbered.fits(&truncated(51)));
        numbered.copy.tables = vec![None; TABLE_NUMBERS_MAX + 1];
        assert!(!numbered.fits(&[]));
    }
}
