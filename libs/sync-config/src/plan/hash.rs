//! Hashes of definitions and lookups: equal hashes mean equal contents.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    DataQuery, DefinitionPlan, LookupPlan, ObjectType, ProjectionItem, RowExpression, RowQuery,
    SyncPlan,
};
use crate::schema::TablePattern;
use crate::value::ValueOptions;

/// Version of the evaluator, a part of every definition hash. Raise it if the same config would
/// yield other rows.
pub const EVALUATOR_VERSION: u32 = 3;

/// Hashed content, as JSON. It has no request side, which decides who reads a bucket but not what
/// is in it.
#[derive(Serialize)]
struct Canonical<T> {
    evaluator_version: u32,
    values: ValueOptions,
    content: T,
}

#[derive(Serialize)]
struct CanonicalDefinition<'a> {
    name: &'a str,
    queries: Vec<CanonicalQuery<'a>>,
}

#[derive(Serialize)]
struct CanonicalQuery<'a> {
    rows: CanonicalRows<'a>,
    object_type: &'a ObjectType,
    projection: &'a [ProjectionItem],
}

#[derive(Serialize)]
struct CanonicalLookup<'a> {
    rows: CanonicalRows<'a>,
    outputs: &'a [RowExpression],
}

#[derive(Serialize)]
struct CanonicalRows<'a> {
    table: CanonicalTable<'a>,
    arrays: &'a [RowExpression],
    filter: &'a Option<RowExpression>,
    keys: &'a [RowExpression],
}

#[derive(Serialize)]
struct CanonicalTable<'a> {
    schema: &'a str,
    name: &'a str,
}

impl<'a> CanonicalTable<'a> {
    fn new(table: &'a TablePattern) -> Self {
        Self { schema: &table.schema, name: &table.name }
    }
}

impl SyncPlan {
    /// Returns the hash of a definition. It covers the name of the stream, as each stream has its
    /// own buckets, but not the number after `|`.
    pub(crate) fn definition_hash(&self, definition: &DefinitionPlan) -> String {
        let mut queries: Vec<_> = definition.queries.iter().collect();
        self.sort(&mut queries);
        let queries = queries.into_iter().map(|query| CanonicalQuery {
            rows: self.canonical_rows(&query.rows),
            object_type: &query.object_type,
            projection: &query.projection,
        });
        let name = definition.name.split('|').next().unwrap_or_default();
        self.hash(&CanonicalDefinition { name, queries: queries.collect() })
    }

    pub(crate) fn lookup_hash(&self, lookup: &LookupPlan) -> String {
        self.hash(&CanonicalLookup {
            rows: self.canonical_rows(&lookup.rows),
            outputs: &lookup.outputs,
        })
    }

    /// Sorts queries into a canonical order where their order has no effect. It has an effect if
    /// several queries make different objects of the same type from one row.
    fn sort(&self, queries: &mut [&DataQuery]) {
        // A table may match both a wildcard and another pattern.
        let has_wildcards = queries.iter().any(|query| self.tables[query.rows.table].is_wildcard());
        let group = |query: &DataQuery| {
            let TablePattern { schema, name } = &self.tables[query.rows.table];
            (!has_wildcards).then(|| (schema.clone(), name.clone(), query.object_type.clone()))
        };
        queries.sort_by_cached_key(|query| group(query));

        for alike in queries.chunk_by_mut(|a, b| group(a) == group(b)) {
            let make_the_same = alike.iter().all(|query| {
                (&query.object_type, &query.projection)
                    == (&alike[0].object_type, &alike[0].projection)
            });
            if make_the_same {
                alike.sort_by_cached_key(|query| to_json(&self.canonical_rows(&query.rows)));
            }
        }
    }

    fn canonical_rows<'a>(&'a self, rows: &'a RowQuery) -> CanonicalRows<'a> {
        CanonicalRows {
            table: CanonicalTable::new(&self.tables[rows.table]),
            arrays: &rows.arrays,
            filter: &rows.filter,
            keys: &rows.keys,
        }
    }

    fn hash(&self, content: &impl Serialize) -> String {
        let canonical =
            Canonical { evaluator_version: EVALUATOR_VERSION, values: self.values, content };
        format!("{:x}", Sha256::digest(to_json(&canonical)))
    }
}

fn to_json(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(content).expect("strings, numbers and lists of them always serialise")
}
