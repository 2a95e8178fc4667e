//! Tables and messages that several unit tests need.

use std::sync::Arc;

use bytes::Bytes;
use tidewater_protocol::{Body, OpId};
use tidewater_storage::conformance::{empty_generation, first_control};
use tidewater_storage::{
    BucketKey, Control, ControlStore, Embedded, Generation, Lsn, Numbering, OpLog, SegmentReader,
    Tag, Ticket,
};
use tidewater_sync_config::{Column, PgTypes, SyncConfig, TableSchema, UnionEvaluator};

use crate::apply::applier::{Applier, SyncedTable};
use crate::log::writer::{CommitOptions, LogWriter, nonce};
use crate::source::catalog::{CheckFacts, ShapeFacts, SourceTable};
use crate::source::pgoutput::{Datum, Relation, RelationColumn, encode};

/// A config that reads a table with a key, and one without.
pub(crate) const CONFIG: &str = "
config: {edition: 3}
streams:
  todos: {auto_subscribe: true, query: SELECT * FROM todos}
  notes: {auto_subscribe: true, query: SELECT id FROM notes}
";
/// Indexes of the tables in the config.
pub(crate) const TODOS: usize = 0;
pub(crate) const NOTES: usize = 1;

/// PostgreSQL's `text`.
const TEXT_OID: u32 = 25;
/// The table ids begin here.
const FIRST_OID: u32 = 100;

pub(crate) fn compiled() -> SyncConfig {
    SyncConfig::compile(CONFIG).unwrap()
}

/// A table with the text columns `id` and `body`. Its key is `id`, unless it is keyless.
pub(crate) fn table(oid: u32, name: &str, is_keyless: bool) -> SourceTable {
    SourceTable {
        oid,
        schema: TableSchema {
            schema: "public".into(),
            name: name.into(),
            columns: vec![text_column("id"), text_column("body")],
            types: PgTypes::default(),
        },
        column_types: vec!["text".into(); 2],
        kind: 'r',
        replica_identity: if is_keyless { 'f' } else { 'd' },
        key: if is_keyless { Vec::new() } else { vec![0] },
        may_select: true,
        row_security: false,
        is_published: true,
        has_row_filter: false,
        estimated_rows: 0.0,
        facts: ShapeFacts::default(),
        check: CheckFacts::default(),
    }
}

fn text_column(name: &str) -> Column {
    Column { name: name.into(), type_oid: TEXT_OID }
}

/// The tables of [`CONFIG`], in its order.
pub(crate) fn tables() -> Vec<SourceTable> {
    vec![table(oid(TODOS), "todos", false), table(oid(NOTES), "notes", true)]
}

/// The tables of [`CONFIG`] as a run has them, numbered by their indexes.
pub(crate) fn synced_tables() -> Arc<[SyncedTable]> {
    let config = compiled();
    let synced = |(number, table): (u16, SourceTable)| SyncedTable {
        number,
        evaluator: evaluator(&config, &table),
        table,
        copied_after: Lsn(0),
        has_former_rows: false,
        is_extended: false,
    };
    (0..).zip(tables()).map(synced).collect()
}

/// The evaluator of a table's rows for one config, whose definitions are numbered in its order.
pub(crate) fn evaluator(config: &SyncConfig, table: &SourceTable) -> UnionEvaluator {
    let bound = config.bind(&table.schema).unwrap().unwrap();
    let numbers: Vec<_> = (0..100).collect();
    let mut union = UnionEvaluator::default();
    union.add(bound, &numbers, &numbers, true);
    union
}

/// The id of a table of [`CONFIG`].
pub(crate) fn oid(table: usize) -> u32 {
    FIRST_OID + u32::try_from(table).unwrap()
}

/// A table as the stream describes it while it is as the catalog says.
pub(crate) fn relation(table: &SourceTable) -> Relation {
    let columns = table.schema.columns.iter().enumerate().map(|(at, column)| RelationColumn {
        in_identity: table.replica_identity == 'f' || table.key.contains(&at),
        name: column.name.clone(),
        type_oid: column.type_oid,
    });
    Relation {
        oid: table.oid,
        schema: table.schema.schema.clone(),
        name: table.schema.name.clone(),
        replica_identity: u8::try_from(table.replica_identity).unwrap(),
        columns: columns.collect(),
    }
}

/// The message that describes a table of [`CONFIG`].
pub(crate) fn relation_message(table: usize) -> Bytes {
    encode::relation(&relation(&tables()[table])).into()
}

/// The message that inserts a row.
pub(crate) fn insert_message(table: usize, id: &str) -> Bytes {
    encode::insert(oid(table), &[Datum::Text(id), Datum::Text("body")]).into()
}

/// A control record that has committed up to this position.
pub(crate) fn control_at(lsn: u64) -> Control {
    let mut control = first_control();
    control.committed.lsn = Lsn(lsn);
    control
}

/// A generation of [`CONFIG`], or of another config with at most two definitions and no lookups.
pub(crate) fn generation() -> Generation {
    Generation {
        sync_config: CONFIG.into(),
        definitions: vec![Tag::from_bits(0), Tag::from_bits(1)],
        definition_numbers: Numbering::first(2).unwrap(),
        ..empty_generation(first_control().generation)
    }
}

/// Begins the first run on a store, or the next one.
pub(crate) async fn begun(storage: &Embedded) -> Applier<Embedded> {
    begun_with(storage, synced_tables()).await
}

/// Does the same with other tables. Their config has at most two definitions.
pub(crate) async fn begun_with(
    storage: &Embedded,
    tables: Arc<[SyncedTable]>,
) -> Applier<Embedded> {
    let former = storage.control().await.unwrap();
    let (next, archived) = match &former {
        Some(former) => former.after_takeover(nonce().unwrap()).unwrap(),
        None => (first_control(), Vec::new()),
    };

    let generation = generation();
    let new = former.is_none().then_some(&generation);
    let writer = LogWriter::take_over(storage.clone(), former, next, archived, new).await.unwrap();
    Applier::new(writer, generation, tables)
}

/// Commits everything that was applied.
pub(crate) async fn commit(applier: &mut Applier<Embedded>) {
    applier.start_commit(Lsn(1), Ticket(0), CommitOptions::default(), None).await.unwrap();
    applier.writer.finish().await.unwrap();
}

/// The operations of a table's bucket, each with the id and the data of its row.
pub(crate) async fn operations(storage: &Embedded, table: usize) -> Vec<String> {
    let bucket = BucketKey::new(&Tag::from_bits(u32::try_from(table).unwrap()), "[]");
    let page = storage.segments(&bucket, OpId::ZERO, OpId::MAX, usize::MAX).await.unwrap();
    let operations = page.segments.iter().flat_map(|segment| SegmentReader::new(&segment.payload));
    operations.map(|operation| describe(&operation.unwrap().body)).collect()
}

fn describe(body: &Body<'_>) -> String {
    match body {
        Body::Put { row, data } => format!("PUT {} {data}", row.object_id),
        Body::Remove { row } => format!("REMOVE {}", row.object_id),
        Body::Move | Body::Clear => unreachable!("the worker writes PUT and REMOVE only"),
    }
}
