//! Binds a plan to a table of the database: names become indexes, types become converters.

use std::collections::BTreeSet;

use super::evaluate::{
    BoundExpression, BoundItem, BoundLeaf, BoundLookup, BoundProjection, BoundQuery, BoundRows,
    ItemSource, QualifiedName, TableEvaluator,
};
use crate::functions::Function;
use crate::pg::builtin_types::Scalar;
use crate::pg::converter::{Converter, Converters};
use crate::plan::{
    DataQuery, LookupPlan, ObjectType, ProjectionItem, RowExpression, RowLeaf, RowQuery, SyncPlan,
    TableMetadata,
};
use crate::schema::TableSchema;
use crate::value::json;

/// Binds the queries and lookups that read a table. The caller has checked the table. Returns
/// `None` if it lacks a column that is needed.
pub(crate) fn bind(plan: &SyncPlan, table: &TableSchema) -> Option<TableEvaluator> {
    let mut binder = Binder {
        plan,
        table,
        converters: Converters::new(table.type_oids(), &table.types, plan.values),
        columns_read: vec![false; table.columns.len()],
        projections: Vec::new(),
    };

    let mut queries = Vec::new();
    for (definition, definition_plan) in plan.definitions.iter().enumerate() {
        for (place, query) in definition_plan.queries.iter().enumerate() {
            if !table.is(&plan.tables[query.rows.table]) {
                continue;
            }
            match binder.bind_query(definition, &definition_plan.name, query) {
                Some(query) => queries.push(BoundQuery { place, ..query }),
                // The table has no `id`; `check` reports a warning.
                None if plan.tables[query.rows.table].is_wildcard() => {}
                None => return None,
            }
        }
    }

    let mut lookups = Vec::new();
    for (lookup, lookup_plan) in plan.lookups.iter().enumerate() {
        if table.is(&plan.tables[lookup_plan.rows.table]) {
            lookups.push(binder.bind_lookup(lookup, lookup_plan)?);
        }
    }

    let Binder { converters, columns_read, projections, .. } = binder;
    let projections = projections.into_iter().map(|(_, bound)| bound).collect();
    let TableSchema { schema, name, .. } = table;
    let name = QualifiedName { schema: schema.clone(), name: name.clone() };

    Some(TableEvaluator { name, converters, columns_read, projections, queries, lookups })
}

struct Binder<'a> {
    plan: &'a SyncPlan,
    table: &'a TableSchema,
    converters: Converters,
    columns_read: Vec<bool>,
    /// Projections with the query that each was made for. Queries with equal projections share one,
    /// so that the data is written once per row.
    projections: Vec<(&'a DataQuery, BoundProjection)>,
}

impl<'a> Binder<'a> {
    fn bind_query(
        &mut self,
        definition: usize,
        name: &str,
        query: &'a DataQuery,
    ) -> Option<BoundQuery> {
        let projection = self.bind_projection(query)?;
        Some(BoundQuery {
            definition,
            place: 0,
            name: name.to_owned(),
            projection,
            rows: self.bind_rows(&query.rows)?,
        })
    }

    fn bind_lookup(&mut self, lookup: usize, plan: &LookupPlan) -> Option<BoundLookup> {
        Some(BoundLookup {
            lookup,
            rows: self.bind_rows(&plan.rows)?,
            outputs: self.bind_expressions(plan.rows.table, &plan.outputs)?,
        })
    }

    /// Splits the filter: conditions on the row alone are evaluated before its arrays are parsed.
    fn bind_rows(&mut self, rows: &RowQuery) -> Option<BoundRows> {
        let filters = match &rows.filter {
            None => &[][..],
            Some(RowExpression::And(list)) => list,
            Some(filter) => std::slice::from_ref(filter),
        };
        let (of_elements, of_row): (Vec<_>, Vec<_>) =
            filters.iter().cloned().partition(is_of_element);

        Some(BoundRows {
            filters: self.bind_expressions(rows.table, &of_row)?,
            arrays: self.bind_expressions(rows.table, &rows.arrays)?,
            element_filters: self.bind_expressions(rows.table, &of_elements)?,
            keys: self.bind_expressions(rows.table, &rows.keys)?,
        })
    }

    fn bind_expressions(
        &mut self,
        pattern: usize,
        expressions: &[RowExpression],
    ) -> Option<Vec<BoundExpression>> {
        expressions.iter().map(|expression| self.bind_expression(pattern, expression)).collect()
    }

    /// Binds an expression. Returns `None` if the table lacks a column. In a table found by a
    /// pattern, such a column is NULL.
    fn bind_expression(
        &mut self,
        pattern: usize,
        expression: &RowExpression,
    ) -> Option<BoundExpression> {
        let pattern = &self.plan.tables[pattern];
        let leaf = &mut |leaf: &RowLeaf| match leaf {
            RowLeaf::Column(name) => match self.read_column(name) {
                Some(column) => Ok(BoundLeaf::Column(column)),
                None if pattern.is_wildcard() => Ok(BoundLeaf::Missing),
                None => Err(()),
            },
            RowLeaf::TableMetadata(TableMetadata::Schema) => Ok(BoundLeaf::Schema),
            RowLeaf::TableMetadata(TableMetadata::Name) => Ok(BoundLeaf::Name { from: 0 }),
            RowLeaf::TableMetadata(TableMetadata::Suffix) => {
                Ok(BoundLeaf::Name { from: pattern.suffix_start() })
            }
            RowLeaf::Element(index) => Ok(BoundLeaf::Element(*index)),
            RowLeaf::Key(index) => Ok(BoundLeaf::Key(*index)),
        };

        expression.try_map(leaf).ok()
    }

