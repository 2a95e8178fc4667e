//! Evaluates rows of one table: the buckets that contain them and their answers to lookups.

use std::borrow::Cow;
use std::ops::Range;

use super::output::{BucketEntry, LookupEntry, Projected, RowOutput};
use crate::expression::items::{Items, items};
use crate::expression::{Expression, Leaves};
use crate::pg::converter::Converters;
use crate::value::{Engine, EvaluationError, Value, json};

/// Maximum number of combinations of array elements of a row for one query. It bounds time and
/// memory; a row that yields more is a row error.
pub(crate) const COMBINATIONS_MAX: usize = 10_000;
/// Maximum length of the keys and outputs of a row for one query, in bytes. Each combination writes its
/// own, so a long column among them would be held once for each element of an array. Typical keys and
/// outputs take some 40 bytes, so 10,000 of them stay far below.
pub(crate) const MATCH_BYTES_MAX: usize = 16 << 20;

/// Expression over a row of the bound table.
pub(crate) type BoundExpression = Expression<BoundLeaf>;

#[derive(Clone, Copy, Debug)]
pub(crate) enum BoundLeaf {
    /// Column with this index.
    Column(usize),
    /// Column that the table lacks. It is NULL.
    Missing,
    /// Schema of the table.
    Schema,
    /// Name of the table, from this byte on.
    Name { from: usize },
    /// Current element of the array with this index.
    Element(usize),
    /// Key of the current element of the array with this index.
    Key(usize),
}

/// Evaluator of the rows of one table. The columns must be those at the time of binding.
#[derive(Clone, Debug)]
pub struct TableEvaluator {
    pub(crate) name: QualifiedName,
    pub(crate) converters: Converters,
    pub(crate) columns_read: Vec<bool>,
    pub(crate) projections: Vec<BoundProjection>,
    pub(crate) queries: Vec<BoundQuery>,
    pub(crate) lookups: Vec<BoundLookup>,
}

/// Schema and name of a table.
#[derive(Clone, Debug)]
pub(crate) struct QualifiedName {
    pub(crate) schema: String,
    pub(crate) name: String,
}

#[derive(Clone, Debug)]
pub(crate) struct BoundProjection {
    pub(crate) object_type: String,
    pub(crate) items: Vec<BoundItem>,
    /// Index of the item with the object's id.
    pub(crate) id: usize,
    /// True if each column of the table is an item.
    pub(crate) contains_all_columns: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct BoundItem {
    /// Name and a colon, as JSON.
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
    /// Number of the query among those of its definition in the config.
    pub(crate) place: usize,
    /// Name of the definition, for errors.
    pub(crate) name: String,
    pub(crate) projection: usize,
    pub(crate) rows: BoundRows,
}

#[derive(Clone, Debug)]
pub(crate) struct BoundLookup {
    pub(crate) lookup: usize,
    pub(crate) rows: BoundRows,
    pub(crate) outputs: Vec<BoundExpression>,
}

/// Bound form of a [`RowQuery`](crate::plan::RowQuery).
#[derive(Clone, Debug)]
pub(crate) struct BoundRows {
    /// Conditions on the row alone.
    pub(crate) filters: Vec<BoundExpression>,
    pub(crate) arrays: Vec<BoundExpression>,
    /// Conditions that use elements of arrays.
    pub(crate) element_filters: Vec<BoundExpression>,
    pub(crate) keys: Vec<BoundExpression>,
}

impl TableEvaluator {
    /// Returns whether the table's rows answer lookups.
    #[must_use]
    pub fn has_lookups(&self) -> bool {
        !self.lookups.is_empty()
    }

    /// Returns the definitions that the table's rows may be in, by their indexes in the config.
    pub fn definitions(&self) -> impl Iterator<Item = usize> {
        self.queries.iter().map(|query| query.definition)
    }

    /// Returns the lookups that the table's rows may answer, by their indexes in the config.
    pub fn lookups(&self) -> impl Iterator<Item = usize> {
        self.lookups.iter().map(|lookup| lookup.lookup)
    }

    /// Returns for each column of the table whether any query reads it.
    #[must_use]
    pub fn columns_read(&self) -> &[bool] {
        &self.columns_read
    }

    /// Returns the evaluator of those definitions and lookups that have a number, under these numbers.
    pub(crate) fn renumbered(
        mut self,
        definition: impl Fn(usize) -> Option<usize>,
        lookup: impl Fn(usize) -> Option<usize>,
    ) -> Self {
        self.queries.retain_mut(|query| match definition(query.definition) {
            Some(number) => {
                query.definition = number;
                true
            }
            None => false,
        });
        self.lookups.retain_mut(|one| match lookup(one.lookup) {
            Some(number) => {
                one.lookup = number;
                true
            }
            None => false,
        });
        self
    }

