//! Expressions: resolves their names and checks their calls.

use super::QueryCompiler;
use super::kind::{is_user_id, kind};
use super::operators::{negate_if, negative_of, positive_of};
use super::scope::{Scope, ScopeEntry, ScopeEntryKind, ScopeKind};
use crate::compile::row_sources::{Leaf, QueryExpression, SourceId};
use crate::expression::{Expression, Literal};
use crate::file::diagnostic::{Diagnostic, Position};
use crate::file::options::shorten;
use crate::functions::{path_names, steps};
use crate::plan::{ReferenceKind, RequestLeaf, RequestMember, RequestSource, TableMetadata};
use crate::sql::syntax::{self, ExpressionKind};
use crate::value::PathSplit;

impl QueryCompiler<'_, '_> {
    /// Resolves the names of an expression and checks its calls.
    #[expect(clippy::too_many_lines, reason = "an arm for each kind, and nothing else")]
    pub(in crate::compile) fn lower(
        &mut self,
        scope: &Scope<'_>,
        expression: &syntax::Expression,
    ) -> Result<QueryExpression, Diagnostic> {
        let position = expression.position;
        self.check_edition(expression)?;
        Ok(match &expression.kind {
            ExpressionKind::Null => Expression::Literal(Literal::Null),
            ExpressionKind::Integer(integer) => Expression::Literal(Literal::Integer(*integer)),
            ExpressionKind::Real(real) => Expression::Literal(Literal::Real(*real)),
            ExpressionKind::Text(text) => Expression::Literal(Literal::Text(text.clone())),
            ExpressionKind::Boolean(boolean) => {
                Expression::Literal(Literal::Integer(i64::from(*boolean)))
            }
            ExpressionKind::Name { qualifier, name } => {
                self.name(scope, qualifier.as_ref(), name, position)?
            }
            ExpressionKind::Call { namespace: Some(namespace), name, arguments } => {
                self.request_call(scope, namespace, name, arguments, position)?
            }
            ExpressionKind::Call { namespace: None, name, arguments } => {
                self.call(scope, name, arguments, position)?
            }
            ExpressionKind::And(list) => Expression::And(self.lower_all(scope, list)?),
            ExpressionKind::Or(list) => Expression::Or(self.lower_all(scope, list)?),
            ExpressionKind::Not(inner) => Expression::Not(self.lower_box(scope, inner)?),
            ExpressionKind::IsNull { value, negated } => {
                Expression::IsNull { value: self.lower_box(scope, value)?, negated: *negated }
            }
            ExpressionKind::Cast { value, to } => {
                Expression::Cast { value: self.lower_box(scope, value)?, to: *to }
            }
            ExpressionKind::InQuery { .. }
            | ExpressionKind::Exists { .. }
            | ExpressionKind::OverlapQuery { .. } => {
                let message = "a subquery is not supported here";
                return Err(Diagnostic::error(position, message)
                    .hint("write it as a separate condition, joined by AND or OR"));
            }
            ExpressionKind::Array(_) => {
                let message = "an array or row is supported after `IN` only";
                return Err(Diagnostic::error(position, message)
                    .hint("elsewhere write an array as JSON text, as in `'[1, 2]'`"));
            }
            ExpressionKind::Compare { comparison, left, right } => {
                let (left, right) = self.lower_compared(scope, left, right, position)?;
                self.comparison(*comparison, left, right)
            }
            ExpressionKind::Is { left, right, negated } => {
                let (left, right) = self.lower_compared(scope, left, right, position)?;
                negate_if(*negated, Expression::Is { left, right })
            }
            ExpressionKind::Arithmetic { operator, left, right } => {
                let (left, right) = self.lower_both(scope, left, right)?;
                Expression::Arithmetic { operator: *operator, left, right }
            }
            ExpressionKind::Concat { left, right } => {
                let (left, right) = self.lower_both(scope, left, right)?;
                Expression::Concat { left, right }
            }
            ExpressionKind::Overlap { left, right } => {
                let left = self.each(scope, left)?;
                let right = self.each(scope, right)?;
                Expression::Overlap { left: Box::new(left), right: Box::new(right) }
            }
            ExpressionKind::Json { value, path, as_value } => {
                let path_position = path.position;
                let (value, path) = self.lower_both(scope, value, path)?;
                self.check_path(&path, path_position)?;
                self.member(value, path, *as_value)
            }
            ExpressionKind::Signed { negative, value } => {
                let value = self.lower_box(scope, value)?;
                if *negative { negative_of(value) } else { positive_of(value) }
            }
            ExpressionKind::InArray { value, array, negated } => {
                let is_in = self.in_array(scope, value, array, *negated, position)?;
                negate_if(*negated, is_in)
            }
            ExpressionKind::InList { value, list, negated } => {
                negate_if(*negated, self.in_list(scope, value, list, position)?)
            }
            ExpressionKind::Between { value, low, high, negated } => {
                negate_if(*negated, self.between(scope, value, low, high)?)
            }
            ExpressionKind::Like { value, pattern, negated } => {
                let value = self.lower_box(scope, value)?;
                negate_if(*negated, Expression::Like { value, pattern: pattern.clone() })
            }
            ExpressionKind::Case { operand, branches, otherwise } => {
                self.case(scope, operand.as_deref(), branches, otherwise.as_deref())?
            }
        })
    }

