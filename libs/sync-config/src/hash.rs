//! The identity of what a definition or lookup holds: equal hashes, equal contents.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::plan::{DefinitionPlan, LookupPlan, Plan, ProjectionItem, RowExpression, RowKey};
use crate::{EVALUATOR_VERSION, TableName};

/// What is hashed, as JSON. Requests are not in it: they decide who reads, not what there is.
#[derive(Serialize)]
struct Canonical<T> {
    evaluator_version: u32,
    values: crate::options::ValueOptions,
    content: T,
}

#[derive(Serialize)]
struct CanonicalDefinition<'a> {
    name: &'a str,
    queries: Vec<CanonicalQuery<'a>>,
}

#[derive(Serialize)]
struct CanonicalQuery<'a> {
    table: CanonicalTable<'a>,
    object_type: &'a str,
    projection: &'a [ProjectionItem],
    filter: &'a Option<RowExpression>,
    keys: &'a [RowKey],
}

#[derive(Serialize)]
struct CanonicalLookup<'a> {
    table: CanonicalTable<'a>,
    filter: &'a Option<RowExpression>,
    keys: &'a [RowKey],
    outputs: &'a [RowExpression],
}

#[derive(Serialize)]
struct CanonicalTable<'a> {
    schema: &'a str,
    name: &'a str,
}

impl<'a> CanonicalTable<'a> {
    fn new(table: &'a TableName) -> Self {
        Self { schema: &table.schema, name: &table.name }
    }
}

impl Plan {
    /// Of a definition: its name too, as it is part of its buckets' names.
    pub(crate) fn definition_hash(&self, definition: &DefinitionPlan) -> String {
        let queries = definition.queries.iter().map(|query| CanonicalQuery {
            table: CanonicalTable::new(&self.tables[query.table]),
            object_type: &query.object_type,
            projection: &query.projection,
            filter: &query.filter,
            keys: &query.keys,
        });
        let content = CanonicalDefinition { name: &definition.name, queries: queries.collect() };
        self.hash(content)
    }

    pub(crate) fn lookup_hash(&self, lookup: &LookupPlan) -> String {
        self.hash(CanonicalLookup {
            table: CanonicalTable::new(&self.tables[lookup.table]),
            filter: &lookup.filter,
            keys: &lookup.keys,
            outputs: &lookup.outputs,
        })
    }

    fn hash(&self, content: impl Serialize) -> String {
        let canonical =
            Canonical { evaluator_version: EVALUATOR_VERSION, values: self.values, content };
        let json = serde_json::to_vec(&canonical)
            .expect("strings, numbers and lists of them always serialise");
        format!("{:x}", Sha256::digest(json))
    }
}
