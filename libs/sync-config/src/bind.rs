//! A plan tied to a live table: names become indices, types become converters.

use crate::converter::{Converter, Converters};
use crate::evaluate::{
    BoundExpression, BoundItem, BoundKey, BoundLookup, BoundProjection, BoundQuery, ItemSource,
    TableEvaluator,
};
use crate::json;
use crate::pg_type::Scalar;
use crate::plan::{DataQuery, LookupPlan, Plan, ProjectionItem, RowExpression, RowKey};
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
        for query in definition_plan.queries.iter().filter(|query| query.table == index) {
            queries.push(binder.query(definition, &definition_plan.name, query)?);
        }
    }
    let mut lookups = Vec::new();
    for (lookup, lookup_plan) in plan.lookups.iter().enumerate() {
        if lookup_plan.table == index {
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
            filter: self.filter(query.filter.as_ref())?,
            keys: self.keys(&query.keys)?,
        })
    }

    fn lookup(&mut self, lookup: usize, plan: &LookupPlan) -> Option<BoundLookup> {
        Some(BoundLookup {
            lookup,
            filter: self.filter(plan.filter.as_ref())?,
            keys: self.keys(&plan.keys)?,
            outputs: plan
                .outputs
                .iter()
                .map(|output| self.expression(output).map(BoundKey::Value))
                .collect::<Option<_>>()?,
        })
    }

    #[expect(clippy::option_option, reason = "the outer one is of a column that is missing")]
    fn filter(&mut self, filter: Option<&RowExpression>) -> Option<Option<BoundExpression>> {
        filter.map_or(Some(None), |filter| self.expression(filter).map(Some))
    }

    fn keys(&mut self, keys: &[RowKey]) -> Option<Vec<BoundKey>> {
        keys.iter()
            .map(|key| match key {
                RowKey::Value(expression) => self.expression(expression).map(BoundKey::Value),
                RowKey::Each(expression) => self.expression(expression).map(BoundKey::Each),
            })
            .collect()
    }

    fn expression(&mut self, expression: &RowExpression) -> Option<BoundExpression> {
        expression.try_map(&mut |name| self.column(name).ok_or(())).ok()
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
                        if !(*skip_underscore && column.name.starts_with('_')) {
                            set(&mut columns, &column.name, ItemSource::Column(index));
                        }
                    }
                }
                ProjectionItem::Expression { name, expression } => {
                    let source = if let RowExpression::Leaf(column) = expression {
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

/// Later columns take the place of former ones of their name.
fn set(columns: &mut Vec<(String, ItemSource)>, name: &str, source: ItemSource) {
    match columns.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = source,
        None => columns.push((name.to_owned(), source)),
    }
}
