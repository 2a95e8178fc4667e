//! From the file to the plan.

mod branch;
mod call;
mod condition;
mod definition;
mod operators;
mod scope;
mod stream;

use crate::TableName;
use crate::diagnostic::{Diagnostic, Findings, Position};
use crate::expression::PathSplit;
use crate::file;
use crate::options::{Edition, Options};
use crate::plan::{
    Instantiation, LookupPlan, Plan, ProjectionItem, Reference, ReferenceKind, RequestExpression,
    RequestKey,
};
use crate::plan::{ParameterSource, RowExpression};
use crate::sql;
use crate::syntax::{Query, SelectItem, SelectItemKind, TableReference};
use crate::yaml::{self, FILE_BYTES_MAX, Scalar, Source};
use scope::{Leaf, Scope};

/// Compiles a file.
///
/// # Errors
/// All errors and warnings.
pub(crate) fn compile(text: &str) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let start = Position { line: 1, column: 1 };
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file is larger than {FILE_BYTES_MAX} bytes");
        return Err(vec![Diagnostic::error(start, message)]);
    }
    let source = Source::new(text);
    let root = yaml::parse(text, &source).map_err(|error| vec![error])?;
    let Some(root) = root else {
        let error = Diagnostic::error(start, "the file is empty");
        return Err(vec![error.hint("define `streams` or `bucket_definitions`")]);
    };
    let mut findings = Findings::default();
    let file = file::read(&root, &mut findings);
    let mut compiler = Compiler::new(&source, file.options, findings);
    for entry in &file.streams {
        compiler.stream(entry);
    }
    for entry in &file.definitions {
        compiler.definition(entry);
    }
    let Compiler { mut plan, findings, .. } = compiler;
    plan.references.sort();
    plan.references.dedup();
    let failed = findings.has_errors();
    let findings = findings.into_sorted();
    if failed { Err(findings) } else { Ok((plan, findings)) }
}

pub(crate) struct Compiler<'a> {
    source: &'a Source,
    edition: Edition,
    path_split: PathSplit,
    plan: Plan,
    findings: Findings,
}

impl<'a> Compiler<'a> {
    fn new(source: &'a Source, options: Options, findings: Findings) -> Self {
        let Options { edition, values } = options;
        let path_split =
            if values.fixed_json_extract { PathSplit::AfterDollar } else { PathSplit::Always };
        let plan = Plan {
            values,
            tables: Vec::new(),
            definitions: Vec::new(),
            lookups: Vec::new(),
            streams: Vec::new(),
            references: Vec::new(),
        };
        Self { source, edition, path_split, plan, findings }
    }

    fn parse(&mut self, scalar: &Scalar) -> Option<Query> {
        let map = self.source.map(scalar);
        self.findings.ok(sql::parse(&map, &scalar.text))
    }

    /// The table's index; names without a schema are in `public`.
    fn table(&mut self, reference: &TableReference) -> usize {
        let name = TableName {
            schema: reference.schema.clone().unwrap_or_else(|| "public".to_owned()),
            name: reference.name.clone(),
        };
        let index = intern(&mut self.plan.tables, name);
        self.refer(index, ReferenceKind::Table, reference.position);
        index
    }

    fn lookup(&mut self, lookup: LookupPlan) -> usize {
        intern(&mut self.plan.lookups, lookup)
    }

    fn refer(&mut self, table: usize, kind: ReferenceKind, position: Position) {
        let reference = Reference { table, kind, position };
        // A list of literals says the same of its column for each.
        if self.plan.references.last() != Some(&reference) {
            self.plan.references.push(reference);
        }
    }

    /// What a data query selects. Each item's error is found.
    fn projection(
        &mut self,
        scope: &Scope,
        query: &Query,
        skip_underscore: bool,
    ) -> Vec<ProjectionItem> {
        let mut items = Vec::new();
        let mut has_id = false;
        let mut all = None;
        for item in &query.columns {
            let result = self.projection_item(scope, item, skip_underscore);
            let Some(item) = self.findings.ok(result) else {
                has_id = true; // Unknown: one error is enough.
                continue;
            };
            match &item {
                ProjectionItem::All { .. } => all = Some(query.columns[items.len()].position),
                ProjectionItem::Expression { name, .. } => has_id |= name == "id",
            }
            items.push(item);
        }
        match (has_id, all) {
            (true, _) => {}
            (false, Some(position)) => {
                self.refer(scope.table_index(), ReferenceKind::IdOfAll, position);
            }
            (false, None) => {
                let error = Diagnostic::error(query.position, "the query has no column `id`");
                let hint = "every synced row needs one: name its key, as in \
                            `SELECT key AS id, ...`";
                self.findings.push(error.hint(hint));
            }
        }
        items
    }

