//! How far the first copy of a generation has got.

use serde::{Deserialize, Serialize};
use tidewater_storage::Lsn;

use crate::source::pg_snapshot::PgSnapshot;

/// The record of a copy: written with each chunk, read when a run begins. When all is copied it says
/// which tables the generation holds, and by which numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopyState {
    /// Changes up to here may describe a table as it was before it was altered; the copy, which
    /// reads later, contains them.
    pub(crate) ignore_until: Lsn,
    /// By the tables' numbers in the generation; what is not there any more leaves its number unused.
    pub(crate) tables: Vec<Option<CopiedTable>>,
    /// Applied transactions that no snapshot was seen to contain yet.
    pub(crate) unseen: Vec<u32>,
}

/// A table of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopiedTable {
    /// Its id in `pg_class`.
    pub(crate) oid: u32,
    /// What its rows mean: see [`SourceTable::shape_hash`](crate::source::catalog::SourceTable::shape_hash).
    pub(crate) shape: String,
    /// Whether its rows answer to lookups.
    pub(crate) has_lookups: bool,
    pub(crate) progress: TableCopy,
}

/// How far a table is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TableCopy {
    /// Not begun.
    Todo,
    /// Up to and with the row of this key.
    After(Vec<String>),
    /// Done, in chunks.
    Done,
    /// Done, a table without a key, in this one snapshot.
    Whole(String),
}

/// A table whose rows are to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoneTable {
    pub(crate) number: u16,
    pub(crate) has_lookups: bool,
}

impl CopyState {
    pub(crate) fn new(ignore_until: Lsn) -> Self {
        Self { ignore_until, tables: Vec::new(), unseen: Vec::new() }
    }

    /// Gives each table a number: those that are known by their shapes keep theirs and their progress,
    /// others are new. What is known and not among them is gone. `None` when there is no number left.
    pub(crate) fn number(
        &mut self,
        tables: impl IntoIterator<Item = CopiedTable>,
    ) -> Option<(Vec<u16>, Vec<GoneTable>)> {
        let mut numbers = Vec::new();
        for table in tables {
            let is_it = |known: &Option<CopiedTable>| {
                known.as_ref().is_some_and(|known| known.shape == table.shape)
            };
            let place = self.tables.iter().position(is_it).unwrap_or_else(|| {
                self.tables.push(Some(table));
                self.tables.len() - 1
            });
            numbers.push(u16::try_from(place).ok()?);
        }
        let mut gone = Vec::new();
        for (number, table) in (0_u16..).zip(&mut self.tables) {
            if !numbers.contains(&number)
                && let Some(CopiedTable { has_lookups, .. }) = table.take()
            {
                gone.push(GoneTable { number, has_lookups });
            }
        }
        Some((numbers, gone))
    }

    /// A table is not what it is held for: it counts as another one.
    pub(crate) fn forget(&mut self, oid: Option<u32>) {
        for table in self.tables.iter_mut().flatten().filter(|table| Some(table.oid) == oid) {
            table.shape.clear();
        }
    }

    /// Whether a table is there, be it in another shape.
    pub(crate) fn holds(&self, oid: u32) -> bool {
        self.tables.iter().flatten().any(|table| table.oid == oid)
    }

    /// The number of the next table to copy a chunk of, and how far it is.
    pub(crate) fn next(&self) -> Option<(u16, &TableCopy)> {
        (0_u16..).zip(&self.tables).find_map(|(number, table)| match &table.as_ref()?.progress {
            progress @ (TableCopy::Todo | TableCopy::After(_)) => Some((number, progress)),
            TableCopy::Done | TableCopy::Whole(_) => None,
        })
    }

    /// Notes how far a table is.
    pub(crate) fn advance(&mut self, number: u16, progress: TableCopy) {
        if let Some(Some(table)) = self.tables.get_mut(usize::from(number)) {
            table.progress = progress;
        }
    }

    /// Whether a change of a table without a key is in the copy, or will be: such a table is read
    /// in one snapshot, and equal rows are counted.
    pub(crate) fn contains_keyless_change(&self, number: u16, xid: u32) -> bool {
        let Some(Some(table)) = self.tables.get(usize::from(number)) else { return false };
        match &table.progress {
            TableCopy::Todo | TableCopy::After(_) => true,
            TableCopy::Whole(snapshot) => PgSnapshot::parse(snapshot).is_some_and(|s| s.sees(xid)),
            TableCopy::Done => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(state: &mut CopyState, shapes: &[&str]) -> (Vec<u16>, Vec<u16>) {
        let table = |shape: &&str| CopiedTable {
            oid: 1,
            shape: (*shape).to_owned(),
            has_lookups: shape.len() > 1,
            progress: TableCopy::Todo,
        };
        let (numbers, gone) = state.number(shapes.iter().map(table)).unwrap();
        (numbers, gone.iter().map(|gone| gone.number).collect())
    }

    #[test]
    fn a_keyless_table_counts_each_change_once() {
        let mut state = CopyState::new(Lsn(1));
        assert_eq!(numbered(&mut state, &["a"]), (vec![0], vec![]));
        assert!(state.contains_keyless_change(0, 5), "the copy is still to come");
        state.advance(0, TableCopy::Whole("10:12:10".into()));
        assert!(state.contains_keyless_change(0, 11));
        assert!(!state.contains_keyless_change(0, 10), "it was under way during the copy");
        assert!(!state.contains_keyless_change(0, 12));
    }

    #[test]
    fn tables_are_copied_one_after_another() {
        let mut state = CopyState::new(Lsn(1));
        assert_eq!(numbered(&mut state, &["a", "b", "c"]), (vec![0, 1, 2], vec![]));
        state.advance(0, TableCopy::Done);
        state.advance(1, TableCopy::After(vec!["7".into()]));
        assert_eq!(state.next(), Some((1, &TableCopy::After(vec!["7".into()]))));
        state.advance(1, TableCopy::Whole("1:1:".into()));
        assert_eq!(state.next(), Some((2, &TableCopy::Todo)));
        state.advance(2, TableCopy::Done);
        assert_eq!(state.next(), None);
    }

    #[test]
    fn tables_that_come_and_go_leave_the_others_their_numbers() {
        let mut state = CopyState::new(Lsn(1));
        numbered(&mut state, &["a", "bb", "c"]);
        for number in 0..3 {
            state.advance(number, TableCopy::Done);
        }
        // In another order, without one of them, and with a new one.
        assert_eq!(numbered(&mut state, &["d", "c", "a"]), (vec![3, 2, 0], vec![1]));
        assert_eq!(state.next(), Some((3, &TableCopy::Todo)));
        // It is back: as another one, since the rows of its former number count as gone.
        assert_eq!(numbered(&mut state, &["a", "bb", "d"]), (vec![0, 4, 3], vec![2]));
        let gone = state.number(Vec::new()).unwrap().1;
        assert_eq!(gone[1], GoneTable { number: 3, has_lookups: false });
        assert_eq!(gone[2], GoneTable { number: 4, has_lookups: true });
    }
}
