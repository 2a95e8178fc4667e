//! By which numbers the tables of a generation are stored.

use tidewater_storage::Truncation;
use tidewater_sync_config::SyncConfig;

use crate::apply::applier::SyncedTable;
use crate::error::RunError;
use crate::initial_copy::state::{CopiedTable, CopyState, GoneTable, TableCopy};
use crate::source::catalog::SourceTable;

/// Most tables that a sync config may read: their list is one stored record.
const TABLES_MAX: usize = 2_500;
/// When more numbers than these have been given out, everything is numbered and copied anew.
const TABLE_NUMBERS_MAX: usize = 10_000;
/// The same when more tables are gone of whose answers readers must know: each is part of every
/// commit.
const GONE_TABLES_MAX: usize = 100;

/// The tables of a generation.
pub(crate) struct NumberedTables {
    pub(crate) tables: Vec<SyncedTable>,
    pub(crate) copy: CopyState,
    /// Tables that the generation holds, and that are not there any more.
    pub(crate) gone: Vec<GoneTable>,
    /// Whether any is gone, or new.
    pub(crate) is_changed: bool,
}

impl NumberedTables {
    /// Whether the generation can hold these tables too.
    pub(crate) fn fits(&self, truncated: &[Truncation]) -> bool {
        let is_gone = |one: &&Truncation| self.tables.iter().all(|table| table.number != one.table);
        let new = self.gone.iter().filter(|gone| gone.has_lookups).count();
        let gone = truncated.iter().filter(is_gone).count() + new;
        self.copy.tables.len() <= TABLE_NUMBERS_MAX && gone <= GONE_TABLES_MAX
    }
}

/// Numbers tables as they are in the record of a copy. `None` when there is no number left.
///
/// # Errors
/// When there are too many tables, or the config does not fit one of them.
pub(crate) fn number(
    config: &SyncConfig,
    tables: &[SourceTable],
    mut copy: CopyState,
) -> Result<Option<NumberedTables>, RunError> {
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
        shape: table.shape_hash(),
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
    Ok(Some(NumberedTables { tables: synced.collect(), copy, gone, is_changed }))
}

pub(crate) fn too_many_tables() -> RunError {
    RunError::Unexpected(format!(
        "the sync config reads more than {TABLES_MAX} tables: use patterns that find fewer"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_numbered_anew_before_the_control_record_is_large() {
        let truncated = |count: u16| {
            let one = |table| Truncation { table, op: tidewater_protocol::OpId::ZERO };
            (0..count).map(one).collect::<Vec<_>>()
        };
        let gone = GoneTable { number: 0, has_lookups: true };
        let mut numbered = NumberedTables {
            tables: Vec::new(),
            copy: CopyState::new(tidewater_storage::Lsn(0)),
            gone: vec![gone; 50],
            is_changed: true,
        };
        assert!(numbered.fits(&truncated(50)));
        assert!(!numbered.fits(&truncated(51)));
        numbered.copy.tables = vec![None; TABLE_NUMBERS_MAX + 1];
        assert!(!numbered.fits(&[]));
    }
}
