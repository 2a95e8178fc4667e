//! How far the first copy of a generation has got.

use serde::{Deserialize, Serialize};
use tidewater_storage::Lsn;

use crate::visibility::PgSnapshot;

/// The record of a copy: written with each chunk, read when a run takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopyState {
    /// Changes up to here may describe a table as it was before it was altered; the copy, which
    /// reads later, contains them.
    pub(crate) ignore_until: Lsn,
    /// By the tables' order in the sync config.
    pub(crate) tables: Vec<TableCopy>,
    /// Applied transactions that no snapshot was seen to contain yet.
    pub(crate) unseen: Vec<u32>,
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

impl CopyState {
    pub(crate) fn new(ignore_until: Lsn, tables: usize) -> Self {
        Self { ignore_until, tables: vec![TableCopy::Todo; tables], unseen: Vec::new() }
    }

    /// The next table to copy a chunk of.
    pub(crate) fn next(&self) -> Option<usize> {
        self.tables.iter().position(|table| match table {
            TableCopy::Todo | TableCopy::After(_) => true,
            TableCopy::Done | TableCopy::Whole(_) => false,
        })
    }

    /// Whether a change of a table without a key is in the copy, or will be: such a table is read
    /// in one snapshot, and equal rows are counted.
    pub(crate) fn contains_keyless_change(&self, table: usize, xid: u32) -> bool {
        match &self.tables[table] {
            TableCopy::Todo | TableCopy::After(_) => true,
            TableCopy::Whole(snapshot) => PgSnapshot::parse(snapshot).is_some_and(|s| s.sees(xid)),
            TableCopy::Done => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyless_table_counts_each_change_once() {
        let mut state = CopyState::new(Lsn(1), 1);
        assert!(state.contains_keyless_change(0, 5), "the copy is still to come");
        state.tables[0] = TableCopy::Whole("10:12:10".into());
        assert!(state.contains_keyless_change(0, 11));
        assert!(!state.contains_keyless_change(0, 10), "it was under way during the copy");
        assert!(!state.contains_keyless_change(0, 12));
    }

    #[test]
    fn tables_are_copied_one_after_another() {
        let mut state = CopyState::new(Lsn(1), 3);
        state.tables[0] = TableCopy::Done;
        state.tables[1] = TableCopy::After(vec!["7".into()]);
        assert_eq!(state.next(), Some(1));
        state.tables = vec![TableCopy::Done, TableCopy::Whole("1:1:".into())];
        assert_eq!(state.next(), None);
    }
}
