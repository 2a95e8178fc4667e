use bytes::Bytes;
use tidewater_storage::Embedded;
use tidewater_sync_config::SyncConfig;

use super::*;
use crate::source::pgoutput::encode::{self, OldTuple};
use crate::source::pgoutput::{Message, TupleRange};
use crate::test_support::{
    NOTES, TODOS, begun, begun_with, commit, evaluator, operations, synced_tables,
};

const UNCHANGED: Datum<'static> = Datum::Unchanged;

fn text(text: &str) -> Datum<'_> {
    Datum::Text(text)
}

/// A change, as the assembler buffers it.
fn change(table: usize, message: Vec<u8>) -> Change {
    let message = Bytes::from(message);
    let (old, new): (Option<TupleRange>, Option<TupleRange>) =
        match Message::decode(&message).unwrap() {
            Message::Insert { new, .. } => (None, Some(new)),
            Message::Update { old, new, .. } => (old, Some(new)),
            Message::Delete { old, .. } => (Some(old), None),
            Message::Relation(_) | Message::Truncate { .. } | Message::Other => unreachable!(),
        };
    Change::Row(RowChange { table, old, new, message })
}

fn insert(id: &str, body: &str) -> Change {
    change(TODOS, encode::insert(0, &[text(id), text(body)]))
}

fn update(id: &str, body: Datum<'_>) -> Change {
    change(TODOS, encode::update(0, None, &[text(id), body]))
}

/// An UPDATE that changes the key.
fn update_key(from: &str, to: &str, body: Datum<'_>) -> Change {
    let old = [text(from), Datum::Null];
    change(TODOS, encode::update(0, Some((OldTuple::Key, &old)), &[text(to), body]))
}

fn delete(id: &str) -> Change {
    change(TODOS, encode::delete(0, OldTuple::Key, &[text(id), Datum::Null]))
}

fn note(id: &str, body: &str) -> Change {
    change(NOTES, encode::insert(0, &[text(id), text(body)]))
}

/// A body that PostgreSQL stores out of line, and that the row's record keeps.
fn long_body() -> String {
    "x".repeat(2_000)
}

struct Fixture {
    storage: Embedded,
    applier: Applier<Embedded>,
    /// The rows of the source, for those that are asked for.
    source: Vec<(String, String)>,
    requests: Vec<RowRequest>,
}

impl Fixture {
    async fn new() -> Self {
        let storage = Embedded::temporary().unwrap();
        let applier = begun(&storage).await;
        Self { storage, applier, source: Vec::new(), requests: Vec::new() }
    }

    /// A run over a table that is like `todos` and has these rows on devices.
    async fn with_query(query: &str) -> Self {
        let storage = Embedded::temporary().unwrap();
        let text = format!(
            "config: {{edition: 3}}\nstreams: {{todos: {{auto_subscribe: true, query: {query}}}}}"
        );
        let config = SyncConfig::compile(&text).unwrap();
        let mut tables = synced_tables();
        let todos = &mut Arc::get_mut(&mut tables).unwrap()[TODOS];
        todos.evaluator = evaluator(&config, &todos.table);
        let applier = begun_with(&storage, tables).await;
        Self { storage, applier, source: Vec::new(), requests: Vec::new() }
    }

    async fn apply_with(&mut self, has_barrier: bool, changes: Vec<Change>) {
        let batch = ChangeBatch { changes, has_barrier };
        let mut application = self.applier.prepare(&batch).await.unwrap();
        while let ApplyStep::NeedsRow(request) = self.applier.apply(&mut application).await.unwrap()
        {
            let row = self.source.iter().find(|(id, _)| *id == request.key[0]);
            let values = row.map(|(id, body)| [Some(&**id), Some(&**body)]);
            let values = values.as_ref().map(|values| &values[..]);
            self.applier.supply_row(&mut application, values).await.unwrap();
            self.requests.push(request);
        }
    }

    async fn apply(&mut self, changes: Vec<Change>) {
        self.apply_with(false, changes).await;
    }

