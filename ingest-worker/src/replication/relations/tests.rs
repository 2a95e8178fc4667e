use proptest::prelude::*;

use super::*;
use crate::test_support::{NOTES, TODOS, oid, relation, synced_tables, table, tables};

const NEW: TransactionAge = TransactionAge::New(Lsn(50));
/// The position after which the tables are copied.
const COPIED_AFTER: Lsn = Lsn(40);
const IN_COPY: TransactionAge = TransactionAge::New(Lsn(40));
const AGES: [TransactionAge; 3] = [NEW, IN_COPY, TransactionAge::Known];

fn map_with(new_tables: NewTables) -> RelationMap {
    let mut tables = synced_tables();
    for table in Arc::get_mut(&mut tables).unwrap() {
        table.copied_after = COPIED_AFTER;
    }
    RelationMap::new(tables, new_tables)
}

fn map() -> RelationMap {
    map_with(NewTables::default())
}

/// The description of the todos, with one thing altered.
fn altered(alter: impl Fn(&mut Relation)) -> Relation {
    let mut relation = relation(&tables()[TODOS]);
    alter(&mut relation);
    relation
}

/// Returns the reason for which a description in a new transaction ends the run.
fn reason(relation: &Relation) -> String {
    map().describe(relation, NEW).unwrap_err().reason
}

#[test]
fn a_table_as_the_catalog_has_it_is_found_by_its_id() {
    for age in AGES {
        let mut map = map();
        for (index, table) in tables().iter().enumerate() {
            map.describe(&relation(table), age).unwrap();
            assert_eq!(map.table(table.oid, NEW), Ok(Some(index)), "{age:?}");
        }
    }
}

#[test]
fn changes_from_before_the_copy_began_are_left_to_it() {
    let mut map = map();
    map.describe(&relation(&tables()[TODOS]), NEW).unwrap();
    for (lsn, expected) in [(39, None), (40, None), (41, Some(TODOS))] {
        assert_eq!(map.table(oid(TODOS), TransactionAge::New(Lsn(lsn))), Ok(expected), "{lsn}");
    }
    assert_eq!(map.table(oid(TODOS), TransactionAge::Known), Ok(None));
}

#[test]
fn a_request_to_copy_ends_the_run_unless_the_copy_began_after_it() {
    for replaces_rows in [false, true] {
        let request = CopyRequest { table: oid(TODOS), replaces_rows };
        let ended = map().check_request(request, NEW).unwrap_err();
        assert_eq!((ended.oid, ended.replaces_rows), (oid(TODOS), replaces_rows));
        for age in [IN_COPY, TransactionAge::Known] {
            assert_eq!(map().check_request(request, age), Ok(()), "{age:?}");
        }
        let of_another = CopyRequest { table: 99, ..request };
        assert_eq!(map().check_request(of_another, NEW), Ok(()), "the config does not read it");
    }
}

#[test]
fn a_table_that_was_not_described_is_ignored() {
    assert_eq!(map().table(oid(TODOS), NEW), Ok(None));
}

#[test]
fn each_alteration_that_matters_ends_the_run() {
    type Alteration = fn(&mut Relation);
    let cases: [(Alteration, &str); 8] = [
        (|r| r.oid = 9, "it was dropped and created again"),
        (|r| r.columns[1].name = "text".into(), "column body is now text"),
        (|r| r.columns[1].type_oid = 23, "column body has another type"),
        (|r| r.columns.push(r.columns[1].clone()), "column body is new"),
        (|r| drop(r.columns.pop()), "column body was dropped"),
        (|r| r.replica_identity = b'f', "it has another replica identity"),
        (|r| r.columns[0].in_identity = false, "it has another replica identity"),
        (|r| r.columns[1].in_identity = true, "it has another replica identity"),
    ];
    for (alter, expected) in cases {
        assert_eq!(reason(&altered(alter)), expected);
    }
}

#[test]
fn a_renamed_table_is_still_the_same_table() {
    // The catalog watcher compares names: the sync config may read the new name or not.
    let mut map = map();
    map.describe(&altered(|r| r.name = "tasks".into()), NEW).unwrap();
    assert_eq!(map.table(oid(TODOS), NEW), Ok(Some(TODOS)));
}

#[test]
fn the_error_names_the_table_of_the_catalog() {
    let changed = map().describe(&altered(|r| r.oid = 9), NEW).unwrap_err();
    assert_eq!((changed.oid, &*changed.table), (oid(TODOS), "public.todos"));
}

