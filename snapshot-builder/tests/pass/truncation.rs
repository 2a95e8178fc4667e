//! A table is truncated by the worker after the builder has moved its rows into a base.

use std::time::Duration;

use tidewater_ingest_worker::{Applier, CheckFacts, ShapeFacts, SourceTable, SyncedTable};
use tidewater_protocol::{Body, OpId};
use tidewater_snapshot_builder::{Options, run_pass};
use tidewater_storage::{BucketKey, ControlStore, Embedded, Lsn, OpLog, SegmentReader, Tag};
use tidewater_sync_config::{Column, PgTypes, SyncConfig, TableSchema, UnionEvaluator};

use crate::NOW;
use crate::worker::{begun, commit};

const CONFIG: &str = "
config: {edition: 3}
streams:
  todos: {auto_subscribe: true, query: SELECT * FROM todos}
";

fn todos() -> SyncedTable {
    let config = SyncConfig::compile(CONFIG).unwrap();
    let name = &config.tables()[0];
    let schema = TableSchema {
        schema: name.schema.clone(),
        name: name.name.clone(),
        columns: vec![Column { name: "id".into(), type_oid: 25 }],
        types: PgTypes::default(),
    };
    let evaluator = config.bind(&schema).unwrap().unwrap();

    let table = SourceTable {
        oid: 1,
        schema,
        column_types: vec!["text".into()],
        kind: 'r',
        replica_identity: 'd',
        key: vec![0],
        may_select: true,
        row_security: false,
        is_published: true,
        has_row_filter: false,
        estimated_rows: 0.0,
        facts: ShapeFacts::default(),
        check: CheckFacts::default(),
    };

    let mut union = UnionEvaluator::default();
    union.add(evaluator, &[0], &[], true);
    SyncedTable {
        number: 0,
        table,
        evaluator: union,
        copied_after: Lsn(0),
        has_former_rows: false,
        is_extended: false,
    }
}

async fn insert(applier: &mut Applier<Embedded>, id: &str) {
    let row = applier.load(vec![(0, id.into())]).await.unwrap().remove(0);
    applier.upsert(&row, &[Some(id)]).await.unwrap();
}

/// Returns the operations of the bucket's log: the sign of each, and the id of its row.
async fn log(store: &Embedded, bucket: &BucketKey) -> Vec<String> {
    let page = store.segments(bucket, OpId::ZERO, OpId::MAX, usize::MAX).await.unwrap();
    let operations = page.segments.iter().flat_map(|segment| SegmentReader::new(&segment.payload));
    operations
        .map(|operation| match operation.unwrap().body {
            Body::Put { row, .. } => format!("+{}", row.object_id),
            Body::Remove { row } => format!("-{}", row.object_id),
            Body::Move | Body::Clear => "?".to_owned(),
        })
        .collect()
}

#[tokio::test]
async fn a_truncation_removes_rows_that_only_a_base_holds() {
    let store = Embedded::temporary().unwrap();
    let tag = Tag::from_bits(1);
    let bucket = BucketKey::new(&tag, "[]");
    let writer = begun(&store, Some(std::slice::from_ref(&tag))).await;
    let generation = store.generation(writer.control().generation).await.unwrap().unwrap();
    let mut applier = Applier::new(writer, generation, vec![todos()]);
    insert(&mut applier, "a").await;
    insert(&mut applier, "b").await;
    commit(&mut applier.writer).await;

    // Neither a horizon nor a grace period: the first pass makes the base, the second deletes.
    let options = Options {
        threshold: 1,
        horizon: Duration::ZERO,
        grace: Duration::ZERO,
        ..Options::default()
    };
    for published in [1, 0] {
        let report = run_pass(&store, &options, NOW, None).await.unwrap();
        assert_eq!(report.published, published);
    }
    assert!(log(&store, &bucket).await.is_empty());

    insert(&mut applier, "c").await;
    applier.truncate(0).await.unwrap();
    commit(&mut applier.writer).await;
    assert_eq!(log(&store, &bucket).await, ["+c", "-a", "-b", "-c"]);
}
