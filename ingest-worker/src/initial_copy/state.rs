//! The progress of a generation's initial copy, and the numbers of its tables.

use serde::{Deserialize, Serialize};
use tidewater_storage::Lsn;

use crate::source::pg_snapshot::PgSnapshot;
use crate::source::shape::TableShape;

/// The record of an initial copy. It is stored with each chunk and read when a run begins. After the
/// copy it still lists the generation's tables by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
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
    /// The table's shape before its copy began. A table with another shape is copied again, so
    /// whatever changes the shape during the copy is noticed afterwards.
    pub(crate) shape: TableShape,
    /// True if its rows answer lookups.
    pub(crate) has_lookups: bool,
    pub(crate) progress: TableCopy,
    /// A position before the catalog was read for this copy. Changes that were committed up to here
    /// are left to the copy, which reads later: they may be of a former shape of the table.
    #[serde(default)]
    pub(crate) copied_after: Lsn,
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

/// Tables with their numbers, and what became of those that were known.
#[derive(Debug, Default)]
pub(crate) struct NumberedCopies {
    /// The numbers, in the order of the tables.
    pub(crate) numbers: Vec<u16>,
    /// Known tables that are not among them.
    pub(crate) gone: Vec<GoneTable>,
    /// Known tables that are copied again: their indexes, and the reasons.
    pub(crate) changed: Vec<(usize, String)>,
}

/// A table whose rows are to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoneTable {
    pub(crate) number: u16,
    pub(crate) has_lookups: bool,
}

impl CopyState {
    /// Gives each table a number. Tables whose shape is known keep their number and progress; others get
    /// the next number. Known tables that are not among them are gone. Returns `None` when no number is
    /// left.
    pub(crate) fn number(
        &mut self,
        tables: impl IntoIterator<Item = CopiedTable>,
    ) -> Option<NumberedCopies> {
        let known = self.tables.clone();
        let mut numbered = NumberedCopies::default();
        for (index, table) in tables.into_iter().enumerate() {
            let is_it = |known: &Option<CopiedTable>| {
                known.as_ref().is_some_and(|known| known.shape == table.shape)
            };
            let place = self.tables.iter().position(is_it).unwrap_or_else(|| {
                let reason = known.iter().flatten().find(|known| known.is_former(&table));
                numbered
                    .changed
                    .extend(reason.map(|former| (index, table.shape.differences(&former.shape))));
                self.tables.push(Some(table));
                self.tables.len() - 1
            });
            numbered.numbers.push(u16::try_from(place).ok()?);
        }

        for (number, table) in (0_u16..).zip(&mut self.tables) {
            if !numbered.numbers.contains(&number)
                && let Some(CopiedTable { has_lookups, .. }) = table.take()
            {
                numbered.gone.push(GoneTable { number, has_lookups });
            }
        }

        Some(numbered)
    }

    /// Invalidates the stored shape of a table, so that it is copied again under a new number.
    pub(crate) fn forget(&mut self, oid: Option<u32>) {
        for table in self.tables.iter_mut().flatten().filter(|table| Some(table.oid) == oid) {
            table.shape.forget();
        }
    }

