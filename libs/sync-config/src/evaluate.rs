//! Rows of one table to buckets and answers.

use crate::engine::Engine;
use crate::expression::{EvaluationError, Expression, Leaves, array_items};
use crate::json;
use crate::options::ValueOptions;
use crate::pg_text;
use crate::pg_type::Converter;
use crate::row_output::{BucketEntry, LookupEntry, Projected, RowOutput};
use crate::value::Value;

/// Most buckets, or answers, that one query may make of one row.
const COMBINATIONS_MAX: usize = 10_000;

/// Over the columns of the table it is bound to, by index.
pub(crate) type BoundExpression = Expression<usize>;

/// Evaluates rows of one table, whose columns are as they were when it was bound.
#[derive(Clone, Debug)]
pub struct TableEvaluator {
    pub(crate) table: usize,
    pub(crate) options: ValueOptions,
    pub(crate) converters: Vec<Converter>,
    pub(crate) columns_read: Vec<bool>,
    pub(crate) projections: Vec<BoundProjection>,
    pub(crate) queries: Vec<BoundQuery>,
    pub(crate) lookups: Vec<BoundLookup>,
}

#[derive(Clone, Debug)]
pub(crate) struct BoundProjection {
    pub(crate) object_type: String,
    pub(crate) items: Vec<BoundItem>,
    /// Index of the item that is the object's id.
    pub(crate) id: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct BoundItem {
    /// Its name and a colon, as JSON.
    pub(crate) key: String,
    pub(crate) source: ItemSource,
}

#[derive(Clone, Debug)]
pub(crate) enum ItemSource {
    Column(usize),
    Expression(BoundExpression),
}

#[derive(Clone, Debug)]
pub(crate) struct BoundQuery {
    pub(crate) definition: usize,
    /// Of its definition.
    pub(crate) name: String,
    pub(crate) projection: usize,
    pub(crate) filter: Option<BoundExpression>,
    pub(crate) keys: Vec<BoundKey>,
}

#[derive(Clone, Debug)]
pub(crate) struct BoundLookup {
    pub(crate) lookup: usize,
    pub(crate) filter: Option<BoundExpression>,
    pub(crate) keys: Vec<BoundKey>,
    pub(crate) outputs: Vec<BoundKey>,
}

#[derive(Clone, Debug)]
pub(crate) enum BoundKey {
    Value(BoundExpression),
    Each(BoundExpression),
}

impl TableEvaluator {
    /// Index into [`SyncConfig::tables`](crate::SyncConfig::tables).
    #[must_use]
    pub fn table(&self) -> usize {
        self.table
    }

    /// For each column of the table whether any query reads it.
    #[must_use]
    pub fn columns_read(&self) -> &[bool] {
        &self.columns_read
    }

    /// Evaluates a row, given as PostgreSQL's text output of each column (`None` is NULL).
    /// `out` is cleared first. Equal (definition, params, object type, object id) appear once: the
    /// last query wins. Order is deterministic.
    pub fn evaluate(&self, row: &[Option<&str>], out: &mut RowOutput) {
        out.clear(self.projections.len());
        let row = Row { evaluator: self, row };
        for query in &self.queries {
            let bucket_count = out.buckets.len();
            if let Err(error) = row.query(query, out) {
                out.buckets.truncate(bucket_count);
                let message = format!("{}: {}", query.name, error.message());
                if !out.errors.contains(&message) {
                    out.errors.push(message);
                }
            }
        }
        for lookup in &self.lookups {
            let lookup_count = out.lookups.len();
            if let Err(error) = row.lookup(lookup, out) {
                out.lookups.truncate(lookup_count);
                out.errors.push(format!("lookup {}: {}", lookup.lookup, error.message()));
            }
        }
        out.deduplicate();
    }
}

/// A row under evaluation.
struct Row<'r> {
    evaluator: &'r TableEvaluator,
    row: &'r [Option<&'r str>],
}

impl<'r> Leaves<'r, usize> for Row<'r> {
    fn value(&self, column: &usize) -> Result<Value<'r>, EvaluationError> {
        match self.text(*column) {
            Some(text) => {
                pg_text::to_value(self.evaluator.converters[*column], &self.evaluator.options, text)
            }
            None => Ok(Value::Null),
        }
    }

    fn engine(&self) -> Engine {
        self.evaluator.options.engine
    }
}