    pub(super) fn lower_box(
        &mut self,
        scope: &Scope<'_>,
        expression: &syntax::Expression,
    ) -> Result<Box<QueryExpression>, Diagnostic> {
        self.lower(scope, expression).map(Box::new)
    }

    /// Resolves all expressions of a list. With several errors, all but the last go to the findings.
    pub(super) fn lower_all(
        &mut self,
        scope: &Scope<'_>,
        list: &[syntax::Expression],
    ) -> Result<Vec<QueryExpression>, Diagnostic> {
        let results = list.iter().map(|expression| self.lower(scope, expression)).collect();
        self.file.findings.all(results)
    }

    /// Records a comparison of a column with an expression whose kind is known.
    pub(super) fn record_comparison(
        &mut self,
        left: &QueryExpression,
        right: &QueryExpression,
        position: Position,
    ) {
        for (column, other) in [(left, right), (right, left)] {
            let Expression::Leaf(Leaf::Column { source, name }) = column else { continue };
            let Some(table) = self.sources.table(*source) else { continue };

            if is_user_id(other) {
                let kind = ReferenceKind::ComparedWithUserId(name.clone());
                self.file.add_reference(table, kind, position);
            } else if let Some(with) = kind(other) {
                let kind = ReferenceKind::Compared { column: name.clone(), with };
                self.file.add_reference(table, kind, position);
            }
        }
    }

