use tidewater_storage::conformance::{empty_generation, first_control};
use tidewater_storage::{ControlStore, Embedded, Lsn, OpLog, Tag, Ticket};
use tidewater_sync_config::{Column, PgTypes, SyncConfig, TableSchema};

use super::*;
use crate::log::writer::{CommitOptions, nonce};

const CONFIG: &str = "
config: {edition: 3}
streams:
  todos: {auto_subscribe: true, query: SELECT * FROM todos}
  notes: {auto_subscribe: true, query: SELECT id FROM notes}
";
/// Places in the config of a table with a key, and of one without.
const TODOS: usize = 0;
const NOTES: usize = 1;

fn tables() -> Vec<SyncedTable> {
    let config = SyncConfig::compile(CONFIG).unwrap();
    let table = |(number, name): (usize, &tidewater_sync_config::TablePattern)| {
        let column = |name: &str| Column { name: name.into(), type_oid: 25 };
        let schema = TableSchema {
            schema: name.schema.clone(),
            name: name.name.clone(),
            columns: vec![column("id"), column("body")],
            types: PgTypes::default(),
        };
        let evaluator = config.bind(&schema).unwrap().unwrap();
        let table = SourceTable {
            oid: 1,
            schema,
            column_types: vec!["text".into(); 2],
            kind: 'r',
            replica_identity: 'f',
            key: if name.name == "todos" { vec![0] } else { Vec::new() },
            may_select: true,
            row_security: false,
            is_published: true,
            has_row_filter: false,
            estimated_rows: 0.0,
        };
        SyncedTable { number: self::number(number), table, evaluator }
    };
    config.tables().iter().enumerate().map(table).collect()
}

fn number(table: usize) -> u16 {
    u16::try_from(table).unwrap()
}

/// The first run on a store, or the next.
async fn begun(storage: &Embedded) -> Applier<Embedded> {
    let former = storage.control().await.unwrap();
    let (next, archived) = match &former {
        Some(former) => former.after_takeover(nonce().unwrap()).unwrap(),
        None => (first_control(), Vec::new()),
    };
    let generation = Generation {
        sync_config: CONFIG.into(),
        definitions: vec![Tag::from_bits(0), Tag::from_bits(1)],
        ..empty_generation(first_control().generation)
    };
    let new = former.is_none().then_some(&generation);
    let writer = LogWriter::take_over(storage.clone(), former, next, archived, new).await.unwrap();
    Applier::new(writer, generation, tables())
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

    async fn commit(&mut self) {
        let hold = CommitOptions { visibility_barrier: None, truncated: self.truncated.clone() };
        self.writer.commit(Lsn(1), Ticket(0), hold).await.unwrap();
    }
}

/// The operations of the table's bucket.
async fn operations(storage: &Embedded, table: usize) -> Vec<&'static str> {
    let bucket = BucketKey::new(&Tag::from_bits(u32::try_from(table).unwrap()), "[]");
    let page = storage.segments(&bucket, OpId::ZERO, OpId::MAX, usize::MAX).await.unwrap();
    let name = |body: &Body<'_>| match body {
        Body::Put { .. } => "PUT",
        Body::Remove { .. } => "REMOVE",
        Body::Move => "MOVE",
        Body::Clear => "CLEAR",
    };
    let operations = page.segments.iter().flat_map(|segment| SegmentReader::new(&segment.payload));
    operations.map(|operation| name(&operation.unwrap().body)).collect()
}

#[tokio::test]
async fn an_equal_row_is_put_again_after_a_truncation() {
    for table in [TODOS, NOTES] {
        let storage = Embedded::temporary().unwrap();
        let mut applier = begun(&storage).await;
        applier.insert(table).await;
        applier.commit().await;
        applier.truncate(number(table)).await.unwrap();
        applier.insert(table).await;
        applier.commit().await;
        assert_eq!(operations(&storage, table).await, ["PUT", "REMOVE", "PUT"]);
        // There is one such row, not two.
        applier.remove(table).await;
        applier.commit().await;
        assert_eq!(operations(&storage, table).await, ["PUT", "REMOVE", "PUT", "REMOVE"]);
    }
}

#[tokio::test]
async fn the_next_run_knows_of_a_truncation() {
    for table in [TODOS, NOTES] {
        let storage = Embedded::temporary().unwrap();
        let mut applier = begun(&storage).await;
        applier.insert(table).await;
        applier.truncate(number(table)).await.unwrap();
        applier.commit().await;
        let mut applier = begun(&storage).await;
        applier.insert(table).await;
        applier.commit().await;
        assert_eq!(operations(&storage, table).await, ["PUT", "REMOVE", "PUT"]);
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
    applier.commit().await;
    assert_eq!(operations(&storage, TODOS).await, ["PUT", "REMOVE"]);
    assert_eq!(operations(&storage, NOTES).await, ["PUT"]);
}
