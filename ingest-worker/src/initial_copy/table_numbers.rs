//! The numbers by which the tables of a generation are stored.

use tidewater_storage::{Generation, Lsn, Truncation};
use tidewater_sync_config::{Diagnostic, SyncConfig, UnionEvaluator};

use crate::apply::applier::SyncedTable;
use crate::initial_copy::state::{
    CopiedTable, CopyReaders, CopyState, GoneTable, NumberedCopies, TableCopy, TableReaders,
};
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

/// PostgreSQL gives ids from here on (`FirstNormalObjectId`) to types that users define.
const FIRST_USER_TYPE: u32 = 16_384;

/// A reason why tables cannot be numbered.
#[derive(Debug, thiserror::Error)]
pub enum NumberingError {
    /// The sync config finds more tables than can be numbered.
    #[error("the sync config reads more than {TABLES_MAX} tables: use patterns that find fewer")]
    TooManyTables,
    /// The sync config has more definitions or lookups than the stored form has numbers for.
    #[error("the sync config has more than 65,535 bucket definitions or lookups")]
    TooManyDefinitions,
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
    /// True if any table is gone, or a copy begins.
    pub(crate) is_changed: bool,
    /// True if readers must wait for it, since what they have of a table is not right.
    pub(crate) is_held: bool,
    /// Known tables that are copied again, each with the reason.
    pub(crate) changed: Vec<String>,
    /// Known tables that are copied for further definitions or lookups only.
    pub(crate) extended: Vec<String>,
}

/// A sync config that a run maintains.
#[derive(Clone, Debug)]
pub(crate) struct MaintainedConfig {
    pub(crate) config: SyncConfig,
    pub(crate) generation: Generation,
    /// True if readers have it, or may have it back at any time.
    pub(crate) is_served: bool,
}

impl MaintainedConfig {
    /// Returns all of its definitions and lookups.
    pub(crate) fn readers(&self) -> TableReaders {
        TableReaders::new(
            self.generation.definition_numbers.numbers().iter().copied(),
            self.generation.lookup_numbers.numbers().iter().copied(),
        )
    }
}

/// The sync configs that a run maintains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaintainedConfigs<'a> {
    /// Those that are served first: a definition that several have is evaluated by the first one.
    pub(crate) configs: &'a [MaintainedConfig],
    /// True if readers wait for every copy, whatever it is for.
    pub(crate) are_readers_waiting: bool,
    /// True if rows of an earlier copy may be ahead of the stream.
    pub(crate) is_ahead: bool,
}

impl MaintainedConfigs<'_> {
    fn readers(&self) -> CopyReaders {
        let mut all = TableReaders::default();
        let mut served = TableReaders::default();
        for config in self.configs {
            all.extend(&config.readers());
            if config.is_served {
                served.extend(&config.readers());
            }
        }
        let served = (!self.are_readers_waiting).then_some(served);
        CopyReaders { all, served, is_ahead: self.is_ahead }
    }

    /// Returns the evaluator of a table's rows.
    fn bind(&self, table: &SourceTable) -> Result<UnionEvaluator, NumberingError> {
        let mut union = UnionEvaluator::default();
        for MaintainedConfig { config, generation, is_served } in self.configs {
            let evaluator = config.bind(&table.schema).map_err(NumberingError::SyncConfig)?;
            if let Some(evaluator) = evaluator {
                let definitions = generation.definition_numbers.numbers();
                let lookups = generation.lookup_numbers.numbers();
                union.add(evaluator, definitions, lookups, *is_served);
            }
        }
        if union.is_empty() {
            return Err(NumberingError::NotRead(table.display_name()));
        }
        Ok(union)
    }
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
    maintained: MaintainedConfigs<'_>,
    tables: &[SourceTable],
    mut copy: CopyState,
    catalog_read_at: Lsn,
) -> Result<Option<NumberedTables>, NumberingError> {
    if tables.len() > TABLES_MAX {
        return Err(NumberingError::TooManyTables);
    }

    let mut evaluators = Vec::with_capacity(tables.len());
    for table in tables {
        evaluators.push(maintained.bind(table)?);
    }

    let known = copy.tables.len();
    let copied = tables.iter().zip(&evaluators).map(|(table, evaluator)| CopiedTable {
        oid: table.oid,
        shape: table.shape(),
        has_lookups: evaluator.has_lookups(),
        readers: TableReaders::new(
            evaluator.definitions().filter_map(|number| u16::try_from(number).ok()),
            evaluator.lookups().filter_map(|number| u16::try_from(number).ok()),
        ),
        settled: None,
        progress: TableCopy::Todo,
        copied_after: catalog_read_at,
        has_former_rows: false,
        can_compare: can_compare(table),
    });
    let Some(numbered) = copy.number(copied, &maintained.readers()) else { return Ok(None) };
    let NumberedCopies { numbers, gone, changed, extended, is_held } = numbered;
    let is_changed = copy.tables.len() > known
        || !gone.is_empty()
        || !changed.is_empty()
        || !extended.is_empty();
    let changed = changed
        .into_iter()
        .map(|(index, reason)| format!("{}: {reason}", tables[index].display_name()))
        .collect();
    let extended = extended.into_iter().map(|index| tables[index].display_name()).collect();

    let mut synced = Vec::with_capacity(tables.len());
    for ((number, table), evaluator) in numbers.into_iter().zip(tables).zip(evaluators) {
        synced.push(SyncedTable {
            number,
            table: table.clone(),
            evaluator,
            copied_after: copy.copied_after(number),
            has_former_rows: copy.has_former_rows(number),
            is_extended: copy.is_extended(number),
        });
    }
    Ok(Some(NumberedTables { tables: synced, copy, gone, is_changed, is_held, changed, extended }))
}