    fn projection_item(
        &mut self,
        scope: &Scope,
        item: &SelectItem,
        skip_underscore: bool,
    ) -> Result<ProjectionItem, Diagnostic> {
        match &item.kind {
            SelectItemKind::All { table } => {
                scope.check_table(table.as_deref(), item.position)?;
                Ok(ProjectionItem::All { skip_underscore })
            }
            SelectItemKind::Expression { expression, alias } => {
                let name = output_name(item.position, expression, alias.as_deref())?;
                let lowered = self.lower(scope, expression)?;
                let expression = scope::row_expression(&lowered).ok_or_else(|| {
                    let message = "a column of a synced row cannot depend on the request";
                    Diagnostic::error(item.position, message)
                        .hint("select columns of the table, and compare with the request in WHERE")
                })?;
                Ok(ProjectionItem::Expression { name, expression })
            }
        }
    }

    /// Warns of what anybody may ask for.
    fn check_danger(&mut self, instantiation: &Instantiation, position: Position) {
        let (mut authenticated, mut unauthenticated) = (false, false);
        let mut see = |expression: &RequestExpression| {
            expression.for_each_leaf(&mut |leaf| {
                if leaf.source.is_authenticated() {
                    authenticated = true;
                } else {
                    unauthenticated = true;
                }
            });
        };
        let mut see_key = |key: &RequestKey| match key {
            RequestKey::Value(expression) | RequestKey::Each(expression) => see(expression),
        };
        for source in instantiation.parameters.iter().flat_map(|parameter| &parameter.all_of) {
            match source {
                ParameterSource::Request(key) => see_key(key),
                ParameterSource::Output { .. } => {}
            }
        }
        instantiation.uses.iter().flat_map(|lookup| &lookup.key).for_each(&mut see_key);
        instantiation.filters.iter().for_each(&mut see);
        if unauthenticated && !authenticated {
            let message = "any client can read this: it depends on parameters that clients choose \
                           and on nothing in the token";
            let hint = "compare with `auth.user_id()` or `auth.parameter(...)` too, or set \
                        `accept_potentially_dangerous_queries: true`";
            self.findings.push(Diagnostic::warning(position, message).hint(hint));
        }
    }
}

/// The index of a thing in a list, which it is added to when it is not there.
fn intern<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

/// The name of a selected expression: its alias, or the column it is.
fn output_name(
    position: Position,
    expression: &crate::syntax::Expression,
    alias: Option<&str>,
) -> Result<String, Diagnostic> {
    use crate::syntax::ExpressionKind;
    match (alias, &expression.kind) {
        (Some(alias), _) => Ok(alias.to_owned()),
        (None, ExpressionKind::Name { name, .. }) => Ok(name.clone()),
        (None, _) => Err(Diagnostic::error(position, "this expression has no name")
            .hint("add one, as in `upper(name) AS name`")),
    }
}

/// All of these conditions; `None` when there is none.
fn all_of(mut conditions: Vec<RowExpression>) -> Option<RowExpression> {
    match conditions.len() {
        0 => None,
        1 => conditions.pop(),
        _ => Some(RowExpression::And(conditions)),
    }
}

/// Whether an expression depends on columns, on the request, on bucket parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sources {
    row: bool,
    request: bool,
    bucket: bool,
}

impl Sources {
    fn of(expression: &crate::expression::Expression<Leaf>) -> Self {
        let mut sources = Self::default();
        expression.for_each_leaf(&mut |leaf| match leaf {
            Leaf::Column(_) => sources.row = true,
            Leaf::Request(_) => sources.request = true,
            Leaf::Bucket(_) => sources.bucket = true,
        });
        sources
    }
}
