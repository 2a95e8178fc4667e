//! The progress of a generation's initial copy, and the numbers of its tables.

use std::collections::BTreeSet;

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
    /// The definitions and lookups that its rows are copied for.
    #[serde(default, skip_serializing_if = "TableReaders::is_empty")]
    pub(crate) readers: TableReaders,
    pub(crate) progress: TableCopy,
    /// A position before the catalog was read for this copy. Changes that were committed up to here
    /// are left to the copy, which reads later: they may be of a former shape of the table.
    #[serde(default)]
    pub(crate) copied_after: Lsn,
    /// True if rows of an earlier copy are stored under the table's number. Then each row is compared
    /// with its record, and at the end stored rows that no longer exist are removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_former_rows: bool,
    /// True if the source can be asked which stored rows still exist.
    #[serde(skip)]
    pub(crate) can_compare: bool,
}

/// Definitions and lookups, by their numbers in source rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableReaders {
    definitions: BTreeSet<u16>,
    lookups: BTreeSet<u16>,
}

/// The progress of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableCopy {
    /// Not begun.
    Todo,
    /// Copied up to the row with this key, inclusive.
    After(Vec<String>),
    /// All rows are copied. Stored rows up to this place in the store are compared with the source,
    /// and removed if it no longer has them. Without a place, none is compared.
    Removing(Option<String>),
    /// Complete: copied in chunks.
    Done,
    /// Complete: a table without a key, copied in this one snapshot.
    Whole(String),
}

/// The rows of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkRange {
    /// Rows of the source after this key; without one, the first. They are applied.
    After(Option<Vec<String>>),
    /// Stored rows from this place in the store on; without one, the first. Those that the source
    /// no longer has are removed.
    Stored(Option<String>),
}

/// The place up to which a chunk has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEnd {
    /// The key of the last row; `None` if there was no row.
    Key(Option<Vec<String>>),
    /// The place in the store where the next stored rows begin; `None` after the last one.
    Place(Option<String>),
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

impl TableReaders {
    pub(crate) fn new(
        definitions: impl IntoIterator<Item = u16>,
        lookups: impl IntoIterator<Item = u16>,
    ) -> Self {
        Self {
            definitions: definitions.into_iter().collect(),
            lookups: lookups.into_iter().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.definitions.is_empty() && self.lookups.is_empty()
    }

    fn contains(&self, other: &Self) -> bool {
        self.definitions.is_superset(&other.definitions) && self.lookups.is_superset(&other.lookups)
    }

    fn intersects(&self, other: &Self) -> bool {
        !self.definitions.is_disjoint(&other.definitions)
            || !self.lookups.is_disjoint(&other.lookups)
    }
}

impl CopyState {
    /// Gives each table a number. Tables whose shape is known keep their number and progress. A table that
    /// was known in another shape is copied again, under its number if its rows can be compared with
    /// the stored ones. So is a table that definitions or lookups read for which it was not copied.
    /// Others get the next number. Known tables that are not among them are gone, if any of `all`
    /// readers of the generation has rows of them. Returns `None` when no number is left.
    pub(crate) fn number(
        &mut self,
        tables: impl IntoIterator<Item = CopiedTable>,
        all: &TableReaders,
    ) -> Option<NumberedCopies> {
        let tables: Vec<_> = tables.into_iter().collect();
        let mut numbered = NumberedCopies::default();
        let mut taken: Vec<_> = tables.iter().filter_map(|table| self.place_of(table)).collect();
        for (index, table) in tables.into_iter().enumerate() {
            let place = match self.place_of(&table) {
                Some(place) if self.is_copied_for(place, &table.readers) => place,
                Some(place) => {
                    let reason = "the sync config reads more of it".to_owned();
                    numbered.changed.push((index, reason));
                    self.begin_copy(table, Some(place))
                }
                None => {
                    let former = self.former_place(&table, &taken);
                    let reason = former.map(|at| self.differences(at, &table));
                    numbered.changed.extend(reason.map(|reason| (index, reason)));
                    self.begin_copy(table, former)
                }
            };
            taken.push(place);
            numbered.numbers.push(u16::try_from(place).ok()?);
        }

        for (number, table) in (0_u16..).zip(&mut self.tables) {
            if !numbered.numbers.contains(&number)
                && let Some(CopiedTable { has_lookups, readers, .. }) = table.take()
                // Rows of others are in buckets and lookups that no present config names.
                && (readers.is_empty() || readers.intersects(all))
            {
                numbered.gone.push(GoneTable { number, has_lookups });
            }
        }

        Some(numbered)
    }

    /// Returns whether the table at a place is copied for all of these readers. Those that are gone stay
    /// recorded: their numbers are never used again.
    fn is_copied_for(&self, place: usize, readers: &TableReaders) -> bool {
        self.tables[place].as_ref().is_some_and(|known| known.readers.contains(readers))
    }