    /// The operations so far, with long bodies as `...`.
    async fn operations(&mut self, table: usize) -> Vec<String> {
        commit(&mut self.applier).await;
        let operations = operations(&self.storage, table).await;
        operations.into_iter().map(|operation| operation.replace(&long_body(), "...")).collect()
    }
}

fn put(id: &str, body: &str) -> String {
    format!(r#"PUT {id} {{"id":"{id}","body":"{body}"}}"#)
}

fn remove(id: &str) -> String {
    format!("REMOVE {id}")
}

#[tokio::test]
async fn an_update_that_changes_nothing_makes_no_operation_if_the_old_row_is_in_the_stream() {
    let mut fixture = Fixture::new().await;
    let mut tables = synced_tables();
    Arc::get_mut(&mut tables).unwrap()[TODOS].table.replica_identity = 'f';
    fixture.applier.tables = tables;
    let update = |before: &str, after: Datum<'_>| {
        let old = [text("1"), text(before)];
        change(TODOS, encode::update(0, Some((OldTuple::Row, &old)), &[text("1"), after]))
    };

    let changes = vec![insert("1", "a"), update("a", text("a")), update("a", UNCHANGED)];
    fixture.apply(changes).await;
    assert_eq!(fixture.operations(TODOS).await, [put("1", "a")]);
    fixture.apply(vec![update("a", text("b")), update("b", text("b"))]).await;
    assert_eq!(fixture.operations(TODOS).await, [put("1", "a"), put("1", "b")]);
}

#[tokio::test]
async fn changes_of_one_batch_are_applied_in_their_order() {
    let mut fixture = Fixture::new().await;
    let changes = vec![insert("1", "a"), update("1", text("b")), delete("1"), insert("1", "c")];
    fixture.apply(changes).await;
    let expected = [put("1", "a"), put("1", "b"), remove("1"), put("1", "c")];
    assert_eq!(fixture.operations(TODOS).await, expected);
}