impl<'r> Row<'r> {
    fn text(&self, column: usize) -> Option<&'r str> {
        self.row.get(column).copied().flatten()
    }

    fn holds(&self, filter: Option<&'r BoundExpression>) -> Result<bool, EvaluationError> {
        filter.map_or(Ok(true), |filter| filter.is_true(self))
    }

    fn query(&self, query: &'r BoundQuery, out: &mut RowOutput) -> Result<(), EvaluationError> {
        if !self.holds(query.filter.as_ref())? {
            return Ok(());
        }
        let start = out.buckets.len();
        let empty = Projected { object_type: 0..0, object_id: 0..0, data: 0..0 };
        self.arrays(&query.keys, &mut out.text, &mut |params| {
            let projected = empty.clone();
            out.buckets.push(BucketEntry { definition: query.definition, params, projected });
        })?;
        if out.buckets.len() == start {
            return Ok(());
        }
        let projected = match out.projected[query.projection].clone() {
            Some(projected) => projected,
            None => {
                let projection = &self.evaluator.projections[query.projection];
                let projected = self.project(projection, &mut out.text)?;
                out.projected[query.projection] = Some(projected.clone());
                projected
            }
        };
        for entry in &mut out.buckets[start..] {
            entry.projected = projected.clone();
        }
        Ok(())
    }

    fn lookup(&self, lookup: &'r BoundLookup, out: &mut RowOutput) -> Result<(), EvaluationError> {
        if !self.holds(lookup.filter.as_ref())? {
            return Ok(());
        }
        let mut output = None;
        self.arrays(&lookup.outputs, &mut out.text, &mut |range| output = Some(range))?;
        let Some(output) = output else { return Ok(()) };
        let lookups = &mut out.lookups;
        self.arrays(&lookup.keys, &mut out.text, &mut |key| {
            lookups.push(LookupEntry { lookup: lookup.lookup, key, output: output.clone() });
        })
    }

    /// Writes the arrays of parameters that a row has: none when one of them is NULL, several when
    /// elements of arrays are asked for.
    fn arrays(
        &self,
        keys: &'r [BoundKey],
        text: &mut String,
        found: &mut impl FnMut(std::ops::Range<usize>),
    ) -> Result<(), EvaluationError> {
        let start = text.len();
        text.push('[');
        for (index, key) in keys.iter().enumerate() {
            let BoundKey::Value(expression) = key else {
                text.truncate(start);
                return self.combinations(keys, text, found);
            };
            if index > 0 {
                text.push(',');
            }
            if !json::push_parameter(&expression.evaluate(self)?, text) {
                text.truncate(start);
                return Ok(());
            }
        }
        text.push(']');
        found(start..text.len());
        Ok(())
    }

    fn combinations(
        &self,
        keys: &'r [BoundKey],
        text: &mut String,
        found: &mut impl FnMut(std::ops::Range<usize>),
    ) -> Result<(), EvaluationError> {
        let mut choices = Vec::with_capacity(keys.len());
        let mut count: usize = 1;
        for key in keys {
            let choice = match key {
                BoundKey::Value(expression) => parameters([expression.evaluate(self)?].into_iter()),
                BoundKey::Each(expression) => {
                    let items = array_items(&expression.evaluate(self)?)?;
                    parameters(items.iter().map(json::to_value))
                }
            };
            count = count.saturating_mul(choice.len());
            choices.push(choice);
        }
        if count > COMBINATIONS_MAX {
            return Err(EvaluationError::TooMany);
        }
        for combination in 0..count {
            let start = text.len();
            text.push('[');
            let mut rest = combination;
            for (index, choice) in choices.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&choice[rest % choice.len()]);
                rest /= choice.len();
            }
            text.push(']');
            found(start..text.len());
        }
        Ok(())
    }

    fn project(
        &self,
        projection: &'r BoundProjection,
        text: &mut String,
    ) -> Result<Projected, EvaluationError> {
        let start = text.len();
        text.push_str(&projection.object_type);
        let object_type = start..text.len();
        self.push_id(&projection.items[projection.id].source, text)?;
        let object_id = object_type.end..text.len();
        text.push('{');
        let mut separator = "";
        for item in &projection.items {
            let before = text.len();
            text.push_str(separator);
            text.push_str(&item.key);
            if self.push_item(&item.source, text)? {
                separator = ",";
            } else {
                text.truncate(before);
            }
        }
        text.push('}');
        Ok(Projected { object_type, data: object_id.end..text.len(), object_id })
    }

    /// `false`, and nothing written, for bytes.
    fn push_item(
        &self,
        source: &'r ItemSource,
        text: &mut String,
    ) -> Result<bool, EvaluationError> {
        match source {
            ItemSource::Column(column) => match self.text(*column) {
                Some(value) => {
                    let converter = self.evaluator.converters[*column];
                    pg_text::push_json(converter, &self.evaluator.options, value, text)
                }
                None => {
                    text.push_str("null");
                    Ok(true)
                }
            },
            ItemSource::Expression(expression) => {
                Ok(json::push_value(&expression.evaluate(self)?, text))
            }
        }
    }

    fn push_id(&self, source: &'r ItemSource, text: &mut String) -> Result<(), EvaluationError> {
        let value = match source {
            ItemSource::Column(column) => self.value(column)?,
            ItemSource::Expression(expression) => expression.evaluate(self)?,
        };
        if matches!(value, Value::Blob(_)) {
            return Err(EvaluationError::BlobId);
        }
        text.push_str(&value.into_text().ok_or(EvaluationError::NullId)?);
        Ok(())
    }
}

/// The JSON of each value that can be a parameter, each once.
pub(crate) fn parameters<'v>(values: impl Iterator<Item = Value<'v>>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let mut list = Vec::new();
    for value in values {
        let mut text = String::new();
        if json::push_parameter(&value, &mut text) && seen.insert(text.clone()) {
            list.push(text);
        }
    }
    list
}