    /// Resolves a function of the request, such as `auth.parameter('x')`, or of a table, such as
    /// `t.schema()`.
    fn request_call(
        &mut self,
        scope: &Scope<'_>,
        namespace: &str,
        name: &str,
        arguments: &[syntax::Expression],
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        let (source, arity) = match (namespace, name) {
            ("auth" | "request", "user_id") => (RequestSource::UserId, 0),
            ("auth", "parameters") | ("request", "jwt") => (RequestSource::Claims, 0),
            ("auth", "parameter") => (RequestSource::Claims, 1),
            ("connection" | "request", "parameters") => (RequestSource::ConnectionParameters, 0),
            ("connection" | "request", "parameter") => (RequestSource::ConnectionParameters, 1),
            ("subscription", "parameters") => (RequestSource::SubscriptionParameters, 0),
            ("subscription", "parameter") => (RequestSource::SubscriptionParameters, 1),
            _ => {
                if let Some(ScopeEntry { kind: ScopeEntryKind::Table(source), .. }) =
                    scope.entry(namespace)
                    && let Some(metadata) = table_metadata(name)
                    && arguments.is_empty()
                {
                    return Ok(self.metadata(*source, metadata));
                }
                return Err(unknown_call(scope, namespace, name, position));
            }
        };
        if !scope.namespaces().contains(&namespace) {
            return Err(misplaced_call(scope, namespace, name, position));
        }
        if arguments.len() != arity {
            let takes = if arity == 0 { "no argument" } else { "one argument" };
            let message = format!("`{namespace}.{name}` takes {takes}");
            let error = Diagnostic::error(position, message);
            return Err(match instead_of_arguments(namespace, name, arguments) {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }

        let whole = Expression::Leaf(Leaf::Request(RequestLeaf::Given { source, member: None }));
        let Some(argument) = arguments.first() else { return Ok(whole) };
        let path = self.lower(scope, argument)?;
        self.check_path(&path, argument.position)?;

        Ok(self.member_of_request(Box::new(whole), Box::new(path), true))
    }

    /// Returns the schema, name or suffix of a source's table: a literal, unless the table is a
    /// wildcard.
    pub(super) fn metadata(&self, source: SourceId, metadata: TableMetadata) -> QueryExpression {
        let table = self.sources.table(source).and_then(|table| self.file.plan.tables.get(table));
        match (table, metadata) {
            (Some(table), TableMetadata::Schema) if !table.schema.ends_with('%') => {
                Expression::Literal(Literal::Text(table.schema.clone()))
            }
            (Some(table), TableMetadata::Name) if !table.name.ends_with('%') => {
                Expression::Literal(Literal::Text(table.name.clone()))
            }
            (Some(table), TableMetadata::Suffix) if !table.name.ends_with('%') => {
                Expression::Literal(Literal::Text(String::new()))
            }
            _ => Expression::Leaf(Leaf::TableMetadata { source, metadata }),
        }
    }

    /// Rejects paths in the syntax of other databases, which would match nothing here.
    pub(super) fn check_path(
        &self,
        path: &QueryExpression,
        position: Position,
    ) -> Result<(), Diagnostic> {
        let Expression::Literal(Literal::Text(path)) = path else { return Ok(()) };

        let (is_known, hint) = if self.file.plan.values.engine.has_sqlite_json_paths() {
            (steps(path).is_some(), "write SQLite's paths, as in `$.list[0].name`")
        } else {
            let is_simple = path == "$" || path.starts_with("$.");
            let hint = "names and indices are separated by dots, as in `$.list.0.name`";
            (is_simple && !path.contains('['), hint)
        };

        if path.starts_with('$') && !is_known {
            let message = format!("the path `{}` is not supported", shorten(path));
            return Err(Diagnostic::error(position, message).hint(hint));
        }
        Ok(())
    }

    /// Returns the expression for `->` or `->>`. With `PathSplit::Always` these operators
    /// distinguish a JSON null, which a leaf of the request does not.
    fn member(
        &self,
        value: Box<QueryExpression>,
        path: Box<QueryExpression>,
        as_value: bool,
    ) -> QueryExpression {
        match self.file.path_split {
            PathSplit::AfterDollar => self.member_of_request(value, path, as_value),
            PathSplit::Always => {
                Expression::Json { value, path, as_value, split: PathSplit::Always }
            }
        }
    }

    /// Returns the expression for a member. A constant path into the request becomes a leaf, which
    /// needs no JSON text.
    fn member_of_request(
        &self,
        value: Box<QueryExpression>,
        path: Box<QueryExpression>,
        as_value: bool,
    ) -> QueryExpression {
        if let Expression::Leaf(Leaf::Request(RequestLeaf::Given { source, member: None })) = *value
            && source != RequestSource::UserId
            && let Expression::Literal(Literal::Text(path)) = path.as_ref()
            && !(self.file.plan.values.engine.has_sqlite_json_paths()
                && path.starts_with(['$', '[']))
        {
            let names =
                path_names(path, self.file.path_split).into_iter().map(str::to_owned).collect();
            let member = Some(RequestMember { names, as_value });
            return Expression::Leaf(Leaf::Request(RequestLeaf::Given { source, member }));
        }

        Expression::Json { value, path, as_value, split: self.file.path_split }
    }
}

/// Returns the metadata that a function of a table returns.
fn table_metadata(name: &str) -> Option<TableMetadata> {
    match name {
        "schema" => Some(TableMetadata::Schema),
        "table_name" => Some(TableMetadata::Name),
        "table_suffix" => Some(TableMetadata::Suffix),
        _ => None,
    }
}

fn unknown_call(scope: &Scope<'_>, namespace: &str, name: &str, position: Position) -> Diagnostic {
    let error = Diagnostic::error(position, format!("unknown function `{namespace}.{name}`"));
    if let Some(call) = scope.request_call(namespace, name) {
        return error.hint(format!("did you mean `{call}`?"));
    }
    match scope.kind {
        ScopeKind::Stream => error.hint(
            "the functions of the request are auth.user_id(), auth.parameter(name), \
             connection.parameter(name) and subscription.parameter(name)",
        ),
        ScopeKind::ParameterQuery => error.hint(
            "the functions of the request are request.user_id(), request.jwt(), request.parameters() and \
             request.parameter(name)",
        ),
        ScopeKind::DataQuery { .. } => error,
    }
}

fn misplaced_call(
    scope: &Scope<'_>,
    namespace: &str,
    name: &str,
    position: Position,
) -> Diagnostic {
    let (place, hint) = match scope.kind {
        ScopeKind::Stream => ("streams", "use auth, connection or subscription"),
        ScopeKind::ParameterQuery => ("bucket definitions", "use request"),
        ScopeKind::DataQuery { .. } => {
            ("data queries", "select it in `parameters`, and compare with `bucket.<name>` here")
        }
    };

    let message = format!("`{namespace}.{name}` is not available in {place}");
    let error = Diagnostic::error(position, message);
    match scope.request_call(namespace, name) {
        Some(call) => error.hint(format!("write `{call}`")),
        None => error.hint(hint),
    }
}

/// Returns the hint for a call of a function of the request with the wrong number of arguments.
fn instead_of_arguments(
    namespace: &str,
    name: &str,
    arguments: &[syntax::Expression],
) -> Option<String> {
    match (namespace, name, arguments) {
        ("auth" | "connection" | "subscription" | "request", "parameters", [argument]) => {
            let ExpressionKind::Text(text) = &argument.kind else { return None };
            Some(format!("write `{namespace}.parameter('{}')`", shorten(text)))
        }
        ("request", "jwt", [argument]) => {
            let ExpressionKind::Text(text) = &argument.kind else { return None };
            Some(format!("write `request.jwt() ->> '{}'`", shorten(text)))
        }
        ("auth", "parameter", []) => {
            Some("name a claim of the token, as in `auth.parameter('org_id')`".to_owned())
        }
        (_, "parameter", []) => {
            Some(format!("name a parameter, as in `{namespace}.parameter('project')`"))
        }
        _ => None,
    }
}
