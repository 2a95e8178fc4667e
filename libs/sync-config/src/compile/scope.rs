//! What names mean where a query uses them.

use super::Compiler;
use super::operators::{negate_if, negative_of, positive_of};
use crate::diagnostic::{Diagnostic, Position};
use crate::expression::{CastType, Expression, Literal};
use crate::functions::path_names;
use crate::options::shorten;
use crate::plan::{
    Kind, Member, ReferenceKind, RequestExpression, RequestLeaf, RequestSource, RowExpression,
};
use crate::syntax::{self, ExpressionKind};

/// What an expression can depend on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Leaf {
    Column(String),
    Request(RequestLeaf),
    /// A parameter of a bucket definition, by index.
    Bucket(usize),
}

/// Where an expression stands.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) kind: ScopeKind,
    /// The table selected from: its index and what the query calls it.
    pub(crate) table: Option<(usize, String)>,
}

#[derive(Debug)]
pub(crate) enum ScopeKind {
    Stream,
    /// The inner query of `x IN (SELECT ...)`, and what the outer query calls its table.
    StreamSubquery {
        outer: String,
    },
    /// Of a bucket definition.
    ParameterQuery,
    /// Of a bucket definition with these parameters.
    DataQuery {
        parameters: Vec<String>,
    },
}

impl Scope {
    /// The table's index. There is one in every query of rows.
    pub(crate) fn table_index(&self) -> usize {
        self.table.as_ref().map_or(0, |(index, _)| *index)
    }

    /// That `t.*` names the table.
    pub(crate) fn check_table(
        &self,
        name: Option<&str>,
        position: Position,
    ) -> Result<(), Diagnostic> {
        match (name, &self.table) {
            (Some(name), Some((_, visible))) if name != visible => {
                Err(Diagnostic::error(position, format!("`{name}` is not the table of this query"))
                    .hint(format!("it is `{visible}`")))
            }
            (_, Some(_)) => Ok(()),
            (_, None) => Err(Diagnostic::error(position, "there is no table to select `*` from")),
        }
    }

    fn namespaces(&self) -> &'static [&'static str] {
        match self.kind {
            ScopeKind::Stream | ScopeKind::StreamSubquery { .. } => {
                &["auth", "connection", "subscription"]
            }
            ScopeKind::ParameterQuery => &["request"],
            ScopeKind::DataQuery { .. } => &[],
        }
    }
}