#[tokio::test]
async fn a_change_of_columns_that_are_left_out_is_no_operation() {
    let mut fixture = Fixture::with_query("SELECT id FROM todos").await;
    fixture.apply(vec![insert("1", "a"), update("1", text("b")), delete("2")]).await;
    assert_eq!(fixture.operations(TODOS).await, [r#"PUT 1 {"id":"1"}"#]);
}

#[tokio::test]
async fn a_change_of_a_row_that_contains_all_columns_is_a_put() {
    let mut fixture = Fixture::new().await;
    fixture.apply(vec![insert("1", "a"), update("1", text("b")), delete("2")]).await;
    fixture.apply(vec![update("1", text("a"))]).await;
    let expected = [put("1", "a"), put("1", "b"), put("1", "a")];
    assert_eq!(fixture.operations(TODOS).await, expected);
}

#[tokio::test]
async fn a_row_that_moves_to_another_key_is_removed_under_the_old_one() {
    let mut fixture = Fixture::new().await;
    fixture.apply(vec![insert("1", "a"), update_key("1", "2", text("a"))]).await;
    assert_eq!(fixture.operations(TODOS).await, [put("1", "a"), remove("1"), put("2", "a")]);
}

#[tokio::test]
async fn a_truncation_removes_what_the_batch_has_brought_before() {
    let mut fixture = Fixture::new().await;
    let truncate = Change::Truncate(vec![TODOS, NOTES]);
    fixture.apply(vec![insert("1", "a"), note("n", ""), truncate, insert("2", "b")]).await;
    assert_eq!(fixture.operations(TODOS).await, [put("1", "a"), remove("1"), put("2", "b")]);
    assert_eq!(fixture.operations(NOTES).await[1..], [remove("n")]);
}

#[tokio::test]
async fn a_value_that_was_left_out_comes_from_the_rows_record() {
    let mut fixture = Fixture::new().await;
    fixture.apply(vec![insert("1", &long_body()), update("1", UNCHANGED)]).await;
    assert_eq!(fixture.operations(TODOS).await, [put("1", "..."), put("1", "...")]);
    assert!(fixture.requests.is_empty());
}

#[tokio::test]
async fn a_value_moves_with_the_row_to_its_new_key() {
    let mut fixture = Fixture::new().await;
    fixture.apply(vec![insert("1", &long_body()), update_key("1", "2", UNCHANGED)]).await;
    let expected = [put("1", "..."), remove("1"), put("2", "...")];
    assert_eq!(fixture.operations(TODOS).await, expected);
    assert!(fixture.requests.is_empty());
}

/// The stored value may be of another column, or from before a rewrite.
#[tokio::test]
async fn a_row_is_asked_for_while_its_record_may_be_of_a_former_shape() {
    for (has_former_rows, has_barrier, is_asked_for) in
        [(true, true, true), (true, false, false), (false, true, false)]
    {
        let mut fixture = Fixture::new().await;
        fixture.source = vec![("1".into(), "now".into())];
        fixture.apply(vec![insert("1", &long_body())]).await;
        let tables = Arc::get_mut(&mut fixture.applier.tables).unwrap();
        tables[TODOS].has_former_rows = has_former_rows;

        fixture.apply_with(has_barrier, vec![update("1", UNCHANGED)]).await;
        assert_eq!(
            fixture.requests.len(),
            usize::from(is_asked_for),
            "{has_former_rows} {has_barrier}"
        );
    }
}

#[tokio::test]
async fn a_row_is_asked_for_when_its_record_lacks_the_value() {
    let mut fixture = Fixture::new().await;
    fixture.source = vec![("1".into(), "now".into())];
    fixture.apply(vec![insert("1", "short"), update("1", UNCHANGED)]).await;
    assert_eq!(fixture.requests, [RowRequest { table: TODOS, key: vec!["1".into()] }]);
    assert_eq!(fixture.operations(TODOS).await, [put("1", "short"), put("1", "now")]);
}

#[tokio::test]
async fn a_row_that_no_longer_exists_is_removed() {
    let mut fixture = Fixture::new().await;
    fixture.apply(vec![insert("1", "short"), update_key("1", "2", UNCHANGED)]).await;
    assert_eq!(fixture.requests.len(), 1);
    assert_eq!(fixture.operations(TODOS).await, [put("1", "short"), remove("1")]);
}

#[tokio::test]
async fn behind_a_barrier_a_moved_row_is_asked_for_in_any_case() {
    let mut fixture = Fixture::new().await;
    fixture.source = vec![("2".into(), "now".into())];
    fixture.apply_with(true, vec![insert("1", &long_body()), update("1", UNCHANGED)]).await;
    assert!(fixture.requests.is_empty(), "the row has kept its key");
    fixture.apply_with(true, vec![update_key("1", "2", UNCHANGED)]).await;
    assert_eq!(fixture.requests.len(), 1, "the old key's record may be of another row");
    let expected = [put("1", "..."), put("1", "..."), remove("1"), put("2", "now")];
    assert_eq!(fixture.operations(TODOS).await, expected);
}

#[tokio::test]
async fn a_row_that_was_read_sets_a_barrier_for_the_rest_of_the_batch() {
    let mut fixture = Fixture::new().await;
    fixture.source = vec![("1".into(), "now".into()), ("4".into(), "now".into())];
    let changes = vec![
        insert("1", "short"),
        insert("3", &long_body()),
        update("1", UNCHANGED),
        update_key("3", "4", UNCHANGED),
    ];
    fixture.apply(changes).await;
    let asked: Vec<_> = fixture.requests.iter().map(|request| &*request.key[0]).collect();
    assert_eq!(asked, ["1", "4"]);
}

#[tokio::test]
async fn a_column_that_the_config_does_not_read_is_never_missing() {
    let mut fixture = Fixture::new().await;
    let row = [text("n"), UNCHANGED];
    let changes = vec![note("n", "body"), change(NOTES, encode::insert(0, &row))];
    fixture.apply(changes).await;
    assert!(fixture.requests.is_empty());
}

#[tokio::test]
async fn equal_rows_of_a_keyless_table_are_counted() {
    let mut fixture = Fixture::new().await;
    let row = [text("n"), text("body")];
    let delete = change(NOTES, encode::delete(0, OldTuple::Row, &row));

    fixture.apply(vec![note("n", "body"), note("n", "body"), delete.clone()]).await;
    assert_eq!(fixture.operations(NOTES).await.len(), 1, "one of them is still there");
    fixture.apply(vec![delete]).await;
    assert_eq!(fixture.operations(NOTES).await[1..], [remove("n")]);
}

#[tokio::test]
async fn an_update_that_leaves_a_keyless_row_as_it_is_does_not_count_it_twice() {
    let mut fixture = Fixture::new().await;
    let row = [text("n"), text("body")];
    let old = Some((OldTuple::Row, &row[..]));
    let same = change(NOTES, encode::update(0, old, &row));
    // The old row has what the new one leaves out.
    let left_out = change(NOTES, encode::update(0, old, &[text("n"), UNCHANGED]));
    let delete = change(NOTES, encode::delete(0, OldTuple::Row, &row));
    fixture.apply(vec![note("n", "body"), same, left_out, delete]).await;
    let operations = fixture.operations(NOTES).await;
    assert_eq!(operations[operations.len() - 1], remove("n"));
    assert_eq!(operations.len(), 2);
}

/// The stream may bring changes from before the replica identity was changed.
#[tokio::test]
async fn a_keyless_row_is_not_counted_twice_whatever_the_catalog_says_of_its_replica_identity() {
    let mut fixture = Fixture::new().await;
    Arc::get_mut(&mut fixture.applier.tables).unwrap()[NOTES].table.replica_identity = 'd';
    let row = [text("n"), text("body")];
    let same = change(NOTES, encode::update(0, Some((OldTuple::Row, &row[..])), &row));
    let delete = change(NOTES, encode::delete(0, OldTuple::Row, &row));
    fixture.apply(vec![note("n", "body"), same, delete]).await;
    assert_eq!(fixture.operations(NOTES).await[1..], [remove("n")]);
}

#[tokio::test]
async fn a_malformed_change_is_an_error() {
    let mut fixture = Fixture::new().await;
    let mut not_utf8 = encode::insert(0, &[text("1"), text("a")]);
    *not_utf8.last_mut().unwrap() = 0xFF;
    let cases = [
        ("a row with too few columns", encode::insert(0, &[text("1")])),
        ("text that is not UTF-8", not_utf8),
    ];
    for (case, message) in cases {
        let batch = ChangeBatch { changes: vec![change(TODOS, message)], has_barrier: false };
        let error = fixture.applier.prepare(&batch).await.unwrap_err();
        assert!(matches!(error, ApplyError::Malformed(_)), "{case}: {error}");
    }
}

#[tokio::test]
#[should_panic(expected = "must be supplied first")]
async fn a_row_that_was_asked_for_must_be_supplied() {
    let mut fixture = Fixture::new().await;
    let changes = vec![insert("1", "short"), update("1", UNCHANGED)];
    let batch = ChangeBatch { changes, has_barrier: false };
    let mut application = fixture.applier.prepare(&batch).await.unwrap();
    for _ in 0..2 {
        let _ = fixture.applier.apply(&mut application).await;
    }
}

#[tokio::test]
async fn rows_of_a_copy_are_applied_and_the_last_key_is_the_cursor() {
    let mut fixture = Fixture::new().await;
    let rows = [Some("1"), Some("a"), Some("2"), None];
    let last_key = fixture.applier.apply_copied(TODOS, &rows).await.unwrap();
    assert_eq!(last_key, Some(vec!["2".to_owned()]));
    assert_eq!(fixture.applier.apply_copied(TODOS, &[]).await.unwrap(), None);
    let expected = [put("1", "a"), r#"PUT 2 {"id":"2","body":null}"#.to_owned()];
    assert_eq!(fixture.operations(TODOS).await, expected);
}

#[tokio::test]
async fn the_copy_does_not_repeat_what_the_stream_has_brought_of_some_columns() {
    let mut fixture = Fixture::with_query("SELECT id FROM todos").await;
    fixture.apply(vec![insert("1", "a")]).await;
    fixture.applier.apply_copied(TODOS, &[Some("1"), Some("a")]).await.unwrap();
    assert_eq!(fixture.operations(TODOS).await, [r#"PUT 1 {"id":"1"}"#]);
}