/// Returns whether stored rows of a table can be compared with the table: whether the source can be
/// asked which of their keys still exist. Equal rows without a key are counted. A key of a type that
/// users define may have values that the type no longer has.
fn can_compare(table: &SourceTable) -> bool {
    let is_builtin = |&column: &usize| table.schema.columns[column].type_oid < FIRST_USER_TYPE;
    !table.key.is_empty() && table.key.iter().all(is_builtin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{NOTES, TODOS, compiled, generation, tables};

    const FIRST: Lsn = Lsn(10);
    const SECOND: Lsn = Lsn(20);

    /// Numbers tables after those of the test's config, which are completely copied.
    fn number_next(change: impl FnOnce(&mut Vec<SourceTable>)) -> NumberedTables {
        number_after(|_| {}, change)
    }

    /// Does what [`number_next`] does, after a change of the record.
    fn number_after(
        forget: impl FnOnce(&mut CopyState),
        change: impl FnOnce(&mut Vec<SourceTable>),
    ) -> NumberedTables {
        let configs =
            [MaintainedConfig { config: compiled(), generation: generation(), is_served: true }];
        let maintained =
            MaintainedConfigs { configs: &configs, are_readers_waiting: false, is_ahead: false };
        let first = number(maintained, &tables(), CopyState::default(), FIRST).unwrap().unwrap();
        let mut copy = first.copy;
        for table in copy.tables.iter_mut().flatten() {
            table.progress = TableCopy::Done;
        }
        forget(&mut copy);

        let mut found = tables();
        change(&mut found);
        number(maintained, &found, copy, SECOND).unwrap().unwrap()
    }

    /// The numbers of the tables, each with the position after which it is copied.
    fn numbers(numbered: &NumberedTables) -> Vec<(u16, Lsn)> {
        numbered.tables.iter().map(|table| (table.number, table.copied_after)).collect()
    }

    #[test]
    fn tables_as_they_were_keep_their_numbers_in_any_order() {
        let same = number_next(|_| {});
        assert_eq!(numbers(&same), [(0, FIRST), (1, FIRST)]);
        let reversed = number_next(|tables| tables.reverse());
        assert_eq!(numbers(&reversed), [(1, FIRST), (0, FIRST)]);
        for numbered in [same, reversed] {
            assert!(!numbered.is_changed && numbered.gone.is_empty());
            assert!(numbered.changed.is_empty() && numbered.copy.next().is_none());
        }
    }

    #[test]
    fn a_changed_table_is_copied_after_this_read_of_the_catalog_and_is_named() {
        // Equal rows without a key cannot be compared.
        let altered = number_next(|tables| tables[NOTES].facts.storage = "rewritten".into());
        assert_eq!(numbers(&altered), [(0, FIRST), (2, SECOND)]);
        assert!(altered.is_changed);
        assert_eq!(altered.gone, [GoneTable { number: 1, has_lookups: false }]);
        assert_eq!(altered.changed, ["public.notes: it was rewritten, truncated or moved"]);

        let recreated = number_next(|tables| tables[TODOS].oid = 9);
        assert_eq!(numbers(&recreated), [(0, SECOND), (1, FIRST)]);
        assert!(recreated.is_changed && recreated.tables[TODOS].has_former_rows);
        assert!(recreated.gone.is_empty());
        assert_eq!(recreated.changed, ["public.todos: it was dropped and created again"]);
    }

    #[test]
    fn a_table_whose_rows_are_forgotten_gets_a_new_number_and_they_are_gone() {
        let forgotten = number_after(|copy| copy.forget_rows(tables()[TODOS].oid), |_| {});
        assert_eq!(numbers(&forgotten), [(2, SECOND), (1, FIRST)]);
        assert_eq!(forgotten.gone, [GoneTable { number: 0, has_lookups: false }]);
        assert!(!forgotten.tables[TODOS].has_former_rows && forgotten.is_changed);
    }

    #[test]
    fn rows_with_a_key_of_a_type_that_users_define_are_not_compared() {
        let is_compared = |type_oid| {
            let mut table = tables().remove(TODOS);
            table.schema.columns[0].type_oid = type_oid;
            can_compare(&table)
        };
        assert!(is_compared(25) && is_compared(16_383) && !is_compared(16_384));
    }

    #[test]
    fn a_dropped_table_is_gone_and_not_copied_again() {
        let dropped = number_next(|tables| drop(tables.remove(TODOS)));
        assert_eq!(numbers(&dropped), [(1, FIRST)]);
        assert_eq!(dropped.gone, [GoneTable { number: 0, has_lookups: false }]);
        assert!(dropped.is_changed && dropped.changed.is_empty());
        assert_eq!(dropped.copy.next(), None);
    }

    #[test]
    fn truncations_of_tables_that_exist_take_no_room() {
        let mut numbered = number_next(|_| {});
        let truncation = |table| Truncation { table, op: tidewater_protocol::OpId::ZERO };
        let mut truncated: Vec<_> = (10..).take(GONE_TABLES_MAX).map(truncation).collect();
        truncated.extend([truncation(0), truncation(1)]);
        assert!(numbered.fits(&truncated));

        // Nobody looks up rows of a table without lookups, so readers need not know of it.
        numbered.gone.push(GoneTable { number: 5, has_lookups: false });
        assert!(numbered.fits(&truncated));
        numbered.gone.push(GoneTable { number: 6, has_lookups: true });
        assert!(!numbered.fits(&truncated));
    }

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
            is_held: true,
            changed: Vec::new(),
            extended: Vec::new(),
        };
        assert!(numbered.fits(&truncated(50)));
        assert!(!numbered.fits(&truncated(51)));
        numbered.copy.tables = vec![None; TABLE_NUMBERS_MAX + 1];
        assert!(!numbered.fits(&[]));
    }
}