impl Compiler<'_> {
    /// Resolves the names of an expression and checks its calls.
    #[expect(clippy::too_many_lines, reason = "an arm for each kind, and nothing else")]
    pub(super) fn lower(
        &mut self,
        scope: &Scope,
        expression: &syntax::Expression,
    ) -> Result<Expression<Leaf>, Diagnostic> {
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
                Expression::Leaf(self.name(scope, qualifier.as_deref(), name, position)?)
            }
            ExpressionKind::Call { namespace: Some(namespace), name, arguments } => {
                self.request_call(scope, (namespace, name), arguments, position)?
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
            ExpressionKind::InQuery { .. } => {
                let message = "`IN (SELECT ...)` is not supported here";
                return Err(Diagnostic::error(position, message)
                    .hint("it must be a condition of its own, joined by AND or OR to others"));
            }
            ExpressionKind::Array(_) => {
                let message = "an array or row is supported after `IN` only";
                return Err(Diagnostic::error(position, message)
                    .hint("elsewhere an array is a text with JSON, as in `'[1, 2]'`"));
            }
            ExpressionKind::Compare { comparison, left, right } => {
                let (left, right) = self.lower_compared(scope, left, right, position)?;
                Expression::Compare { comparison: *comparison, left, right }
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
                let (left, right) = self.lower_both(scope, left, right)?;
                Expression::Overlap { left, right }
            }
            ExpressionKind::Json { value, path, as_value } => {
                let path_position = path.position;
                let (value, path) = self.lower_both(scope, value, path)?;
                check_path(&path, path_position)?;
                self.member(value, path, *as_value)
            }
            ExpressionKind::Signed { negative, value } => {
                let value = self.lower_box(scope, value)?;
                if *negative { negative_of(value) } else { positive_of(value) }
            }
            ExpressionKind::InArray { value, array, negated } => {
                negate_if(*negated, self.in_array(scope, value, array, position)?)
            }
            ExpressionKind::InList { value, list, negated } => {
                negate_if(*negated, self.in_list(scope, value, list, position)?)
            }
            ExpressionKind::Between { value, low, high, negated } => {
                negate_if(*negated, self.between(scope, value, (low, high))?)
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
        scope: &Scope,
        expression: &syntax::Expression,
    ) -> Result<Box<Expression<Leaf>>, Diagnostic> {
        self.lower(scope, expression).map(Box::new)
    }

    pub(super) fn lower_all(
        &mut self,
        scope: &Scope,
        list: &[syntax::Expression],
    ) -> Result<Vec<Expression<Leaf>>, Diagnostic> {
        list.iter().map(|expression| self.lower(scope, expression)).collect()
    }

    /// Notes that a column is compared with what is always text, or always a number.
    pub(super) fn note_kinds(
        &mut self,
        scope: &Scope,
        left: &Expression<Leaf>,
        right: &Expression<Leaf>,
        position: Position,
    ) {
        for (column, other) in [(left, right), (right, left)] {
            if let (Expression::Leaf(Leaf::Column(column)), Some(with)) = (column, kind(other)) {
                let kind = ReferenceKind::Compared { column: column.clone(), with };
                self.refer(scope.table_index(), kind, position);
            }
        }
    }

    fn name(
        &mut self,
        scope: &Scope,
        qualifier: Option<&str>,
        name: &str,
        position: Position,
    ) -> Result<Leaf, Diagnostic> {
        if let Some((table, visible)) = &scope.table
            && qualifier.is_none_or(|qualifier| qualifier == visible)
        {
            self.refer(*table, ReferenceKind::Column(name.to_owned()), position);
            return Ok(Leaf::Column(name.to_owned()));
        }
        let Some(qualifier) = qualifier else {
            let message = format!("`{name}` is a column, but the query has no table");
            return Err(Diagnostic::error(position, message));
        };
        let source = match (&scope.kind, qualifier) {
            (ScopeKind::DataQuery { parameters }, "bucket") => {
                return bucket_parameter(parameters, name, position);
            }
            (ScopeKind::StreamSubquery { outer }, _) if qualifier == outer => {
                let message = format!("`{qualifier}.{name}` belongs to the outer query");
                return Err(Diagnostic::error(position, message)
                    .hint("the inner query must stand for itself: `x IN (SELECT y FROM t ...)`"));
            }
            (ScopeKind::ParameterQuery, "token_parameters") => RequestSource::TokenParameters,
            (ScopeKind::ParameterQuery, "user_parameters") => RequestSource::ConnectionParameters,
            (
                ScopeKind::Stream
                | ScopeKind::StreamSubquery { .. }
                | ScopeKind::ParameterQuery
                | ScopeKind::DataQuery { .. },
                _,
            ) => {
                let error = Diagnostic::error(
                    position,
                    format!("`{qualifier}` in `{qualifier}.{name}` is not a table of this query"),
                );
                return Err(match &scope.table {
                    Some((_, visible)) => error.hint(format!("the table is `{visible}`")),
                    None => error,
                });
            }
        };
        let member = Member { names: vec![name.to_owned()], as_value: true };
        Ok(Leaf::Request(RequestLeaf { source, member: Some(member) }))
    }

    /// `auth.parameter('x')` and its kind.
    fn request_call(
        &mut self,
        scope: &Scope,
        (namespace, name): (&str, &str),
        arguments: &[syntax::Expression],
        position: Position,
    ) -> Result<Expression<Leaf>, Diagnostic> {
        let (source, arity) = match (namespace, name) {
            ("auth" | "request", "user_id") => (RequestSource::UserId, 0),
            ("auth", "parameters") | ("request", "jwt") => (RequestSource::Claims, 0),
            ("auth", "parameter") => (RequestSource::Claims, 1),
            ("connection" | "request", "parameters") => (RequestSource::ConnectionParameters, 0),
            ("connection" | "request", "parameter") => (RequestSource::ConnectionParameters, 1),
            ("subscription", "parameters") => (RequestSource::SubscriptionParameters, 0),
            ("subscription", "parameter") => (RequestSource::SubscriptionParameters, 1),
            _ => return Err(unknown_call(scope, namespace, name, position)),
        };
        if !scope.namespaces().contains(&namespace) {
            return Err(misplaced_call(scope, namespace, name, position));
        }
        if arguments.len() != arity {
            let takes = if arity == 0 { "no argument" } else { "one argument" };
            let message = format!("`{namespace}.{name}` takes {takes}");
            return Err(Diagnostic::error(position, message));
        }
        let whole = Expression::Leaf(Leaf::Request(RequestLeaf { source, member: None }));
        let Some(argument) = arguments.first() else { return Ok(whole) };
        let path = self.lower(scope, argument)?;
        check_path(&path, argument.position)?;
        Ok(self.member(Box::new(whole), Box::new(path), true))
    }

    /// `->` and `->>`; of the request by a constant path it is a leaf, which needs no JSON text.
    pub(super) fn member(
        &self,
        value: Box<Expression<Leaf>>,
        path: Box<Expression<Leaf>>,
        as_value: bool,
    ) -> Expression<Leaf> {
        if let Expression::Leaf(Leaf::Request(RequestLeaf { source, member: None })) = *value
            && source != RequestSource::UserId
            && let Expression::Literal(Literal::Text(path)) = path.as_ref()
        {
            let names = path_names(path, self.path_split).into_iter().map(str::to_owned).collect();
            let member = Some(Member { names, as_value });
            return Expression::Leaf(Leaf::Request(RequestLeaf { source, member }));
        }
        Expression::Json { value, path, as_value, split: self.path_split }
    }
}

