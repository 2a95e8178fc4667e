//! Bucket definitions of editions 1 and 2.

use tidewater_protocol::Priority;

use super::branch::{Branch, Source};
use super::scope::{Scope, ScopeKind, request_expression, row_expression};
use super::{Compiler, all_of, output_name};
use crate::diagnostic::{Diagnostic, Position};
use crate::file::DefinitionEntry;
use crate::plan::{
    DataQuery, DefinitionPlan, Instantiation, LookupPlan, LookupUse, Parameter, ParameterSource,
    RequestExpression, RequestKey, RowExpression, RowKey, StreamPlan, Variant,
};
use crate::syntax::{ExpressionKind, Query, SelectItem, SelectItemKind};
use crate::yaml::Scalar;

/// The column that gives a parameter query's priority.
const PRIORITY_COLUMN: &str = "_priority";

/// What a parameter query selects.
#[derive(Default)]
struct Outputs {
    columns: Vec<(String, Output)>,
    priority: Option<(Priority, Position)>,
}

enum Output {
    Row(RowExpression),
    Request(RequestExpression),
}

impl Compiler<'_> {
    pub(super) fn definition(&mut self, entry: &DefinitionEntry<'_>) {
        let mut instantiations = Vec::new();
        let mut names: Option<Vec<String>> = None;
        let mut failed = false;
        for scalar in &entry.parameters {
            let Some(query) = self.parse(scalar) else {
                failed = true;
                continue;
            };
            let result = self.parameter_query(entry, &query, &mut names);
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
        // Without the parameters every use of one would be an error.
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

    fn parameter_query(
        &mut self,
        entry: &DefinitionEntry<'_>,
        query: &Query,
        names: &mut Option<Vec<String>>,
    ) -> Result<Vec<(Option<Priority>, Instantiation)>, Diagnostic> {
        let table = match &query.from {
            None => None,
            Some(from) => {
                if let Some(alias) = &from.alias {
                    let message = format!("the alias `{alias}` is not supported here");
                    return Err(Diagnostic::error(from.position, message));
                }
                Some((self.table(from), from.visible_name().to_owned()))
            }
        };
        let scope = Scope { kind: ScopeKind::ParameterQuery, table };
        let mut outputs = Outputs::default();
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
        let priority = outputs.priority.map(|(priority, _)| priority);
        let mut list = Vec::new();
        for branch in self.branches(&scope, query)? {
            let instantiation = self.parameter_branch(&scope, &order, &outputs, branch);
            if !entry.accepts_danger {
                self.check_danger(&instantiation, query.position);
            }
            list.push((priority, instantiation));
        }
        Ok(list)
    }

    fn parameter_output(
        &mut self,
        scope: &Scope,
        item: &SelectItem,
        outputs: &mut Outputs,
    ) -> Result<(), Diagnostic> {
        let SelectItemKind::Expression { expression, alias } = &item.kind else {
            let message = "`*` is not supported in `parameters`";
            return Err(Diagnostic::error(item.position, message)
                .hint("name each parameter, as in `SELECT id AS list_id FROM ...`"));
        };
        let name = output_name(item.position, expression, alias.as_deref())?;
        if name == PRIORITY_COLUMN {
            let ExpressionKind::Integer(integer) = expression.kind else {
                let message = "`_priority` must be a number written out";
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
        let lowered = self.lower(scope, expression)?;
        let output = match (request_expression(&lowered), row_expression(&lowered)) {
            (Some(request), _) => Output::Request(request),
            (None, Some(row)) => Output::Row(row),
            (None, None) => {
                let message = "a parameter cannot mix values of the row and of the request";
                return Err(Diagnostic::error(item.position, message));
            }
        };
        outputs.columns.push((name, output));
        Ok(())
    }

    /// One lookup answers what the rows give; the rest is of the request.
    fn parameter_branch(
        &mut self,
        scope: &Scope,
        order: &[usize],
        outputs: &Outputs,
        branch: Branch,
    ) -> Instantiation {
        let Branch { filter, requests, exists, keys } = branch;
        let mut instantiation =
            Instantiation { filters: requests, uses: exists, parameters: Vec::new() };
        let lookup_use = instantiation.uses.len();
        let mut row_outputs = Vec::new();
        for index in order {
            let source = match &outputs.columns[*index].1 {
                Output::Request(request) => {
                    ParameterSource::Request(RequestKey::Value(request.clone()))
                }
                Output::Row(row) => {
                    row_outputs.push(row.clone());
                    ParameterSource::Output { lookup_use, column: row_outputs.len() - 1 }
                }
            };
            instantiation.parameters.push(Parameter { all_of: vec![source] });
        }
        if let Some((table, _)) = scope.table {
            let mut rows = Vec::new();
            let mut asks = Vec::new();
            for (row, sources) in keys {
                for source in sources {
                    // Parameter queries know neither inner queries nor buckets.
                    if let Source::Request(key) = source {
                        rows.push(row.clone());
                        asks.push(key);
                    }
                }
            }
            let plan =
                LookupPlan { table, filter: all_of(filter), keys: rows, outputs: row_outputs };
            let lookup = self.lookup(plan);
            instantiation.uses.push(LookupUse { lookup, key: asks });
        }
        instantiation
    }

    fn data_query(&mut self, scalar: &Scalar, parameters: &[String]) -> Vec<DataQuery> {
        let Some(query) = self.parse(scalar) else { return Vec::new() };
        let Some(from) = &query.from else {
            self.findings.push(Diagnostic::error(query.position, "the query has no `FROM`"));
            return Vec::new();
        };
        let table = self.table(from);
        let visible = from.visible_name().to_owned();
        let kind = ScopeKind::DataQuery { parameters: parameters.to_vec() };
        let scope = Scope { kind, table: Some((table, visible.clone())) };
        let projection = self.projection(&scope, &query, true);
        let branches = self.branches(&scope, &query);
        let Some(branches) = self.findings.ok(branches) else { return Vec::new() };
        let mut queries = Vec::new();
        for branch in branches {
            let keys = data_keys(&branch, parameters, query.position);
            let Some(keys) = self.findings.ok(keys) else { return Vec::new() };
            queries.push(DataQuery {
                table,
                object_type: visible.clone(),
                projection: projection.clone(),
                filter: all_of(branch.filter),
                keys,
            });
        }
        queries
    }
}

/// The positions of a query's outputs in the order of the bucket's parameters, which the first query
/// decides.
fn parameter_order(
    names: &mut Option<Vec<String>>,
    outputs: &Outputs,
    position: Position,
) -> Result<Vec<usize>, Diagnostic> {
    let selected: Vec<String> = outputs.columns.iter().map(|(name, _)| name.clone()).collect();
    let names = names.get_or_insert_with(|| selected.clone());
    let find = |name: &String| selected.iter().position(|known| known == name);
    let order: Option<Vec<usize>> = names.iter().map(find).collect();
    match order {
        Some(order) if selected.len() == names.len() => Ok(order),
        Some(_) | None => {
            let message = "all parameter queries of a bucket definition must select the same names";
            Err(Diagnostic::error(position, message)
                .hint(format!("the first selects: {}", names.join(", "))))
        }
    }
}

/// The row's key for each parameter of the bucket.
fn data_keys(
    branch: &Branch,
    parameters: &[String],
    position: Position,
) -> Result<Vec<RowKey>, Diagnostic> {
    let mut keys: Vec<Option<RowKey>> = vec![None; parameters.len()];
    for (row, sources) in &branch.keys {
        for source in sources {
            let Source::Bucket(index) = source else { continue };
            if keys[*index].replace(row.clone()).is_some() {
                let message = format!("`bucket.{}` is compared more than once", parameters[*index]);
                return Err(Diagnostic::error(position, message)
                    .hint("compare each parameter with one value of the row"));
            }
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
    Ok(list)
}