    /// Returns whether rows of a definition contain every column of the table as it is, as those of
    /// `SELECT *` do: then each change of a row changes its content.
    #[must_use]
    pub fn contains_all_columns(&self, definition: usize) -> bool {
        let mut queries = self.queries.iter().filter(|query| query.definition == definition);
        queries.all(|query| self.projections[query.projection].contains_all_columns)
    }

    /// Evaluates a row, given as PostgreSQL's text output of each column (`None` is NULL). Clears
    /// `out` first. Each (definition, params, object type, object id) appears once: the last query
    /// wins. The order is deterministic.
    pub fn evaluate(&self, row: &[Option<&str>], out: &mut RowOutput) {
        out.clear();
        self.evaluate_more(row, out);
        out.deduplicate();
    }

    /// Evaluates a row and adds its output to `out`, where other definitions and lookups may have
    /// theirs.
    pub(crate) fn evaluate_more(&self, row: &[Option<&str>], out: &mut RowOutput) {
        // Projections are numbered by each evaluator.
        out.projected.clear();
        out.projected.resize(self.projections.len(), None);

        let row = BoundRow { evaluator: self, row };
        for query in &self.queries {
            // An error affects its own query only: the entries of that query are dropped.
            let bucket_count = out.buckets.len();
            let text_length = out.text.len();
            if let Err(error) = row.evaluate_query(query, out) {
                out.buckets.truncate(bucket_count);
                out.text.truncate(text_length);
                let message = format!("{}: {}", query.name, error.message());
                if !out.errors.contains(&message) {
                    out.errors.push(message);
                }
            }
        }

        for lookup in &self.lookups {
            let lookup_count = out.lookups.len();
            let text_length = out.text.len();
            if let Err(error) = row.evaluate_lookup(lookup, out) {
                out.lookups.truncate(lookup_count);
                out.text.truncate(text_length);
                out.errors.push(format!("lookup {}: {}", lookup.lookup, error.message()));
            }
        }
    }
}

/// Row with the evaluator of its table.
pub(super) struct BoundRow<'r> {
    pub(super) evaluator: &'r TableEvaluator,
    pub(super) row: &'r [Option<&'r str>],
}

/// Row with one element of each array.
struct Combination<'c> {
    row: &'c BoundRow<'c>,
    /// Items of each array, and the index of the current one.
    elements: &'c [(&'c Items, usize)],
}

impl<'c> Leaves<'c, BoundLeaf> for Combination<'c> {
    fn value(&self, leaf: &BoundLeaf) -> Result<Value<'c>, EvaluationError> {
        match leaf {
            BoundLeaf::Column(_)
            | BoundLeaf::Missing
            | BoundLeaf::Schema
            | BoundLeaf::Name { .. } => self.row.value(leaf),

            BoundLeaf::Element(index) => Ok(self
                .elements
                .get(*index)
                .map_or(Value::Null, |(items, place)| items.value(*place))),
            BoundLeaf::Key(index) => Ok(self
                .elements
                .get(*index)
                .map_or(Value::Null, |(items, place)| items.key(*place))),
        }
    }

    fn engine(&self) -> Engine {
        self.row.engine()
    }
}

impl<'r> Leaves<'r, BoundLeaf> for BoundRow<'r> {
    fn value(&self, leaf: &BoundLeaf) -> Result<Value<'r>, EvaluationError> {
        match leaf {
            BoundLeaf::Column(column) => self.column(*column),
            BoundLeaf::Schema => Ok(Value::Text(Cow::Borrowed(&self.evaluator.name.schema))),
            BoundLeaf::Name { from } => {
                let name = self.evaluator.name.name.get(*from..).unwrap_or_default();
                Ok(Value::Text(Cow::Borrowed(name)))
            }
            BoundLeaf::Missing | BoundLeaf::Element(_) | BoundLeaf::Key(_) => Ok(Value::Null),
        }
    }

    fn engine(&self) -> Engine {
        self.evaluator.converters.options.engine
    }
}

/// Ranges of the output text with a key and the output for it.
pub(super) struct Match {
    key: Range<usize>,
    output: Range<usize>,
}

