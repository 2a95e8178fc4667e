use tidewater_protocol::OpId;
use tidewater_storage::Embedded;
use tidewater_sync_config::Column;

use super::*;
use crate::apply::fan_out::{BUCKETS_PER_ROW_MAX, BYTES_PER_ROW_MAX};
use crate::log::unit::UNIT_BYTES_MAX;
use crate::test_support::{
    NOTES, TODOS, begun, begun_with, commit, evaluator, operations, synced_tables, table,
};

fn number(table: usize) -> u16 {
    u16::try_from(table).unwrap()
}

impl Applier<Embedded> {
    async fn row(&mut self, table: usize) -> (RowRef, [Option<&'static str>; 2]) {
        let values = [Some("1"), Some("text")];
        let key = self.tables[table].row_key(&values);
        (self.load(vec![(table, key)]).await.unwrap().remove(0), values)
    }

    async fn insert(&mut self, table: usize) {
        let (row, values) = self.row(table).await;
        self.upsert(&row, &values).await.unwrap();
    }

    async fn remove(&mut self, table: usize) {
        let (row, _) = self.row(table).await;
        self.delete(&row).await.unwrap();
    }
}

/// The kinds of the operations in a table's bucket.
async fn kinds(storage: &Embedded, table: usize) -> Vec<String> {
    let operations = operations(storage, table).await;
    operations.iter().map(|one| one.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_equal_row_is_put_again_after_a_truncation() {
    for table in [TODOS, NOTES] {
        let storage = Embedded::temporary().unwrap();
        let mut applier = begun(&storage).await;
        applier.insert(table).await;
        commit(&mut applier).await;
        applier.truncate(number(table)).await.unwrap();
        applier.insert(table).await;
        commit(&mut applier).await;
        assert_eq!(kinds(&storage, table).await, ["PUT", "REMOVE", "PUT"]);

        // There is one such row, not two.
        applier.remove(table).await;
        commit(&mut applier).await;
        assert_eq!(kinds(&storage, table).await, ["PUT", "REMOVE", "PUT", "REMOVE"]);
    }
}

#[tokio::test]
async fn the_next_run_knows_of_a_truncation() {
    for table in [TODOS, NOTES] {
        let storage = Embedded::temporary().unwrap();
        let mut applier = begun(&storage).await;
        applier.insert(table).await;
        applier.truncate(number(table)).await.unwrap();
        commit(&mut applier).await;
        let mut applier = begun(&storage).await;
        applier.insert(table).await;
        commit(&mut applier).await;
        assert_eq!(kinds(&storage, table).await, ["PUT", "REMOVE", "PUT"]);
    }
}

#[tokio::test]
async fn a_truncation_of_one_table_leaves_the_others() {
    let storage = Embedded::temporary().unwrap();
    let mut applier = begun(&storage).await;
    applier.insert(TODOS).await;
    applier.insert(NOTES).await;
    applier.truncate(number(TODOS)).await.unwrap();
    applier.insert(NOTES).await;
    commit(&mut applier).await;
    assert_eq!(kinds(&storage, TODOS).await, ["PUT", "REMOVE"]);
    assert_eq!(kinds(&storage, NOTES).await, ["PUT"]);
}

/// A table whose rows are in a bucket for each entry of a JSON array.
fn shared_documents() -> SyncedTable {
    documents_of(&["s.value = auth.user_id()"])
}

/// A table whose rows are in a bucket for each entry of a JSON array and each of these conditions.
fn documents_of(conditions: &[&str]) -> SyncedTable {
    let mut text = "config: {edition: 3}\nstreams:\n".to_owned();
    for (number, condition) in conditions.iter().enumerate() {
        let query = "SELECT d.* FROM documents AS d, json_each(d.body) AS s";
        writeln!(
            text,
            "  s{number}: {{auto_subscribe: true, query: \"{query} WHERE {condition}\"}}"
        )
        .unwrap();
    }
    let config = tidewater_sync_config::SyncConfig::compile(&text).unwrap();
    let table = table(1, "documents", false);
    SyncedTable {
        number: 0,
        evaluator: evaluator(&config, &table),
        table,
        copied_after: Lsn(0),
        has_former_rows: false,
        is_extended: false,
    }
}

/// The JSON array of so many users, from the first one on.
fn users(first: usize, count: usize) -> String {
    let users: Vec<_> = (first..first + count).map(|user| format!("\"u{user}\"")).collect();
    format!("[{}]", users.join(","))
}

#[test]
fn the_digest_of_a_projection_is_that_of_each_of_its_operations() {
    let table = shared_documents();
    let mut output = RowOutput::default();
    table.evaluator.evaluate(&[Some("1"), Some(&users(0, 40))], &mut output);
    let memberships = memberships(&output, "0.k");
    assert_eq!(memberships.len(), 40);
    for (membership, row) in memberships.iter().zip(output.buckets()) {
        let key = RowKey::new(row.object_type, row.object_id, "0.k");
        let body = Body::Put { row: key, data: row.data.into() };
        assert_eq!(Some(Digest(membership.digest).checksum()), body.checksum());
    }
}

#[tokio::test]
async fn a_row_in_many_buckets_leaves_some_and_enters_others() {
    for (before, after) in [(3, 3), (40, 40), (3, 40), (40, 3)] {
        let storage = Embedded::temporary().unwrap();
        let mut applier = begun_with(&storage, vec![shared_documents()].into()).await;
        // The content changes with the list, so each bucket that stays gets a PUT.
        for (first, count) in [(0, before), (2, after)] {
            let users = users(first, count);
            let values = [Some("1"), Some(&*users)];
            let key = applier.tables[0].row_key(&values);
            let row = applier.load(vec![(0, key)]).await.unwrap().remove(0);
            applier.upsert(&row, &values).await.unwrap();
        }
        commit(&mut applier).await;

        let tag = &applier.generation.definitions[0];
        for user in 0..45 {
            let bucket = BucketKey::new(tag, &format!("[\"u{user}\"]"));
            let is_before = user < before;
            let is_after = (2..2 + after).contains(&user);
            let page = tidewater_storage::OpLog::segments(
                &storage,
                &bucket,
                OpId::ZERO,
                OpId::MAX,
                usize::MAX,
            );
            let count: u64 = page.await.unwrap().segments.iter().map(|s| s.count).sum();
            let expected = u64::from(is_before) + u64::from(is_before || is_after);
            assert_eq!(count, expected, "u{user} of {before} and {after}");
        }
    }
}

impl Applier<Embedded> {
    /// Applies the only row of the documents' table, with this array.
    async fn share(&mut self, body: &str) {
        let values = [Some("1"), Some(body)];
        let key = self.tables[0].row_key(&values);
        let row = self.load(vec![(0, key)]).await.unwrap().remove(0);
        self.upsert(&row, &values).await.unwrap();
    }

    /// Returns the operations of a user's bucket, by kind.
    async fn kinds_of(&self, user: usize) -> Vec<&'static str> {
        let tag = &self.generation.definitions[0];
        let bucket = BucketKey::new(tag, &format!("[\"u{user}\"]"));
        let storage = self.writer.storage();
        let page =
            tidewater_storage::OpLog::segments(storage, &bucket, OpId::ZERO, OpId::MAX, usize::MAX);
        let page = page.await.unwrap();
        let operations = page
            .segments
            .iter()
            .flat_map(|one| tidewater_storage::SegmentReader::new(&one.payload));
        operations
            .map(|operation| match operation.unwrap().body {
                Body::Put { .. } => "PUT",
                Body::Remove { .. } => "REMOVE",
                Body::Move | Body::Clear => "neither",
            })
            .collect()
    }
}

/// The JSON array of so many users, and a long entry that is no user.
fn users_and_text(count: usize, bytes: usize) -> String {
    let users = users(0, count);
    format!("{},\"{}\"]", users.trim_end_matches(']'), "x".repeat(bytes))
}

/// The row takes seven times as many bytes as a unit may have.
#[tokio::test]
async fn a_row_in_many_buckets_is_stored_in_parts() {
    let storage = Embedded::temporary().unwrap();
    let mut applier = begun_with(&storage, vec![shared_documents()].into()).await;
    let bytes = 100_000;
    let count = 7 * UNIT_BYTES_MAX / bytes;

    for version in 0..3 {
        applier.share(&users_and_text(count, bytes + version)).await;
        let held = applier.writer.unit_bytes();
        assert!(held < UNIT_BYTES_MAX + 2 * bytes, "version {version}: {held} bytes are held");
    }
    let none = applier.kinds_of(0).await;
    assert_eq!(none.len(), 3, "the parts are stored");
    let committed = applier.writer.control().committed.op;
    commit(&mut applier).await;
    assert!(applier.writer.control().committed.op > committed, "and are committed together");

    let row = applier.load(vec![(0, "1".into())]).await.unwrap().remove(0);
    applier.delete(&row).await.unwrap();
    commit(&mut applier).await;
    for user in [0, 1, count / 2, count - 1] {
        assert_eq!(applier.kinds_of(user).await, ["PUT", "PUT", "PUT", "REMOVE"], "u{user}");
    }
}

/// A row that leaves its limits is removed from all its buckets, and returns when it is within them.
async fn check_limit(table: SyncedTable, within: &str, beyond: &str) {
    let storage = Embedded::temporary().unwrap();
    let tables: Arc<[_]> = vec![table].into();
    let mut applier = begun_with(&storage, Arc::clone(&tables)).await;
    applier.share(within).await;
    commit(&mut applier).await;
    assert_eq!(applier.kinds_of(1).await, ["PUT"]);
    assert_eq!(applier.unsynced_rows.count(0), 0);

    applier.share(beyond).await;
    commit(&mut applier).await;
    assert_eq!(applier.kinds_of(1).await, ["PUT", "REMOVE"]);
    assert_eq!(applier.kinds_of(60).await, [""; 0], "no part of the new content is there");

    // The next run knows of it.
    let mut applier = begun_with(&storage, tables).await;
    applier.load_unsynced_rows().await.unwrap();
    assert_eq!(applier.unsynced_rows.count(0), 1);
    applier.share(within).await;
    commit(&mut applier).await;
    assert_eq!(applier.kinds_of(1).await, ["PUT", "REMOVE", "PUT"]);
    assert_eq!(applier.unsynced_rows.count(0), 0);
}

#[tokio::test]
async fn a_row_in_too_many_buckets_is_in_none() {
    let conditions = ["s.value = auth.user_id()", "s.value = auth.parameter('other')"];
    let beyond = users(0, BUCKETS_PER_ROW_MAX / 2 + 1);
    check_limit(documents_of(&conditions), &users(0, 50), &beyond).await;
}

#[tokio::test]
async fn a_row_with_too_many_combinations_is_in_no_bucket() {
    check_limit(shared_documents(), &users(0, 50), &users(0, 10_001)).await;
}

#[tokio::test]
async fn a_row_that_takes_too_many_bytes_is_in_no_bucket() {
    let bytes = BYTES_PER_ROW_MAX / 100;
    check_limit(shared_documents(), &users(0, 50), &users_and_text(101, bytes)).await;
}

/// A row that is deleted, or whose table is truncated, is not missing on devices.
#[tokio::test]
async fn only_rows_that_exist_are_listed_as_not_synced() {
    let storage = Embedded::temporary().unwrap();
    let mut applier = begun_with(&storage, vec![shared_documents()].into()).await;
    applier.share("no array").await;
    assert_eq!(applier.unsynced_rows.count(0), 1);
    let row = applier.load(vec![(0, "1".into())]).await.unwrap().remove(0);
    applier.delete(&row).await.unwrap();
    assert_eq!(applier.unsynced_rows.count(0), 0);

    applier.share("no array").await;
    applier.truncate(0).await.unwrap();
    assert_eq!(applier.unsynced_rows.count(0), 0);
}

/// Tables of which the first is copied again over its rows.
fn tables_with_former_rows() -> Arc<[SyncedTable]> {
    let mut tables = synced_tables();
    Arc::get_mut(&mut tables).unwrap()[TODOS].has_former_rows = true;
    tables
}

impl Applier<Embedded> {
    async fn copy(&mut self, rows: &[(&str, &str)]) {
        let values: Vec<_> = rows.iter().flat_map(|&(id, body)| [Some(id), Some(body)]).collect();
        self.apply_copied(TODOS, &values).await.unwrap();
    }
}

#[tokio::test]
async fn a_change_of_the_content_alone_writes_no_record_where_the_content_is_all_columns() {
    let storage = Embedded::temporary().unwrap();
    let mut applier = begun(&storage).await;
    let mut written_by = Vec::new();
    for body in ["before", "after"] {
        let values = [Some("1"), Some(body)];
        let row = applier.load(vec![(TODOS, "1".into())]).await.unwrap().remove(0);
        applier.upsert(&row, &values).await.unwrap();
        commit(&mut applier).await;

        let key = RecordKey::SourceRow(applier.generation.rows_of(), 0, "1".into());
        let record = storage.records(&[key]).await.unwrap().remove(0).unwrap();
        written_by.push(record.newest_op());
    }
    assert_eq!(kinds(&storage, TODOS).await, ["PUT", "PUT"]);
    assert_eq!(written_by[0], written_by[1]);
}

#[tokio::test]
async fn a_copy_over_rows_puts_those_that_the_buckets_have_otherwise() {
    let storage = Embedded::temporary().unwrap();
    let mut applier = begun(&storage).await;
    applier.copy(&[("1", "a"), ("2", "b"), ("3", "c")]).await;
    commit(&mut applier).await;

    let mut applier = begun_with(&storage, tables_with_former_rows()).await;
    applier.load_bucket_digests().await.unwrap();
    applier.copy(&[("1", "a"), ("2", "changed"), ("3", "c")]).await;
    // What this run has applied counts, too.
    applier.copy(&[("2", "changed"), ("3", "c")]).await;
    let row = applier.load(vec![(TODOS, "3".into())]).await.unwrap().remove(0);
    applier.delete(&row).await.unwrap();
    applier.copy(&[("3", "c")]).await;
    commit(&mut applier).await;

    let operations = operations(&storage, TODOS).await;
    let added: Vec<_> = operations[3..].iter().map(|one| &one[..one.len().min(8)]).collect();
    assert_eq!(added, ["PUT 2 {\"", "REMOVE 3", "PUT 3 {\""]);
}

#[tokio::test]
async fn a_copy_over_rows_puts_what_a_bucket_has_lost() {
    let storage = Embedded::temporary().unwrap();
    let mut applier = begun(&storage).await;
    applier.copy(&[("1", "a"), ("2", "b")]).await;
    applier.tables[TODOS].subkey("1", &mut applier.subkey);
    let row = RowKey::new("todos", "1", &applier.subkey).into_owned();
    let bucket = BucketKey::new(applier.definition_tag(TODOS), "[]");
    applier.writer.append(bucket.as_str(), Body::Remove { row });
    commit(&mut applier).await;

    let mut applier = begun_with(&storage, tables_with_former_rows()).await;
    applier.load_bucket_digests().await.unwrap();
    applier.copy(&[("1", "a"), ("2", "b")]).await;
    commit(&mut applier).await;
    let operations = operations(&storage, TODOS).await;
    assert_eq!(operations[2..], ["REMOVE 1", r#"PUT 1 {"id":"1","body":"a"}"#]);
}

#[tokio::test]
async fn a_copy_over_rows_compares_them_in_all_of_their_buckets() {
    let storage = Embedded::temporary().unwrap();
    let users = users(0, 40);
    let values = [Some("1"), Some(&*users)];
    for has_former_rows in [false, true] {
        let table = SyncedTable { has_former_rows, ..shared_documents() };
        let mut applier = begun_with(&storage, Arc::from([table])).await;
        applier.load_bucket_digests().await.unwrap();
        applier.apply_copied(0, &values).await.unwrap();
        assert_eq!(applier.writer.has_uncommitted(), !has_former_rows);
        commit(&mut applier).await;
    }
}

/// A column that a definition does not select is no change of its rows, and no reason to copy. So records
/// are from before it when the table is copied for another reason.
#[tokio::test]
async fn a_copy_over_rows_compares_them_also_if_the_table_had_fewer_columns_before() {
    let text = "config: {edition: 3}
streams: {todos: {auto_subscribe: true, query: 'SELECT id, body FROM todos'}}";
    let config = tidewater_sync_config::SyncConfig::compile(text).unwrap();
    let with_columns = |extra: Option<&str>| {
        let mut tables = synced_tables();
        let todos = &mut Arc::get_mut(&mut tables).unwrap()[TODOS];
        let columns = &mut todos.table.schema.columns;
        columns.extend(extra.map(|name| Column { name: name.into(), ..columns[1].clone() }));
        todos.evaluator = evaluator(&config, &todos.table);
        todos.has_former_rows = extra.is_some();
        tables
    };

    let storage = Embedded::temporary().unwrap();
    let mut applier = begun_with(&storage, with_columns(None)).await;
    applier.copy(&[("1", "a"), ("2", "b")]).await;
    commit(&mut applier).await;

    let mut applier = begun_with(&storage, with_columns(Some("extra"))).await;
    applier.load_bucket_digests().await.unwrap();
    let values = [Some("1"), Some("a"), Some("x"), Some("2"), Some("changed"), None];
    applier.apply_copied(TODOS, &values).await.unwrap();
    commit(&mut applier).await;
    assert_eq!(kinds(&storage, TODOS).await, ["PUT", "PUT", "PUT"]);
}

#[tokio::test]
async fn digests_are_kept_from_the_start_of_a_copy_over_rows_to_its_end() {
    let storage = Embedded::temporary().unwrap();
    let mut applier = begun(&storage).await;
    applier.load_bucket_digests().await.unwrap();
    assert!(applier.bucket_digests.is_none(), "no table is copied over its rows");
    let mut applier = begun_with(&storage, tables_with_former_rows()).await;
    applier.load_bucket_digests().await.unwrap();
    assert!(applier.bucket_digests.is_some());
    commit(&mut applier).await;
    assert!(applier.bucket_digests.is_none(), "the copy is complete");
}
