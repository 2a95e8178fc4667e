//! Says for one row which conditions of each query hold, for people who look for a row.
//!
//! The same bound expressions are evaluated as for the log, one condition after another.

use serde::Serialize;

use super::bind::is_of_element;
use super::evaluate::{BoundExpression, BoundQuery, BoundRow, BoundRows, TableEvaluator};
use super::output::RowOutput;
use crate::explain::names::RowNames;
use crate::expression::Leaves;
use crate::plan::{DataQuery, RowExpression, RowLeaf, SyncPlan};
use crate::value::{Value, json};

/// The result of one query for one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueryTrace {
    /// Index into [`SyncConfig::definitions`](crate::SyncConfig::definitions).
    pub definition: usize,
    /// Number of the query among those of the definition, from 0 on.
    pub query: usize,
    /// Conditions on the row. All must hold.
    pub conditions: Vec<ConditionTrace>,
    /// Values of the row that are the bucket's parameters. Empty if an array of the row gives them.
    pub keys: Vec<KeyTrace>,
    /// Parameters of the buckets that the query puts the row into, as canonical JSON arrays.
    pub buckets: Vec<String>,
    /// The reason why the query cannot be evaluated for the row.
    pub error: Option<String>,
}

/// A condition on a row: one of the parts that AND joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConditionTrace {
    /// The condition.
    pub sql: String,
    /// Its outcome. Only [`Outcome::True`] holds.
    pub outcome: Outcome,
    /// The columns that it reads, with the values that devices would get, as JSON.
    pub columns: Vec<(String, String)>,
}

/// Outcome of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds. One on the elements of an array holds if it does for any of them.
    True,
    /// It does not hold.
    False,
    /// It is NULL, and so does not hold.
    Null,
    /// It cannot be evaluated, for this reason.
    Error(String),
}

/// A value of the row that is a parameter of its bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyTrace {
    /// The expression.
    pub sql: String,
    /// Its value as JSON; `None` if it is NULL or bytes, which equal nothing.
    pub value: Option<String>,
}

/// Evaluates each query of a table for a row. `evaluator` is bound to the plan and the table.
pub(crate) fn trace(
    plan: &SyncPlan,
    evaluator: &TableEvaluator,
    columns: &[&str],
    row: &[Option<&str>],
) -> Vec<QueryTrace> {
    let row = BoundRow { evaluator, row };
    let queries = evaluator.queries.iter().map(|bound| {
        let query = &plan.definitions[bound.definition].queries[bound.place];
        trace_query(&row, query, bound, columns)
    });
    queries.collect()
}

fn trace_query(
    row: &BoundRow<'_>,
    query: &DataQuery,
    bound: &BoundQuery,
    columns: &[&str],
) -> QueryTrace {
    let names = RowNames::new(&query.rows, None);
    let filters = match &query.rows.filter {
        None => &[][..],
        Some(RowExpression::And(list)) => list,
        Some(filter) => std::slice::from_ref(filter),
    };

    // Each condition of the plan is the next one of its kind in the bound form.
    let mut of_row = bound.rows.filters.iter();
    let mut of_elements = bound.rows.element_filters.iter();
    let mut conditions = Vec::with_capacity(filters.len());
    for (filter, sql) in filters.iter().zip(names.conditions(query.rows.filter.as_ref())) {
        let is_of_element = is_of_element(filter);
        let condition = if is_of_element { of_elements.next() } else { of_row.next() };
        let Some(condition) = condition else { continue };
        let outcome = if is_of_element {
            outcome_for_elements(row, &bound.rows, condition)
        } else {
            outcome(row, condition)
        };
        conditions.push(ConditionTrace { sql, outcome, columns: values(row, filter, columns) });
    }

    let mut output = RowOutput::default();
    output.projected.resize(row.evaluator.projections.len(), None);
    let error = row.evaluate_query(bound, &mut output).err();
    let buckets = match error {
        Some(_) => Vec::new(),
        None => output.buckets().map(|entry| entry.params.to_owned()).collect(),
    };
    QueryTrace {
        definition: bound.definition,
        query: bound.place,
        conditions,
        keys: if bound.rows.arrays.is_empty() { keys(row, query, bound) } else { Vec::new() },
        buckets,
        error: error.map(|error| error.message().to_owned()),
    }
}

fn outcome(row: &BoundRow<'_>, condition: &BoundExpression) -> Outcome {
    match condition.evaluate(row) {
        Ok(Value::Null) => Outcome::Null,
        Ok(value) if value.is_true(row.engine()) => Outcome::True,
        Ok(_) => Outcome::False,
        Err(error) => Outcome::Error(error.message().to_owned()),
    }
}

/// Returns whether a condition holds for any combination of elements of the row's arrays.
fn outcome_for_elements(
    row: &BoundRow<'_>,
    rows: &BoundRows,
    condition: &BoundExpression,
) -> Outcome {
    let only = BoundRows {
        filters: Vec::new(),
        arrays: rows.arrays.clone(),
        element_filters: vec![condition.clone()],
        keys: Vec::new(),
    };
    let row = BoundRow { evaluator: row.evaluator, row: row.row };
    let mut is_found = false;
    match row.for_each_match(&only, None, &mut String::new(), &mut |_| is_found = true) {
        Ok(()) if is_found => Outcome::True,
        Ok(()) => Outcome::False,
        Err(error) => Outcome::Error(error.message().to_owned()),
    }
}

/// Returns the columns that a condition reads, with their values as JSON.
fn values(
    row: &BoundRow<'_>,
    condition: &RowExpression,
    columns: &[&str],
) -> Vec<(String, String)> {
    let mut read: Vec<(String, String)> = Vec::new();
    condition.for_each_leaf(&mut |leaf| {
        let RowLeaf::Column(name) = leaf else { return };
        if read.iter().any(|(known, _)| known == name) {
            return;
        }
        let index = columns.iter().position(|column| column == name);
        let text = index.and_then(|index| Some((index, row.text(index)?)));
        let mut value = String::new();
        match text {
            None => value.push_str("null"),
            Some((index, text)) => {
                match row.evaluator.converters.push_json(index, text, &mut value) {
                    Ok(true) => {}
                    Ok(false) => json::push_string("(bytes)", &mut value),
                    Err(error) => {
                        value.clear();
                        json::push_string(&format!("({})", error.message()), &mut value);
                    }
                }
            }
        }
        read.push((name.clone(), value));
    });
    read
}

fn keys(row: &BoundRow<'_>, query: &DataQuery, bound: &BoundQuery) -> Vec<KeyTrace> {
    let names = RowNames::new(&query.rows, None);
    let texts = names.texts(&query.rows.keys);
    let keys = texts.into_iter().zip(&bound.rows.keys).map(|(sql, key)| {
        let mut text = String::new();
        let is_value = key.evaluate(row).is_ok_and(|value| json::push_parameter(&value, &mut text));
        KeyTrace { sql, value: is_value.then_some(text) }
    });
    keys.collect()
}
