//! Hashes of definitions and lookups: equal hashes mean equal contents.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    DataQuery, DefinitionPlan, LookupPlan, ObjectType, ProjectionItem, RowExpression, RowQuery,
    SyncPlan,
};
use crate::functions::Function;
use crate::schema::TablePattern;
use crate::value::ValueOptions;

/// Version of the evaluator, a part of every definition hash. Raise it if the same config would
/// yield other rows.
pub const EVALUATOR_VERSION: u32 = 3;

/// Version for definitions and lookups that read JSON. It rises with [`EVALUATOR_VERSION`], and alone
/// if only JSON is read otherwise: what reads none is then not copied again. Since 4, JSON is read
/// that is nested more than 128 levels deep or has numbers beyond an `f64`.
const JSON_EVALUATOR_VERSION: u32 = 4;

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
        let reads_json = definition.queries.iter().any(|query| {
            let columns = query.projection.iter().any(|item| match item {
                ProjectionItem::Expression { expression, .. } => reads_json(expression),
                ProjectionItem::All { .. } => false,
            });
            columns || rows_read_json(&query.rows)
        });
        self.hash(reads_json, &CanonicalDefinition { name, queries: queries.collect() })
    }

    pub(crate) fn lookup_hash(&self, lookup: &LookupPlan) -> String {
        let reads_json = lookup.outputs.iter().any(reads_json) || rows_read_json(&lookup.rows);
        let rows = self.canonical_rows(&lookup.rows);
        self.hash(reads_json, &CanonicalLookup { rows, outputs: &lookup.outputs })
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

    fn hash(&self, reads_json: bool, content: &impl Serialize) -> String {
        let evaluator_version = if reads_json { JSON_EVALUATOR_VERSION } else { EVALUATOR_VERSION };
        let canonical = Canonical { evaluator_version, values: self.values, content };
        format!("{:x}", Sha256::digest(to_json(&canonical)))
    }
}

fn rows_read_json(rows: &RowQuery) -> bool {
    !rows.arrays.is_empty() || rows.filter.iter().chain(&rows.keys).any(reads_json)
}

/// Returns whether an expression parses a JSON text.
fn reads_json(expression: &RowExpression) -> bool {
    let mut found = match expression {
        RowExpression::Json { .. }
        | RowExpression::InArray { .. }
        | RowExpression::Each(_)
        | RowExpression::Overlap { .. } => true,
        RowExpression::Call { function, .. } => matches!(
            function,
            Function::JsonExtract
                | Function::JsonArrayLength
                | Function::JsonValid
                | Function::JsonKeys
        ),
        RowExpression::Leaf(_)
        | RowExpression::Literal(_)
        | RowExpression::And(_)
        | RowExpression::Or(_)
        | RowExpression::Not(_)
        | RowExpression::Compare { .. }
        | RowExpression::Arithmetic { .. }
        | RowExpression::Concat { .. }
        | RowExpression::IsNull { .. }
        | RowExpression::Is { .. }
        | RowExpression::Between { .. }
        | RowExpression::Like { .. }
        | RowExpression::Case { .. }
        | RowExpression::Cast { .. }
        | RowExpression::InList { .. } => false,
    };
    expression.for_each_child(&mut |child| found |= reads_json(child));
    found
}

fn to_json(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(content).expect("strings, numbers and lists of them always serialise")
}