    /// Returns the place of a table in the same shape.
    fn place_of(&self, table: &CopiedTable) -> Option<usize> {
        let is_it = |known: &Option<CopiedTable>| {
            known.as_ref().is_some_and(|known| known.shape == table.shape)
        };
        self.tables.iter().position(is_it)
    }

    /// Returns the place of a table that was found again in another shape: as the same relation, or
    /// under its name.
    fn former_place(&self, table: &CopiedTable, taken: &[usize]) -> Option<usize> {
        let find = |is_it: &dyn Fn(&CopiedTable) -> bool| {
            let is_free_and_it = |&(place, known): &(usize, &Option<CopiedTable>)| {
                !taken.contains(&place) && known.as_ref().is_some_and(is_it)
            };
            self.tables.iter().enumerate().find(is_free_and_it).map(|(place, _)| place)
        };
        find(&|known| known.oid == table.oid)
            .or_else(|| find(&|known| table.shape.has_name_of(&known.shape)))
    }

    /// Returns the differences of a table from the one at a place, for people.
    fn differences(&self, place: usize, table: &CopiedTable) -> String {
        let known = self.tables[place].as_ref();
        known.map(|known| table.shape.differences(&known.shape)).unwrap_or_default()
    }

    /// Begins to copy a table, which was known at the place `former` in another shape. Returns its
    /// place.
    fn begin_copy(&mut self, mut table: CopiedTable, former: Option<usize>) -> usize {
        let known = former.and_then(|place| self.tables[place].as_ref());
        let comparable =
            known.filter(|known| table.can_compare && table.shape.has_key_of(&known.shape));
        table.has_former_rows = comparable.is_some();
        // Former answers to lookups may be stored that the table no longer gives.
        table.has_lookups |= comparable.is_some_and(|known| known.has_lookups);

        let place = match former {
            Some(place) if table.has_former_rows => place,
            Some(_) | None => {
                self.tables.push(None);
                self.tables.len() - 1
            }
        };
        self.tables[place] = Some(table);
        place
    }

    /// Invalidates the stored shapes of all tables, so that all of them are copied again.
    pub(crate) fn forget_all(&mut self) {
        for table in self.tables.iter_mut().flatten() {
            table.shape.forget();
        }
    }

    /// Invalidates the stored shape of a table, so that it is copied again.
    pub(crate) fn forget(&mut self, oid: Option<u32>) {
        for table in self.tables.iter_mut().flatten().filter(|table| Some(table.oid) == oid) {
            table.shape.forget();
        }
    }

    /// Invalidates what is stored of a table: it is copied again under a new number, and the rows under
    /// the present one are removed from the buckets that have them.
    pub(crate) fn forget_rows(&mut self, oid: u32) {
        for table in self.tables.iter_mut().flatten().filter(|table| table.oid == oid) {
            table.shape = TableShape::default();
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
            progress @ (TableCopy::Todo | TableCopy::After(_) | TableCopy::Removing(_)) => {
                Some((number, progress))
            }
            TableCopy::Done | TableCopy::Whole(_) => None,
        })
    }