impl<'r> BoundRow<'r> {
    pub(super) fn text(&self, column: usize) -> Option<&'r str> {
        self.row.get(column).copied().flatten()
    }

    fn column(&self, column: usize) -> Result<Value<'r>, EvaluationError> {
        match self.text(column) {
            Some(text) => self.evaluator.converters.to_value(column, text),
            None => Ok(Value::Null),
        }
    }

    /// Adds the buckets that contain the row by this query.
    pub(super) fn evaluate_query(
        &self,
        query: &'r BoundQuery,
        out: &mut RowOutput,
    ) -> Result<(), EvaluationError> {
        let start = out.buckets.len();
        let empty = Projected { object_type: 0..0, object_id: 0..0, data: 0..0 };
        let buckets = &mut out.buckets;
        self.for_each_match(&query.rows, None, &mut out.text, &mut |Match { key, .. }| {
            let projected = empty.clone();
            buckets.push(BucketEntry { definition: query.definition, params: key, projected });
        })?;

        if out.buckets.len() == start {
            return Ok(());
        }

        // The data is written only for rows that are in a bucket, and once for all queries with the
        // same projection.
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

    /// Adds the row's answers to this lookup.
    fn evaluate_lookup(
        &self,
        lookup: &'r BoundLookup,
        out: &mut RowOutput,
    ) -> Result<(), EvaluationError> {
        let lookups = &mut out.lookups;
        let outputs = Some(lookup.outputs.as_slice());
        self.for_each_match(&lookup.rows, outputs, &mut out.text, &mut |Match { key, output }| {
            lookups.push(LookupEntry { lookup: lookup.lookup, key, output });
        })
    }

    /// Calls `found` for each key that finds the row, with the output for it.
    pub(super) fn for_each_match(
        &self,
        rows: &'r BoundRows,
        outputs: Option<&'r [BoundExpression]>,
        text: &mut String,
        found: &mut impl FnMut(Match),
    ) -> Result<(), EvaluationError> {
        if !all_true(&rows.filters, self)? {
            return Ok(());
        }

        if rows.arrays.is_empty() {
            if let Some(one) = push_match(rows, outputs, self, text)? {
                found(one);
            }
            return Ok(());
        }

        let mut arrays = Vec::with_capacity(rows.arrays.len());
        let mut count: usize = 1;
        for array in &rows.arrays {
            let items = items(array, self)?;
            count = count.saturating_mul(items.len());
            arrays.push(items);
        }
        if count > COMBINATIONS_MAX {
            return Err(EvaluationError::TooManyCombinations);
        }

        let text_length = text.len();
        let mut elements = Vec::with_capacity(arrays.len());
        for combination in 0..count {
            // The digits of the combination's number, each to the base of an array's length, are
            // the indexes of its elements.
            let mut rest = combination;
            elements.clear();
            for items in &arrays {
                elements.push((items, rest % items.len()));
                rest /= items.len();
            }

            let combination = Combination { row: self, elements: &elements };
            if all_true(&rows.element_filters, &combination)?
                && let Some(one) = push_match(rows, outputs, &combination, text)?
            {
                found(one);
                if text.len() - text_length > MATCH_BYTES_MAX {
                    return Err(EvaluationError::TooManyBytes);
                }
                // Without keys and outputs, further combinations give the same match.
                if rows.keys.is_empty() && outputs.is_none_or(<[_]>::is_empty) {
                    break;
                }
            }
        }

        Ok(())
    }

    /// Writes the object's table, id and data.
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

    /// Writes the value of an item. Returns `false` and writes nothing for bytes.
    fn push_item(
        &self,
        source: &'r ItemSource,
        text: &mut String,
    ) -> Result<bool, EvaluationError> {
        match source {
            ItemSource::Column(column) => match self.text(*column) {
                Some(value) => self.evaluator.converters.push_json(*column, value, text),
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
            ItemSource::Column(column) => self.column(*column)?,
            ItemSource::Expression(expression) => expression.evaluate(self)?,
        };
        if matches!(value, Value::Blob(_)) {
            return Err(EvaluationError::BlobId);
        }
        text.push_str(&value.into_text(Engine::JavaScript).ok_or(EvaluationError::NullId)?);
        Ok(())
    }
}

fn all_true<'v, S: Leaves<'v, BoundLeaf>>(
    filters: &'v [BoundExpression],
    leaves: &S,
) -> Result<bool, EvaluationError> {
    for filter in filters {
        if !filter.is_true(leaves)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes key and output. Returns `None` and writes nothing if a part of them is equal to nothing.
fn push_match<'v, S: Leaves<'v, BoundLeaf>>(
    rows: &'v BoundRows,
    outputs: Option<&'v [BoundExpression]>,
    leaves: &S,
    text: &mut String,
) -> Result<Option<Match>, EvaluationError> {
    let start = text.len();
    if !push_array(&rows.keys, leaves, text)? {
        return Ok(None);
    }

    let middle = text.len();
    if let Some(outputs) = outputs
        && !push_array(outputs, leaves, text)?
    {
        text.truncate(start);
        return Ok(None);
    }

    Ok(Some(Match { key: start..middle, output: middle..text.len() }))
}

/// Writes the values as a JSON array. Returns `false` and writes nothing if one is NULL or a blob.
fn push_array<'v, S: Leaves<'v, BoundLeaf>>(
    expressions: &'v [BoundExpression],
    leaves: &S,
    text: &mut String,
) -> Result<bool, EvaluationError> {
    let start = text.len();
    text.push('[');

    for (index, expression) in expressions.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        if !json::push_parameter(&expression.evaluate(leaves)?, text) {
            text.truncate(start);
            return Ok(false);
        }
    }

    text.push(']');
    Ok(true)
}