    /// Returns the index of a column and marks it as read.
    fn read_column(&mut self, name: &str) -> Option<usize> {
        let index = self.table.column(name)?;
        self.columns_read[index] = true;
        Some(index)
    }

    /// Returns the index of the query's projection, which an earlier query may have added.
    fn bind_projection(&mut self, query: &'a DataQuery) -> Option<usize> {
        // Projections of different patterns are never shared: a column that one requires may be
        // optional in the other.
        let known = self.projections.iter().position(|(known, _)| {
            known.object_type == query.object_type
                && known.projection == query.projection
                && known.rows.table == query.rows.table
        });
        if known.is_some() {
            return known;
        }

        let mut columns = self.projected_columns(query)?;

        // Rows cannot contain `bytea`, so these columns are not read.
        columns.retain(|(name, source)| name == "id" || !self.is_bytes(source));

        for (_, source) in &columns {
            if let ItemSource::Column(index) = source {
                self.columns_read[*index] = true;
            }
        }

        let id = columns.iter().position(|(name, _)| name == "id")?;
        let object_type = match &query.object_type {
            ObjectType::Named(name) => name,
            ObjectType::OfTable => &self.table.name,
        };

        let contained: BTreeSet<_> = columns
            .iter()
            .filter_map(|(_, source)| match source {
                ItemSource::Column(column) => Some(*column),
                ItemSource::Expression(_) => None,
            })
            .collect();
        let bound = BoundProjection {
            object_type: object_type.clone(),
            contains_all_columns: contained.len() == self.table.columns.len(),
            items: columns
                .into_iter()
                .map(|(name, source)| BoundItem { key: json::key(&name), source })
                .collect(),
            id,
        };

        self.projections.push((query, bound));
        Some(self.projections.len() - 1)
    }

    /// Returns the output columns with their names.
    fn projected_columns(&mut self, query: &DataQuery) -> Option<Vec<(String, ItemSource)>> {
        let pattern = query.rows.table;
        let mut columns = Vec::new();
        for item in &query.projection {
            match item {
                ProjectionItem::All { skip_underscore } => {
                    for (index, column) in self.table.columns.iter().enumerate() {
                        if !*skip_underscore {
                            set_column(&mut columns, &column.name, ItemSource::Column(index));
                        } else if !column.name.starts_with('_') {
                            fill_column(&mut columns, &column.name, index);
                        }
                    }
                }
                ProjectionItem::Expression { name, expression } => {
                    let source = if let RowExpression::Leaf(RowLeaf::Column(column)) = expression {
                        match self.read_column(column) {
                            Some(column) => ItemSource::Column(column),
                            None if self.plan.tables[pattern].is_wildcard() => continue,
                            None => return None,
                        }
                    } else {
                        ItemSource::Expression(self.bind_expression(pattern, expression)?)
                    };

                    set_column(&mut columns, name, source);
                }
            }
        }

        Some(columns)
    }

    fn is_bytes(&self, source: &ItemSource) -> bool {
        match source {
            ItemSource::Column(index) => {
                self.converters.columns[*index] == Converter::Scalar(Scalar::Bytes)
            }
            ItemSource::Expression(_) => false,
        }
    }
}

pub(super) fn is_of_element(filter: &RowExpression) -> bool {
    let mut found = false;
    filter
        .for_each_leaf(&mut |leaf| found |= matches!(leaf, RowLeaf::Element(_) | RowLeaf::Key(_)));
    found
}

/// Sets a column, replacing an earlier one with its name.
fn set_column(columns: &mut Vec<(String, ItemSource)>, name: &str, source: ItemSource) {
    match columns.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = source,
        None => columns.push((name.to_owned(), source)),
    }
}

/// Adds a column of `*` before edition 3: it does not replace an earlier one with its name, unless
/// that is NULL.
fn fill_column(columns: &mut Vec<(String, ItemSource)>, name: &str, index: usize) {
    let Some((_, known)) = columns.iter_mut().find(|(known, _)| known == name) else {
        columns.push((name.to_owned(), ItemSource::Column(index)));
        return;
    };
    let column = BoundExpression::Leaf(BoundLeaf::Column(index));
    let first = match std::mem::replace(known, ItemSource::Column(index)) {
        ItemSource::Column(column) => BoundExpression::Leaf(BoundLeaf::Column(column)),
        ItemSource::Expression(expression) => expression,
    };
    let arguments = vec![first, column];
    *known =
        ItemSource::Expression(BoundExpression::Call { function: Function::IfNull, arguments });
}