/// The kind of value that an expression has whenever it is not NULL, where that is plain.
fn kind(expression: &Expression<Leaf>) -> Option<Kind> {
    match expression {
        Expression::Literal(Literal::Integer(_) | Literal::Real(_))
        | Expression::Cast { to: CastType::Integer | CastType::Real | CastType::Numeric, .. } => {
            Some(Kind::Number)
        }
        Expression::Leaf(Leaf::Request(RequestLeaf { source: RequestSource::UserId, .. }))
        | Expression::Literal(Literal::Text(_))
        | Expression::Concat { .. }
        | Expression::Cast { to: CastType::Text, .. } => Some(Kind::Text),
        Expression::Leaf(_)
        | Expression::Literal(Literal::Null)
        | Expression::And(_)
        | Expression::Or(_)
        | Expression::Not(_)
        | Expression::Compare { .. }
        | Expression::Arithmetic { .. }
        | Expression::Json { .. }
        | Expression::IsNull { .. }
        | Expression::Is { .. }
        | Expression::Between { .. }
        | Expression::Like { .. }
        | Expression::Case { .. }
        | Expression::Overlap { .. }
        | Expression::Cast { to: CastType::Blob, .. }
        | Expression::InList { .. }
        | Expression::InArray { .. }
        | Expression::Call { .. } => None,
    }
}

/// Refuses paths that other databases know and that would find nothing here.
pub(super) fn check_path(path: &Expression<Leaf>, position: Position) -> Result<(), Diagnostic> {
    let Expression::Literal(Literal::Text(path)) = path else { return Ok(()) };
    let is_simple = path == "$" || path.starts_with("$.");
    if path.starts_with('$') && (!is_simple || path.contains('[')) {
        let message = format!("the path `{}` is not supported", shorten(path));
        return Err(Diagnostic::error(position, message)
            .hint("names and indices are separated by dots, as in `$.list.0.name`"));
    }
    Ok(())
}

fn bucket_parameter(
    parameters: &[String],
    name: &str,
    position: Position,
) -> Result<Leaf, Diagnostic> {
    if let Some(index) = parameters.iter().position(|parameter| parameter == name) {
        return Ok(Leaf::Bucket(index));
    }
    let error = Diagnostic::error(position, format!("the bucket has no parameter `{name}`"));
    Err(if parameters.is_empty() {
        error.hint("`parameters` of this bucket definition select none")
    } else {
        error.hint(format!("its parameters are: {}", parameters.join(", ")))
    })
}

fn unknown_call(scope: &Scope, namespace: &str, name: &str, position: Position) -> Diagnostic {
    let error = Diagnostic::error(position, format!("unknown function `{namespace}.{name}`"));
    match scope.kind {
        ScopeKind::Stream | ScopeKind::StreamSubquery { .. } => error.hint(
            "of the request there are auth.user_id(), auth.parameter(name), \
             connection.parameter(name) and subscription.parameter(name)",
        ),
        ScopeKind::ParameterQuery => error.hint(
            "of the request there are request.user_id(), request.jwt(), request.parameters() and \
             request.parameter(name)",
        ),
        ScopeKind::DataQuery { .. } => error,
    }
}

fn misplaced_call(scope: &Scope, namespace: &str, name: &str, position: Position) -> Diagnostic {
    let error = |message: &str| {
        Diagnostic::error(position, format!("`{namespace}.{name}` is not available {message}"))
    };
    match scope.kind {
        ScopeKind::Stream | ScopeKind::StreamSubquery { .. } => {
            error("in streams").hint("use auth, connection or subscription")
        }
        ScopeKind::ParameterQuery => error("in bucket definitions").hint("use request"),
        ScopeKind::DataQuery { .. } => error("in data queries")
            .hint("select it in `parameters`, and compare with `bucket.<name>` here"),
    }
}

/// The expression when it depends on columns only.
pub(crate) fn row_expression(expression: &Expression<Leaf>) -> Option<RowExpression> {
    expression
        .try_map(&mut |leaf| match leaf {
            Leaf::Column(name) => Ok(name.clone()),
            Leaf::Request(_) | Leaf::Bucket(_) => Err(()),
        })
        .ok()
}

/// The expression when it depends on the request only.
pub(crate) fn request_expression(expression: &Expression<Leaf>) -> Option<RequestExpression> {
    expression
        .try_map(&mut |leaf| match leaf {
            Leaf::Request(leaf) => Ok(leaf.clone()),
            Leaf::Column(_) | Leaf::Bucket(_) => Err(()),
        })
        .ok()
}
