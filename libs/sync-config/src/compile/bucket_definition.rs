//! Bucket definitions of editions 1 and 2.

use tidewater_protocol::Priority;

use super::file_compiler::FileCompiler;
use super::resolve::QueryCompiler;
use super::resolve::from::check_single_table;
use super::resolve::projection::RowSelection;
use super::resolve::scope::{Ctes, Scope, ScopeKind};
use super::row_sources::{Leaf, QueryExpression};
use super::solve::{SolvedBranch, Target, bucket_rows, solve};
use super::term::Term;
use crate::expression::{Comparison, Expression};
use crate::file::DefinitionEntry;
use crate::file::diagnostic::{Diagnostic, Position};
use crate::file::yaml::Scalar;
use crate::plan::{DataQuery, DefinitionPlan, Instantiation, StreamPlan, Variant};
use crate::sql::syntax::{ExpressionKind, FromItem, FromSource, Query, SelectItem, SelectItemKind};

/// Column of a parameter query that sets the priority of its buckets.
const PRIORITY_COLUMN: &str = "_priority";

/// Columns of a parameter query.
#[derive(Default)]
struct ParameterOutputs {
    columns: Vec<(String, QueryExpression)>,
    priority: Option<(Priority, Position)>,
}

impl FileCompiler<'_> {
    pub(super) fn definition(&mut self, entry: &DefinitionEntry<'_>) {
        let mut instantiations = Vec::new();
        let mut names: Option<Vec<String>> = None;
        let mut failed = false;

        for scalar in &entry.parameters {
            let Some(query) = self.parse(scalar) else {
                failed = true;
                continue;
            };
            let result = QueryCompiler::new(self).parameter_query(entry, &query, &mut names);
            match self.findings.ok(result) {
                Some(list) => instantiations.extend(list),
                None => failed = true,
            }
        }

        if entry.parameters.is_empty() {
            instantiations.push((None, Instantiation::default()));
        }

        let index = self.plan.definitions.len();
        let mut plan = DefinitionPlan { name: entry.name.to_owned(), queries: Vec::new() };
        // Without the parameter queries each `bucket.<name>` would be reported as unknown.
        if !failed {
            let parameters = names.unwrap_or_default();
            for scalar in &entry.data {
                plan.queries.extend(self.data_query(scalar, &parameters));
            }
        }
        self.plan.definitions.push(plan);

        let variants = instantiations
            .into_iter()
            .map(|(priority, instantiation)| Variant { definition: index, priority, instantiation })
            .collect();
        self.plan.streams.push(StreamPlan {
            name: entry.name.to_owned(),
            auto_subscribe: true,
            priority: entry.priority.unwrap_or_default(),
            variants,
        });
    }

    fn data_query(&mut self, scalar: &Scalar, parameters: &[String]) -> Vec<DataQuery> {
        let Some(query) = self.parse(scalar) else { return Vec::new() };
        let result = QueryCompiler::new(self).data_query(&query, parameters);
        self.findings.ok(result).unwrap_or_default()
    }
}

impl QueryCompiler<'_, '_> {
    fn parameter_query(
        &mut self,
        entry: &DefinitionEntry<'_>,
        query: &Query,
        names: &mut Option<Vec<String>>,
    ) -> Result<Vec<(Option<Priority>, Instantiation)>, Diagnostic> {
        check_single_table(query)?;
        if let Some(FromItem { alias: Some(alias), source: FromSource::Table { .. }, .. }) =
            query.from.first()
        {
            let message = format!("the alias `{alias}` is not supported here");
            return Err(Diagnostic::error(query.from[0].position, message));
        }

        let mut scope = Scope::new(&ScopeKind::ParameterQuery, Ctes::default());
        let mut conditions = self.from(&mut scope, query)?;
        let mut outputs = ParameterOutputs::default();
        for item in &query.columns {
            self.parameter_output(&scope, item, &mut outputs)?;
        }

        if let Some((_, position)) = outputs.priority
            && entry.priority.is_some()
        {
            let message = "`_priority` and the key `priority` cannot both be given";
            return Err(Diagnostic::error(position, message));
        }

        let order = parameter_order(names, &outputs, query.position)?;
        let values: Vec<QueryExpression> =
            order.into_iter().map(|index| outputs.columns[index].1.clone()).collect();
        if let Some(condition) = &query.condition {
            conditions.push(self.condition(&scope, condition, false)?);
        }

        // Each alternative of the condition grants its buckets independently of the others.
        let priority = outputs.priority.map(|(priority, _)| priority);
        let mut list = Vec::new();
        for branch in self.branches(conditions, query.position)? {
            let solved =
                solve(&mut self.file.plan, &self.sources, &branch, &Target::Values(&values));
            let Some(SolvedBranch { instantiation, .. }) = solved else {
                let message = "this combination of tables and arrays is not supported";
                return Err(Diagnostic::error(query.position, message));
            };
            if !entry.accepts_dangerous_queries {
                self.file.warn_if_unauthenticated(&instantiation, query.position);
            }
            list.push((priority, instantiation));
        }

        Ok(list)
    }

