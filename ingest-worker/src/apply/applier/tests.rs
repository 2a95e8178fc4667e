use tidewater_protocol::OpId;
use tidewater_storage::Embedded;

use super::*;
use crate::test_support::{NOTES, TODOS, begun, begun_with, commit, operations, table};

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
        self.upsert(&row, &values).unwrap();
    }

    async fn remove(&mut self, table: usize) {
        let (row, _) = self.row(table).await;
        self.delete(&row).unwrap();
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
    let query = "SELECT d.* FROM documents AS d, json_each(d.body) AS s \
                 WHERE s.value = auth.user_id()";
    let text = format!(
        "config: {{edition: 3}}\nstreams:\n  shared: {{auto_subscribe: true, query: \"{query}\"}}\n"
    );
    let config = tidewater_sync_config::SyncConfig::compile(&text).unwrap();
    let table = table(1, "documents", false);
    let evaluator = config.bind(&table.schema).unwrap().unwrap();
    SyncedTable { number: 0, table, evaluator, copied_after: Lsn(0), has_former_rows: false }
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
            applier.upsert(&row, &values).unwrap();
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
