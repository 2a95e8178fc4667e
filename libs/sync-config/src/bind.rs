//! A plan tied to a live table: names become indices, types become converters.

use crate::converter::{Converter, Converters};
use crate::evaluate::{
    BoundExpression, BoundItem, BoundLeaf, BoundLookup, BoundProjection, BoundQuery, BoundRows,
    ItemSource, TableEvaluator,
};
use crate::functions::Function;
use crate::json;
use crate::pg_type::Scalar;
use crate::plan::{DataQuery, LookupPlan, Plan, ProjectionItem, RowExpression, RowLeaf, RowQuery};
use crate::schema::TableSchema;

/// Binds the queries and lookups of a table. The table was checked.
pub(crate) fn bind(plan: &Plan, index: usize, table: &TableSchema) -> Option<TableEvaluator> {
    let mut binder = Binder {
        table,
        converters: Converters::of_table(table, plan.values),
        columns_read: vec![false; table.columns.len()],
        projections: Vec::new(),
    };
    let mut queries = Vec::new();
    for (definition, definition_plan) in plan.definitions.iter().enumerate() {
        for query in definition_plan.queries.iter().filter(|query| query.rows.table == index) {
            queries.push(binder.query(definition, &definition_plan.name, query)?);
        }
    }
    let mut lookups = Vec::new();
    for (lookup, lookup_plan) in plan.lookups.iter().enumerate() {
        if lookup_plan.rows.table == index {
            lookups.push(binder.lookup(lookup, lookup_plan)?);
        }
    }
    let Binder { converters, columns_read, projections, .. } = binder;
    let projections = projections.into_iter().map(|(_, _, bound)| bound).collect();
    Some(TableEvaluator { table: index, converters, columns_read, projections, queries, lookups })
}

struct Binder<'a> {
    table: &'a TableSchema,
    converters: Converters,
    columns_read: Vec<bool>,
    /// What queries select alike is written once per row.
    projections: Vec<(&'a str, &'a [ProjectionItem], BoundProjection)>,
}

impl<'a> Binder<'a> {
    fn query(&mut self, definition: usize, name: &str, query: &'a DataQuery) -> Option<BoundQuery> {
        let projection = self.projection(&query.object_type, &query.projection)?;
        Some(BoundQuery {
            definition,
            name: name.to_owned(),
            projection,
            rows: self.rows(&query.rows)?,
        })
    }

    fn lookup(&mut self, lookup: usize, plan: &LookupPlan) -> Option<BoundLookup> {
        Some(BoundLookup {
            lookup,
            rows: self.rows(&plan.rows)?,
            outputs: self.expressions(&plan.outputs)?,
        })
    }

    /// What the filter says of the row alone is asked before the arrays are looked at.
    fn rows(&mut self, rows: &RowQuery) -> Option<BoundRows> {
        let filters = match &rows.filter {
            None => &[][..],
            Some(RowExpression::And(list)) => list,
            Some(filter) => std::slice::from_ref(filter),
        };
        let (of_elements, of_row): (Vec<_>, Vec<_>) =
            filters.iter().cloned().partition(is_of_element);
        Some(BoundRows {
            filters: self.expressions(&of_row)?,
            arrays: self.expressions(&rows.arrays)?,
            element_filters: self.expressions(&of_elements)?,
            keys: self.expressions(&rows.keys)?,
        })
    }

    fn expressions(&mut self, expressions: &[RowExpression]) -> Option<Vec<BoundExpression>> {
        expressions.iter().map(|expression| self.expression(expression)).collect()
    }

    fn expression(&mut self, expression: &RowExpression) -> Option<BoundExpression> {
        let leaf = &mut |leaf: &RowLeaf| match leaf {
            RowLeaf::Column(name) => self.column(name).map(BoundLeaf::Column).ok_or(()),
            RowLeaf::Element(index) => Ok(BoundLeaf::Element(*index)),
            RowLeaf::Key(index) => Ok(BoundLeaf::Key(*index)),
        };
        expression.try_map(leaf).ok()
    }

    fn column(&mut self, name: &str) -> Option<usize> {
        let index = self.table.column(name)?;
        self.columns_read[index] = true;
        Some(index)
    }

    fn projection(&mut self, object_type: &'a str, items: &'a [ProjectionItem]) -> Option<usize> {
        let same =
            |known: &(&str, &[ProjectionItem], _)| known.0 == object_type && known.1 == items;
        if let Some(index) = self.projections.iter().position(same) {
            return Some(index);
        }
        let mut columns: Vec<(String, ItemSource)> = Vec::new();
        for item in items {
            match item {
                ProjectionItem::All { skip_underscore } => {
                    for (index, column) in self.table.columns.iter().enumerate() {
                        if !*skip_underscore {
                            set(&mut columns, &column.name, ItemSource::Column(index));
                        } else if !column.name.starts_with('_') {
                            fill(&mut columns, &column.name, index);
                        }
                    }
                }
                ProjectionItem::Expression { name, expression } => {
                    let source = if let RowExpression::Leaf(RowLeaf::Column(column)) = expression {
                        ItemSource::Column(self.column(column)?)
                    } else {
                        ItemSource::Expression(self.expression(expression)?)
                    };
                    set(&mut columns, name, source);
                }
            }
        }
        // Rows cannot hold bytes, so they are not even read.
        let is_bytes = |source: &ItemSource| match source {
            ItemSource::Column(index) => {
                self.converters.columns[*index] == Converter::Scalar(Scalar::Bytes)
            }
            ItemSource::Expression(_) => false,
        };
        columns.retain(|(name, source)| name == "id" || !is_bytes(source));
        for (_, source) in &columns {
            if let ItemSource::Column(index) = source {
                self.columns_read[*index] = true;
            }
        }
        let id = columns.iter().position(|(name, _)| name == "id")?;
        let bound = BoundProjection {
            object_type: object_type.to_owned(),
            items: columns
                .into_iter()
                .map(|(name, source)| BoundItem { key: json::key(&name), source })
                .collect(),
            id,
        };
        self.projections.push((object_type, items, bound));
        Some(self.projections.len() - 1)
    }
}

fn is_of_element(filter: &RowExpression) -> bool {
    let mut found = false;
    filter
        .for_each_leaf(&mut |leaf| found |= matches!(leaf, RowLeaf::Element(_) | RowLeaf::Key(_)));
    found
}

/// Later columns take the place of former ones of their name.
fn set(columns: &mut Vec<(String, ItemSource)>, name: &str, source: ItemSource) {
    match columns.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = source,
        None => columns.push((name.to_owned(), source)),
    }
}

/// Before edition 3 `*` gives only what is not there yet, or is NULL.
fn fill(columns: &mut Vec<(String, ItemSource)>, name: &str, index: usize) {
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