    /// Returns whether rows of an earlier copy are stored under a table's number.
    pub(crate) fn has_former_rows(&self, number: u16) -> bool {
        let table = self.tables.get(usize::from(number)).and_then(Option::as_ref);
        table.is_some_and(|table| table.has_former_rows)
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
            TableCopy::Todo | TableCopy::After(_) | TableCopy::Removing(_) => true,
            TableCopy::Whole(snapshot) => PgSnapshot::parse(snapshot).is_some_and(|s| s.sees(xid)),
            TableCopy::Done => false,
        }
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
            readers: TableReaders::default(),
            progress: TableCopy::Todo,
            copied_after: Lsn(0),
            has_former_rows: false,
            can_compare: false,
        }
    }

    /// Numbers tables in a generation without other readers.
    fn number(
        state: &mut CopyState,
        tables: impl IntoIterator<Item = CopiedTable>,
    ) -> Option<NumberedCopies> {
        state.number(tables, &TableReaders::default())
    }

    fn numbered(state: &mut CopyState, shapes: &[&str]) -> (Vec<u16>, Vec<u16>) {
        let numbered = number(state, shapes.iter().map(|shape| copied(shape))).unwrap();
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
        let gone = number(&mut state, Vec::new()).unwrap().gone;
        assert_eq!(gone[1], GoneTable { number: 3, has_lookups: false });
        assert_eq!(gone[2], GoneTable { number: 4, has_lookups: true });
    }

    #[test]
    fn a_table_for_which_the_stored_form_has_no_number_gets_none() {
        let mut state = CopyState::default();
        numbered(&mut state, &["a"]);
        state.tables.resize(usize::from(u16::MAX) + 1, None);
        assert!(number(&mut state, [copied("a"), copied("b")]).is_none());
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
                let NumberedCopies { numbers, gone, .. } = number(&mut state, tables).unwrap();

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

    /// A shape of a table with this name and key.
    fn shape(oid: u32, name: &str, storage: &str) -> CopiedTable {
        let mut table = crate::source::catalog::tests::source_table(oid, name);
        table.facts.storage = storage.into();
        CopiedTable { oid, shape: table.shape(), can_compare: true, ..copied("") }
    }

    fn known() -> CopyState {
        let mut state = CopyState::default();
        number(&mut state, [shape(1, "a", "file 1"), shape(2, "b", "file 1")]).unwrap();
        for number in 0..2 {
            state.advance(number, TableCopy::Done);
        }
        state
    }

    #[test]
    fn a_table_in_another_shape_is_copied_by_difference_under_its_number() {
        for again in [shape(1, "a", "file 2"), shape(9, "a", "file 2"), shape(1, "c", "file 1")] {
            let mut state = known();
            let numbered = number(&mut state, [again, shape(2, "b", "file 1")]).unwrap();
            assert_eq!((numbered.numbers, numbered.gone), (vec![0, 1], vec![]));
            assert_eq!(numbered.changed.len(), 1);
            assert!(state.has_former_rows(0) && !state.has_former_rows(1));
            assert_eq!(state.next(), Some((0, &TableCopy::Todo)));
        }
    }

    #[test]
    fn tables_that_were_swapped_keep_their_numbers() {
        let mut state = known();
        let swapped = [shape(2, "a", "file 1"), shape(1, "b", "file 1")];
        let numbered = number(&mut state, swapped).unwrap();
        assert_eq!((numbered.numbers, numbered.gone), (vec![1, 0], vec![]));
    }

    #[test]
    fn a_table_that_cannot_be_copied_by_difference_gets_a_new_number() {
        let mut state = known();
        let again = CopiedTable { can_compare: false, ..shape(1, "a", "file 2") };
        let numbered = number(&mut state, [again, shape(2, "b", "file 1")]).unwrap();
        assert_eq!(numbered.numbers, [2, 1]);
        assert_eq!(numbered.gone, [GoneTable { number: 0, has_lookups: false }]);
        assert!(!state.has_former_rows(2));

        // Rows with another key have other names.
        let mut rekeyed = crate::source::catalog::tests::source_table(2, "b");
        rekeyed.key = vec![];
        let again = CopiedTable { shape: rekeyed.shape(), ..shape(2, "b", "file 1") };
        let numbered = number(&mut state, [again]).unwrap();
        assert_eq!(numbered.numbers, [3]);
    }

    fn readers(definitions: &[u16], lookups: &[u16]) -> TableReaders {
        TableReaders::new(definitions.iter().copied(), lookups.iter().copied())
    }

    #[test]
    fn a_table_is_copied_again_for_readers_that_it_was_not_copied_for() {
        let read_by = |readers| [CopiedTable { readers, ..shape(1, "a", "file 1") }];
        let mut state = CopyState::default();
        let first = readers(&[0, 1], &[0]);
        state.number(read_by(first.clone()), &first).unwrap();
        state.advance(0, TableCopy::Done);

        let fewer = readers(&[1], &[]);
        let numbered = state.number(read_by(fewer.clone()), &fewer).unwrap();
        assert_eq!((numbered.numbers, numbered.changed), (vec![0], vec![]));
        assert_eq!(state.next(), None);

        let with_another = readers(&[1, 2], &[]);
        let numbered = state.number(read_by(with_another.clone()), &with_another).unwrap();
        assert_eq!(numbered.numbers, [0]);
        assert_eq!(numbered.changed, [(0, "the sync config reads more of it".to_owned())]);
        assert_eq!(state.next(), Some((0, &TableCopy::Todo)));
        assert!(state.has_former_rows(0));
    }

    #[test]
    fn rows_of_a_table_that_no_reader_has_left_are_not_removed() {
        for (all, gone) in
            [(readers(&[1], &[]), 0), (readers(&[0], &[]), 1), (readers(&[], &[3]), 1)]
        {
            let mut state = CopyState::default();
            let table = CopiedTable { readers: readers(&[0], &[3]), ..shape(1, "a", "file 1") };
            state.number([table], &all).unwrap();
            let numbered = state.number([], &all).unwrap();
            assert_eq!(numbered.gone.len(), gone, "{all:?}");
        }
    }

    #[test]
    fn a_copy_that_is_forgotten_begins_again() {
        let mut state = known();
        state.forget_all();
        let tables = [shape(1, "a", "file 1"), shape(2, "b", "file 1")];
        let numbered = number(&mut state, tables).unwrap();
        assert_eq!(numbered.numbers, [0, 1]);
        assert_eq!(state.next(), Some((0, &TableCopy::Todo)));
        assert!(state.has_former_rows(0) && state.has_former_rows(1));
    }
}