    fn parameter_output(
        &mut self,
        scope: &Scope<'_>,
        item: &SelectItem,
        outputs: &mut ParameterOutputs,
    ) -> Result<(), Diagnostic> {
        let SelectItemKind::Expression { expression, alias, source_text } = &item.kind else {
            let message = "`*` is not supported in `parameters`";
            return Err(Diagnostic::error(item.position, message)
                .hint("name each parameter, as in `SELECT id AS list_id FROM ...`"));
        };

        let name = self.file.output_name(
            item.position,
            expression,
            alias.as_deref(),
            source_text.as_ref(),
        )?;
        if name == PRIORITY_COLUMN {
            let ExpressionKind::Integer(integer) = expression.kind else {
                let message = "`_priority` must be a literal number";
                return Err(Diagnostic::error(item.position, message).hint("0, 1, 2 or 3"));
            };
            let priority = u8::try_from(integer).ok().and_then(Priority::new).ok_or_else(|| {
                Diagnostic::error(item.position, "`_priority` must be 0, 1, 2 or 3")
            })?;
            outputs.priority = Some((priority, item.position));
            return Ok(());
        }

        if outputs.columns.iter().any(|(known, _)| *known == name) {
            let message = format!("the parameter `{name}` is selected twice");
            return Err(Diagnostic::error(item.position, message));
        }

        let value = self.lower(scope, expression)?;
        if self.sources.origin_of(&value).is_none() {
            let message = "a parameter cannot mix values of the row and of the request";
            return Err(Diagnostic::error(item.position, message));
        }

        outputs.columns.push((name, value));

        Ok(())
    }

    fn data_query(
        &mut self,
        query: &Query,
        parameters: &[String],
    ) -> Result<Vec<DataQuery>, Diagnostic> {
        check_single_table(query)?;
        match query.from.as_slice() {
            [] => return Err(Diagnostic::error(query.position, "the query has no `FROM`")),
            [FromItem { source: FromSource::Function { .. }, position, .. }, ..] => {
                return Err(Diagnostic::error(*position, "a data query must select from a table"));
            }
            [_, ..] => {}
        }

        let kind = ScopeKind::DataQuery { parameters: parameters.to_vec() };
        let mut scope = Scope::new(&kind, Ctes::default());
        let mut conditions = self.from(&mut scope, query)?;
        // A missing selection is a finding already. The condition may add another.
        let selected = self.selected(&scope, query, true);
        if let Some(condition) = &query.condition {
            conditions.push(self.condition(&scope, condition, false)?);
        }
        let Some(RowSelection { table, projection }) = selected else { return Ok(Vec::new()) };

        let mut queries = Vec::new();
        for branch in self.branches(conditions, query.position)? {
            let DataKeys { keys, equal } = data_keys(&branch, parameters, query.position)?;
            // One bucket cannot have two values for one parameter, so both must be the same.
            let equal: Vec<QueryExpression> = equal
                .into_iter()
                .map(|(left, right)| Expression::Compare {
                    comparison: Comparison::Equal,
                    left: Box::new(left),
                    right: Box::new(right),
                })
                .collect();
            let rows =
                bucket_rows(&self.sources, &branch, table, &keys, &equal).ok_or_else(|| {
                    Diagnostic::error(query.position, "a data query can read one table only")
                })?;
            let object_type = self.object_type(table);
            queries.push(DataQuery { rows, object_type, projection: projection.clone() });
        }

        Ok(queries)
    }
}

/// Returns the positions of the query's outputs in the order of the bucket parameters. The first
/// parameter query decides that order.
fn parameter_order(
    names: &mut Option<Vec<String>>,
    outputs: &ParameterOutputs,
    position: Position,
) -> Result<Vec<usize>, Diagnostic> {
    let selected: Vec<String> = outputs.columns.iter().map(|(name, _)| name.clone()).collect();
    // Bucket names contain the values in this order, so all queries must agree on it.
    let names = names.get_or_insert_with(|| selected.clone());
    let order: Option<Vec<usize>> =
        names.iter().map(|name| selected.iter().position(|known| known == name)).collect();

    match order {
        Some(order) if selected.len() == names.len() => Ok(order),
        Some(_) | None => {
            let message = "all parameter queries of a bucket definition must select the same names";
            Err(Diagnostic::error(position, message)
                .hint(format!("the first selects: {}", names.join(", "))))
        }
    }
}

/// The values of a row that bucket parameters are compared with.
struct DataKeys {
    /// The value for each parameter.
    keys: Vec<QueryExpression>,
    /// Pairs of values that are compared with the same parameter.
    equal: Vec<(QueryExpression, QueryExpression)>,
}

/// Returns the expression of the row that each bucket parameter is compared with.
fn data_keys(
    branch: &[Term],
    parameters: &[String],
    position: Position,
) -> Result<DataKeys, Diagnostic> {
    let mut equal = Vec::new();
    let mut keys: Vec<Option<QueryExpression>> = vec![None; parameters.len()];
    for term in branch {
        let Term::Equal { left, right } = term else { continue };
        let (value, index) = match (&left.value, &right.value) {
            (Expression::Leaf(Leaf::Bucket(index)), value)
            | (value, Expression::Leaf(Leaf::Bucket(index))) => (value, *index),
            _ => continue,
        };
        match &keys[index] {
            None => keys[index] = Some(value.clone()),
            Some(first) if first == value => {}
            Some(first) => equal.push((first.clone(), value.clone())),
        }
    }

    let mut list = Vec::with_capacity(keys.len());
    for (key, name) in keys.into_iter().zip(parameters) {
        list.push(key.ok_or_else(|| {
            let message = format!("the query does not use the parameter `bucket.{name}`");
            Diagnostic::error(position, message)
                .hint(format!("add `AND column = bucket.{name}` to each alternative of WHERE"))
        })?);
    }

    Ok(DataKeys { keys: list, equal })
}
