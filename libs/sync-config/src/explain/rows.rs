//! Rows in buckets, and the cost of their changes.

use std::collections::BTreeSet;

use super::names::{RowNames, table_text};
use super::{RowsExplanation, TableExplanation};
use crate::expression::quote::identifier;
use crate::plan::{
    DataQuery, LookupPlan, ObjectType, ProjectionItem, RowExpression, RowLeaf, RowQuery, SyncPlan,
};

pub(super) fn explain(plan: &SyncPlan, query: &DataQuery) -> RowsExplanation {
    let names = RowNames::new(&query.rows, None);

    let columns = query.projection.iter().map(|item| match item {
        ProjectionItem::All { .. } => "*".to_owned(),
        ProjectionItem::Expression { name, expression } => {
            let text = names.text(expression);
            let name = identifier(name);
            if text == name { name } else { format!("{text} AS {name}") }
        }
    });
    let without_underscore = query
        .projection
        .iter()
        .any(|item| matches!(item, ProjectionItem::All { skip_underscore: true }));

    let mut reads = ColumnsRead::default();
    reads.query(query);
    let table = &plan.tables[query.rows.table];

    RowsExplanation {
        table: table_text(table),
        output_table: match &query.object_type {
            ObjectType::Named(name) => name.clone(),
            ObjectType::OfTable => table.name.clone(),
        },
        columns: columns.collect(),
        without_underscore,
        conditions: names.conditions(query.rows.filter.as_ref()),
        keys: names.texts(&query.rows.keys),
        arrays: names.arrays,
        reads: reads.into_list(),
    }
}

pub(super) fn explain_table(plan: &SyncPlan, table: usize) -> TableExplanation {
    let mut reads = ColumnsRead::default();
    let mut families = 0;
    for definition in &plan.definitions {
        let mut is_in = false;
        for query in definition.queries.iter().filter(|query| query.rows.table == table) {
            reads.query(query);
            is_in = true;
        }
        families += usize::from(is_in);
    }

    let mut lookups = 0;
    for lookup in plan.lookups.iter().filter(|lookup| lookup.rows.table == table) {
        reads.lookup(lookup);
        lookups += 1;
    }

    let table = table_text(&plan.tables[table]);
    TableExplanation { table, families, lookups, reads: reads.into_list() }
}

/// Columns that are read.
#[derive(Default)]
struct ColumnsRead {
    all: bool,
    columns: BTreeSet<String>,
}

impl ColumnsRead {
    fn query(&mut self, query: &DataQuery) {
        self.rows(&query.rows);
        for item in &query.projection {
            match item {
                ProjectionItem::All { .. } => self.all = true,
                ProjectionItem::Expression { expression, .. } => self.expression(expression),
            }
        }
    }

    fn lookup(&mut self, lookup: &LookupPlan) {
        self.rows(&lookup.rows);
        lookup.outputs.iter().for_each(|output| self.expression(output));
    }

    fn rows(&mut self, rows: &RowQuery) {
        let expressions = rows.arrays.iter().chain(&rows.filter).chain(&rows.keys);
        expressions.for_each(|expression| self.expression(expression));
    }

    fn expression(&mut self, expression: &RowExpression) {
        expression.for_each_leaf(&mut |leaf| match leaf {
            RowLeaf::Column(name) => {
                self.columns.insert(name.clone());
            }
            RowLeaf::TableMetadata(_) | RowLeaf::Element(_) | RowLeaf::Key(_) => {}
        });
    }

    fn into_list(self) -> Vec<String> {
        if self.all { vec!["*".to_owned()] } else { self.columns.into_iter().collect() }
    }
}
