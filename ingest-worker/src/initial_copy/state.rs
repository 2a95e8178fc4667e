//! The progress of a generation's initial copy, and the numbers of its tables.

use serde::{Deserialize, Serialize};
use tidewater_storage::Lsn;

use crate::source::pg_snapshot::PgSnapshot;

/// The record of an initial copy. It is stored with each chunk and read when a run begins. After the
/// copy it still lists the generation's tables by their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
    /// The position before the catalog was read. Changes up to here may describe a table as it was
    /// before it was altered. The copy reads later, so it contains them.
    pub(crate) ignore_until: Lsn,
    /// The tables, indexed by their numbers. `None` is a gone table: its number is never used again.
    pub(crate) tables: Vec<Option<CopiedTable>>,
    /// Applied transactions that no snapshot was seen to contain yet.
    #[serde(rename = "unseen")]
    pub(crate) not_yet_visible_xids: Vec<u32>,
}

/// A table of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedTable {
    /// The id in `pg_class`.
    pub(crate) oid: u32,
    /// The hash of everything that its rows mean: see [`SourceTable::shape_hash`](crate::source::catalog::SourceTable::shape_hash).
    pub(crate) shape: String,
    /// True if its rows answer lookups.
    pub(crate) has_lookups: bool,
    pub(crate) progress: TableCopy,
}

/// The progress of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableCopy {
    /// Not begun.
    Todo,
    /// Copied up to the row with this key, inclusive.
    After(Vec<String>),
    /// Complete: copied in chunks.
    Done,
    /// Complete: a table without a key, copied in this one snapshot.
    Whole(String),
}

/// A table whose rows are to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoneTable {
    pub(crate) number: u16,
    pub(crate) has_lookups: bool,
}

impl CopyState {
    pub(crate) fn new(ignore_until: Lsn) -> Self {
        Self { ignore_until, tables: Vec::new(), not_yet_visible_xids: Vec::new() }
    }

    /// Gives each table a number. Tables whose shape is known keep their number and progress; others get
    /// the next number. Known tables that are not among them are gone. Returns `None` when no number is
    /// left.
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

    /// Invalidates the stored shape of a table, so that it is copied again under a new number.
    pub(crate) fn forget(&mut self, oid: Option<u32>) {
        for table in self.tables.iter_mut().flatten().filter(|table| Some(table.oid) == oid) {
            table.shape.clear();
        }
    }

    /// Returns whether the generation has a table, in whatever shape.
    pub(crate) fn holds(&self, oid: u32) -> bool {
        self.tables.iter().flatten().any(|table| table.oid == oid)
    }

    /// Returns the number and the progress of the next table to copy a chunk of.
    pub(crate) fn next(&self) -> Option<(u16, &TableCopy)> {
        (0_u16..).zip(&self.tables).find_map(|(number, table)| match &table.as_ref()?.progress {
            progress @ (TableCopy::Todo | TableCopy::After(_)) => Some((number, progress)),
            TableCopy::Done | TableCopy::Whole(_) => None,
        })
    }

    /// Notes the progress of a table.
    pub(crate) fn advance(&mut self, number: u16, progress: TableCopy) {
        if let Some(Some(table)) = self.tables.get_mut(usize::from(number)) {
            table.progress = progress;
        }
    }

    /// Returns whether the copy contains a transaction's changes of a table without a key, or will
    /// contain them. Such a table is read in one snapshot, since equal rows are counted.
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