    /// Returns the position up to which a table's changes are left to its copy.
    pub(crate) fn copied_after(&self, number: u16) -> Lsn {
        let table = self.tables.get(usize::from(number)).and_then(Option::as_ref);
        table.map(|table| table.copied_after).unwrap_or_default()
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

impl CopiedTable {
    /// Returns whether this is a table that was found again in another shape: under its name, or as
    /// the same relation.
    fn is_former(&self, found: &Self) -> bool {
        self.oid == found.oid || found.shape.has_name_of(&self.shape)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn copied(shape: &str) -> CopiedTable {
        CopiedTable {
            oid: 1,
            shape: TableShape::from_text(shape),
            has_lookups: shape.len() > 1,
            progress: TableCopy::Todo,
            copied_after: Lsn(0),
        }
    }

    fn numbered(state: &mut CopyState, shapes: &[&str]) -> (Vec<u16>, Vec<u16>) {
        let numbered = state.number(shapes.iter().map(|shape| copied(shape))).unwrap();
        (numbered.numbers, numbered.gone.iter().map(|gone| gone.number).collect())
    }

    #[test]
    fn a_keyless_table_counts_each_change_once() {
        let mut state = CopyState::default();
        assert_eq!(numbered(&mut state, &["a"]), (vec![0], vec![]));
        assert!(state.contains_keyless_change(0, 5), "the copy is still to come");
        state.advance(0, TableCopy::Whole("10:12:10".into()));
        assert!(state.contains_keyless_change(0, 11));
        assert!(!state.contains_keyless_change(0, 10), "it was under way during the copy");
        assert!(!state.contains_keyless_change(0, 12));
    }

    #[test]
    fn tables_are_copied_one_after_another() {
        let mut state = CopyState::default();
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
        let mut state = CopyState::default();
        numbered(&mut state, &["a", "bb", "c"]);
        for number in 0..3 {
            state.advance(number, TableCopy::Done);
        }
        // In another order, without one of them, and with a new one.
        assert_eq!(numbered(&mut state, &["d", "c", "a"]), (vec![3, 2, 0], vec![1]));
        assert_eq!(state.next(), Some((3, &TableCopy::Todo)));
        // It is back: as another one, since the rows of its former number count as gone.
        assert_eq!(numbered(&mut state, &["a", "bb", "d"]), (vec![0, 4, 3], vec![2]));
        let gone = state.number(Vec::new()).unwrap().gone;
        assert_eq!(gone[1], GoneTable { number: 3, has_lookups: false });
        assert_eq!(gone[2], GoneTable { number: 4, has_lookups: true });
    }

    #[test]
    fn a_table_for_which_the_stored_form_has_no_number_gets_none() {
        let mut state = CopyState::default();
        numbered(&mut state, &["a"]);
        state.tables.resize(usize::from(u16::MAX) + 1, None);
        assert!(state.number([copied("a"), copied("b")]).is_none());
    }

    #[test]
    fn a_table_is_held_until_it_is_gone_in_whatever_shape() {
        let mut state = CopyState::default();
        numbered(&mut state, &["a"]);
        state.forget(Some(1));
        assert!(state.holds(1) && !state.holds(2));
        assert_eq!(numbered(&mut state, &["a"]), (vec![1], vec![0]), "it is copied again");
        assert!(state.holds(1));
        numbered(&mut state, &[]);
        assert!(!state.holds(1));
    }

    #[test]
    fn nothing_is_known_of_a_number_without_a_table() {
        let mut state = CopyState::default();
        numbered(&mut state, &["a"]);
        numbered(&mut state, &[]);
        for number in [0, 1, u16::MAX] {
            state.advance(number, TableCopy::Todo);
            assert!(!state.contains_keyless_change(number, 5), "{number}");
            assert_eq!(state.copied_after(number), Lsn(0), "{number}");
        }
        assert_eq!(state.next(), None, "a gone table is not copied");
    }

    /// Runs of earlier versions have stored this. Without it all tables are copied again.
    #[test]
    fn the_record_of_an_earlier_version_is_read() {
        let stored = r#"{
            "tables": [
                {"oid": 1, "shape": "a", "has_lookups": false, "progress": {"after": ["7", "k"]}},
                null,
                {"oid": 2, "shape": "b", "has_lookups": true, "progress": "done"},
                {"oid": 3, "shape": "c", "has_lookups": false, "progress": {"whole": "5:5:"}},
                {"oid": 4, "shape": "d", "has_lookups": false, "progress": "todo",
                 "copied_after": "0/2A"}
            ],
            "unseen": [7, 9]
        }"#;
        let state: CopyState = serde_json::from_str(stored).unwrap();
        assert_eq!(state.next(), Some((0, &TableCopy::After(vec!["7".into(), "k".into()]))));
        assert_eq!(state.not_yet_visible_xids, [7, 9]);
        assert!(state.contains_keyless_change(3, 4) && !state.contains_keyless_change(3, 5));
        assert!(state.tables[1].is_none() && !state.contains_keyless_change(2, 4));
        assert_eq!((state.copied_after(0), state.copied_after(4)), (Lsn(0), Lsn(42)));
    }

    /// Tables as they are found by runs, each by its id and the version of its shape.
    fn runs() -> impl Strategy<Value = Vec<Vec<(u32, u32)>>> {
        let tables = proptest::sample::subsequence((1..6).collect::<Vec<u32>>(), 0..=5);
        let versions = proptest::collection::vec(0_u32..2, 5);
        let run = (tables.prop_shuffle(), versions)
            .prop_map(|(tables, versions)| tables.into_iter().zip(versions).collect::<Vec<_>>());
        proptest::collection::vec(run, 1..6)
    }

    proptest! {
        #[test]
        fn a_number_means_one_table_in_one_shape_for_ever(runs in runs()) {
            let mut state = CopyState::default();
            let mut meanings: HashMap<u16, (u32, u32)> = HashMap::new();
            let mut current: HashMap<(u32, u32), u16> = HashMap::new();
            for found in runs {
                let tables = found.iter().map(|(oid, version)| CopiedTable {
                    oid: *oid,
                    ..copied(&format!("{oid} {version}"))
                });
                let NumberedCopies { numbers, gone, .. } = state.number(tables).unwrap();

                let mut next = HashMap::new();
                for (number, table) in numbers.into_iter().zip(found) {
                    let progress = &state.tables[usize::from(number)].as_ref().unwrap().progress;
                    if let Some(known) = current.remove(&table) {
                        prop_assert_eq!((known, progress), (number, &TableCopy::Done));
                    } else {
                        prop_assert_eq!(meanings.insert(number, table), None);
                        prop_assert_eq!(progress, &TableCopy::Todo);
                    }
                    prop_assert_eq!(meanings[&number], table);
                    next.insert(table, number);
                }

                // Those that were not found again are gone, each once.
                let mut lost: Vec<_> = current.into_values().collect();
                lost.sort_unstable();
                prop_assert_eq!(gone.iter().map(|gone| gone.number).collect::<Vec<_>>(), lost);
                for number in next.values() {
                    state.advance(*number, TableCopy::Done);
                }
                current = next;
            }
        }
    }
}
