use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn copied(shape: &str) -> CopiedTable {
    CopiedTable {
        oid: 1,
        shape: TableShape::from_text(shape),
        has_lookups: shape.len() > 1,
        readers: TableReaders::default(),
        settled: None,
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
    state.number(tables, &CopyReaders::default())
}

fn numbered(state: &mut CopyState, shapes: &[&str]) -> (Vec<u16>, Vec<u16>) {
    let numbered = number(state, shapes.iter().map(|shape| copied(shape))).unwrap();
    (numbered.numbers, numbered.gone.iter().map(|gone| gone.number).collect())
}

#[test]
fn a_keyless_table_counts_each_change_once() {
    let mut state = CopyState::default();
    assert_eq!(numbered(&mut state, &["a"]), (vec![0], vec![]));
    assert!(state.contains_keyless_change(0, 5, Lsn(1)), "the copy is still to come");
    state.advance(0, TableCopy::Whole(WholeSnapshot("10:12:10".to_owned())));
    assert!(state.contains_keyless_change(0, 11, Lsn(1)));
    assert!(!state.contains_keyless_change(0, 10, Lsn(1)), "it was under way during the copy");
    assert!(!state.contains_keyless_change(0, 12, Lsn(1)));
}

#[test]
fn a_transaction_id_that_is_assigned_again_after_a_crash_is_another_transaction() {
    let mut state = CopyState::default();
    numbered(&mut state, &["a"]);
    // Transaction 11 was rolled back when the snapshot was taken.
    let snapshot = PgSnapshot::parse("10:12:10").unwrap();
    state.advance(0, TableCopy::Whole(WholeSnapshot::new(&snapshot, Lsn(100))));
    assert!(state.contains_keyless_change(0, 11, Lsn(100)));
    assert!(!state.contains_keyless_change(0, 11, Lsn(101)));

    let stored = serde_json::to_string(&state).unwrap();
    assert!(stored.contains(r#"{"whole":"10:12:10@0/64"}"#), "{stored}");
    assert_eq!(serde_json::from_str::<CopyState>(&stored).unwrap(), state);
}

#[test]
fn tables_are_copied_one_after_another() {
    let mut state = CopyState::default();
    assert_eq!(numbered(&mut state, &["a", "b", "c"]), (vec![0, 1, 2], vec![]));
    state.advance(0, TableCopy::Done);
    state.advance(1, TableCopy::After(vec!["7".into()]));
    assert_eq!(state.next(), Some((1, &TableCopy::After(vec!["7".into()]))));
    state.advance(1, TableCopy::Whole(WholeSnapshot("1:1:".to_owned())));
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
        assert!(!state.contains_keyless_change(number, 5, Lsn(1)), "{number}");
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
    assert!(
        state.contains_keyless_change(3, 4, Lsn(1)) && !state.contains_keyless_change(3, 5, Lsn(1))
    );
    assert!(state.tables[1].is_none() && !state.contains_keyless_change(2, 4, Lsn(1)));
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

/// The readers of a run whose copies hold the checkpoint back.
fn of_all(all: &TableReaders) -> CopyReaders {
    CopyReaders { all: all.clone(), ..CopyReaders::default() }
}

#[test]
fn a_table_is_copied_again_for_readers_that_it_was_not_copied_for() {
    let read_by = |readers| [CopiedTable { readers, ..shape(1, "a", "file 1") }];
    let mut state = CopyState::default();
    let first = readers(&[0, 1], &[0]);
    state.number(read_by(first.clone()), &of_all(&first)).unwrap();
    state.advance(0, TableCopy::Done);

    let fewer = readers(&[1], &[]);
    let numbered = state.number(read_by(fewer.clone()), &of_all(&fewer)).unwrap();
    assert_eq!((numbered.numbers, numbered.changed), (vec![0], vec![]));
    assert_eq!(state.next(), None);

    let with_another = readers(&[1, 2], &[]);
    let numbered = state.number(read_by(with_another.clone()), &of_all(&with_another)).unwrap();
    assert_eq!(numbered.numbers, [0]);
    assert_eq!(numbered.changed, [(0, "the sync config reads more of it".to_owned())]);
    assert_eq!(state.next(), Some((0, &TableCopy::Todo)));
    assert!(state.has_former_rows(0));
}

#[test]
fn rows_of_a_table_that_no_reader_has_left_are_not_removed() {
    for (all, gone) in [(readers(&[1], &[]), 0), (readers(&[0], &[]), 1), (readers(&[], &[3]), 1)] {
        let mut state = CopyState::default();
        let table = CopiedTable { readers: readers(&[0], &[3]), ..shape(1, "a", "file 1") };
        state.number([table], &of_all(&all)).unwrap();
        let numbered = state.number([], &of_all(&all)).unwrap();
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