#[test]
fn a_former_shape_is_skipped_while_the_copy_has_its_changes() {
    let former = altered(|r| drop(r.columns.pop()));
    for age in [IN_COPY, TransactionAge::Known] {
        let mut map = map();
        map.describe(&former, age).unwrap();
        assert_eq!(map.table(oid(TODOS), age), Ok(None), "{age:?}");
        // PostgreSQL describes a table again once it is altered.
        map.describe(&relation(&tables()[TODOS]), NEW).unwrap();
        assert_eq!(map.table(oid(TODOS), NEW), Ok(Some(TODOS)), "{age:?}");
    }
}

#[test]
fn a_former_shape_behind_the_copy_ends_the_run() {
    let mut map = map();
    map.describe(&altered(|r| drop(r.columns.pop())), IN_COPY).unwrap();
    let changed = map.table(oid(TODOS), NEW).unwrap_err();
    assert_eq!(changed.reason, "the log describes it otherwise than the catalog");
    assert_eq!(map.table(oid(NOTES), NEW), Ok(None), "other tables are not concerned");
}

#[test]
fn a_new_table_ends_the_run_only_if_it_is_read_and_unknown() {
    let pattern = |name: &str| TablePattern { schema: "public".into(), name: name.to_owned() };
    let rule = |catalog_read_at, left_out: &[u32]| NewTables {
        patterns: vec![pattern("event_%")],
        catalog_read_at: Lsn(catalog_read_at),
        left_out: left_out.iter().copied().collect(),
    };
    let describe = |rule: NewTables, name: &str, age| {
        map_with(rule).describe(&relation(&table(7, name, false)), age)
    };

    let changed = describe(rule(10, &[]), "event_1", NEW).unwrap_err();
    assert_eq!((&*changed.table, &*changed.reason), ("public.event_1", "it is new"));

    let ignored = [
        ("the sync config does not read it", rule(10, &[]), "other", NEW),
        ("the catalog was read later", rule(50, &[]), "event_1", NEW),
        ("it cannot be synced", rule(10, &[7]), "event_1", NEW),
        ("an earlier run has seen it", rule(10, &[]), "event_1", TransactionAge::Known),
    ];
    for (case, rule, name, age) in ignored {
        assert_eq!(describe(rule, name, age), Ok(()), "{case}");
    }
}

/// A message of the stream about the todos.
#[derive(Clone, Copy, Debug)]
enum TableMessage {
    Described { is_former_shape: bool },
    Changed,
}

/// Messages, each with the position at which its transaction was committed.
fn messages() -> impl Strategy<Value = Vec<(u64, TableMessage)>> {
    let message = prop_oneof![
        any::<bool>().prop_map(|is_former_shape| TableMessage::Described { is_former_shape }),
        Just(TableMessage::Changed),
    ];
    proptest::collection::vec((1_u64..80, message), 0..20).prop_map(|mut messages| {
        messages.sort_by_key(|(commit_lsn, _)| *commit_lsn);
        messages
    })
}

proptest! {
    /// Transactions up to `known_up_to` are those that an earlier run has applied.
    #[test]
    fn a_change_is_applied_exactly_if_it_is_new_and_of_the_shape_in_the_catalog(
        messages in messages(),
        known_up_to in 0_u64..60,
    ) {
        let mut map = map();
        let mut is_described_as_now = None;
        for (commit_lsn, message) in messages {
            let is_known = commit_lsn <= known_up_to;
            let age = match is_known {
                true => TransactionAge::Known,
                false => TransactionAge::New(Lsn(commit_lsn)),
            };
            let is_applied = !is_known && Lsn(commit_lsn) > COPIED_AFTER;
            match message {
                TableMessage::Described { is_former_shape } => {
                    let description = altered(|relation| {
                        if is_former_shape {
                            relation.columns.pop();
                        }
                    });
                    let described = map.describe(&description, age);
                    prop_assert_eq!(described.is_err(), is_former_shape && is_applied);
                    if described.is_err() {
                        break;
                    }
                    is_described_as_now = Some(!is_former_shape);
                }
                TableMessage::Changed => {
                    let expected = match is_described_as_now {
                        Some(false) if is_applied => None,
                        Some(true) if is_applied => Some(Some(TODOS)),
                        _ => Some(None),
                    };
                    prop_assert_eq!(map.table(oid(TODOS), age).ok(), expected);
                }
            }
        }
    }
}
