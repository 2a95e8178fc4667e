//! What names mean where a query uses them.

use super::Compiler;
use super::operators::{negate_if, negative_of, positive_of};
use super::sources::{Leaf, QueryExpression, SourceId};
use crate::diagnostic::{Diagnostic, Position};
use crate::expression::{CastType, Expression, Literal};
use crate::functions::path_names;
use crate::options::shorten;
use crate::plan::{Kind, Member, ReferenceKind, RequestLeaf, RequestSource};
use crate::syntax::{self, Cte, ExpressionKind};

/// Where an expression stands.
#[derive(Debug)]
pub(crate) struct Scope<'s> {
    pub(crate) kind: &'s ScopeKind,
    /// What the query selects from.
    pub(crate) entries: Vec<Entry>,
    pub(crate) outer: Option<&'s Self>,
    pub(crate) ctes: Ctes<'s>,
}

/// What can be said before a dot.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: EntryKind,
}

#[derive(Clone, Debug)]
pub(crate) enum EntryKind {
    Table(SourceId),
    Elements(SourceId),
    /// What an inner query selects.
    Columns(Vec<(String, QueryExpression)>),
}

#[derive(Debug)]
pub(crate) enum ScopeKind {
    Stream,
    /// Of a bucket definition.
    ParameterQuery,
    /// Of a bucket definition with these parameters.
    DataQuery {
        parameters: Vec<String>,
    },
}

/// The CTEs that a query can select from: the first `count` of a list, and those around them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ctes<'s> {
    pub(crate) list: &'s [Cte],
    pub(crate) count: usize,
    pub(crate) outer: Option<&'s Self>,
}

impl<'s> Ctes<'s> {
    pub(crate) fn new(list: &'s [Cte], outer: &'s Self) -> Self {
        Self { list, count: list.len(), outer: Some(outer) }
    }

    /// The CTE of a name, and those that it can select from in turn: the ones before it. A name that
    /// is not quoted comes in lower case, however the file spells it.
    pub(crate) fn find(&self, name: &str) -> Option<(&'s Cte, Self)> {
        let is = |cte: &Cte| cte.name == name || cte.name.to_ascii_lowercase() == name;
        let place = self.list[..self.count].iter().rposition(is);
        match place {
            Some(place) => Some((&self.list[place], Self { count: place, ..*self })),
            None => self.outer.and_then(|outer| outer.find(name)),
        }
    }
}

impl<'s> Scope<'s> {
    pub(crate) fn new(kind: &'s ScopeKind, ctes: Ctes<'s>) -> Self {
        Self { kind, entries: Vec::new(), outer: None, ctes }
    }

    /// Of a query within this one.
    pub(crate) fn inner(&'s self, query: &'s syntax::Query) -> Self {
        let ctes = Ctes::new(&query.ctes, &self.ctes);
        Self { kind: self.kind, entries: Vec::new(), outer: Some(self), ctes }
    }

    /// The name of a CTE rather than of a column, where an array may stand.
    pub(crate) fn cte_of_array(&self, array: &syntax::Expression) -> Option<(&'s Cte, Ctes<'s>)> {
        let ExpressionKind::Name { qualifier: None, name } = &array.kind else { return None };
        self.ctes.find(name)
    }

    /// What goes by a name before a dot, here or around.
    fn entry(&self, name: &str) -> Option<&Entry> {
        let own = self.entries.iter().find(|entry| entry.name == name);
        own.or_else(|| self.outer.and_then(|outer| outer.entry(name)))
    }

    /// The tables' names, for people.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> =
            self.entries.iter().map(|entry| format!("`{}`", entry.name)).collect();
        names.join(", ")
    }

    fn namespaces(&self) -> &'static [&'static str] {
        match self.kind {
            ScopeKind::Stream => &["auth", "connection", "subscription"],
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
                self.name(scope, qualifier.as_deref(), name, position)?
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
            ExpressionKind::InQuery { .. }
            | ExpressionKind::Exists { .. }
            | ExpressionKind::OverlapQuery { .. } => {
                let message = "an inner query is not supported here";
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
        scope: &Scope<'_>,
        expression: &syntax::Expression,
    ) -> Result<Box<QueryExpression>, Diagnostic> {
        self.lower(scope, expression).map(Box::new)
    }

    pub(super) fn lower_all(
        &mut self,
        scope: &Scope<'_>,
        list: &[syntax::Expression],
    ) -> Result<Vec<QueryExpression>, Diagnostic> {
        list.iter().map(|expression| self.lower(scope, expression)).collect()
    }

    /// Notes that a column is compared with what is always text, or always a number.
    pub(super) fn note_kinds(
        &mut self,
        left: &QueryExpression,
        right: &QueryExpression,
        position: Position,
    ) {
        for (column, other) in [(left, right), (right, left)] {
            if let (Expression::Leaf(Leaf::Column { source, name }), Some(with)) =
                (column, kind(other))
                && let Some(table) = self.sources.table(*source)
            {
                let kind = ReferenceKind::Compared { column: name.clone(), with };
                self.refer(table, kind, position);
            }
        }
    }

    fn name(
        &mut self,
        scope: &Scope<'_>,
        qualifier: Option<&str>,
        name: &str,
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        let Some(qualifier) = qualifier else {
            return self.bare_name(scope, name, position);
        };
        if let Some(entry) = scope.entry(qualifier) {
            return self.member_of(entry, name, position);
        }
        let source = match (scope.kind, qualifier) {
            (ScopeKind::DataQuery { parameters }, "bucket") => {
                return bucket_parameter(parameters, name, position).map(Expression::Leaf);
            }
            (ScopeKind::ParameterQuery, "token_parameters") => RequestSource::TokenParameters,
            (ScopeKind::ParameterQuery, "user_parameters") => RequestSource::ConnectionParameters,
            (ScopeKind::Stream | ScopeKind::ParameterQuery | ScopeKind::DataQuery { .. }, _) => {
                let error = Diagnostic::error(
                    position,
                    format!("`{qualifier}` in `{qualifier}.{name}` is not a table of this query"),
                );
                return Err(match scope.entries.as_slice() {
                    [] => error,
                    [entry] => error.hint(format!("the table is `{}`", entry.name)),
                    [_, _, ..] => error.hint(format!("the tables are {}", scope.names())),
                });
            }
        };
        let member = Some(Member { names: vec![name.to_owned()], as_value: true });
        Ok(Expression::Leaf(Leaf::Request(RequestLeaf::Given { source, member })))
    }

    /// A name without a table's: which table has it is not known here, so there must be one only.
    fn bare_name(
        &mut self,
        scope: &Scope<'_>,
        name: &str,
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        match (scope.entries.as_slice(), scope.outer) {
            ([entry], _) => self.member_of(entry, name, position),
            ([], Some(outer)) => self.bare_name(outer, name, position),
            ([], None) => {
                let message = format!("`{name}` is a column, but the query has no table");
                Err(Diagnostic::error(position, message))
            }
            ([first, _, ..], _) => {
                let message = format!("`{name}` may be of any of the tables {}", scope.names());
                Err(Diagnostic::error(position, message)
                    .hint(format!("say of which, as in `{}.{name}`", first.name)))
            }
        }
    }

    fn member_of(
        &mut self,
        entry: &Entry,
        name: &str,
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        match &entry.kind {
            EntryKind::Table(source) => {
                if let Some(table) = self.sources.table(*source) {
                    self.refer(table, ReferenceKind::Column(name.to_owned()), position);
                }
                Ok(Expression::Leaf(Leaf::Column { source: *source, name: name.to_owned() }))
            }
            EntryKind::Elements(source) if name == "value" => {
                Ok(Expression::Leaf(Leaf::Element(*source)))
            }
            EntryKind::Elements(_) => {
                let message = format!("`json_each` has no column `{name}`");
                Err(Diagnostic::error(position, message).hint("it has `value`"))
            }
            EntryKind::Columns(columns) => {
                let found = columns.iter().find(|(known, _)| known == name);
                found.map(|(_, expression)| expression.clone()).ok_or_else(|| {
                    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
                    let message = format!("`{}` has no column `{name}`", entry.name);
                    let error = Diagnostic::error(position, message);
                    match names.as_slice() {
                        [""] => error.hint("name what it selects: `SELECT ... AS name`"),
                        names => error.hint(format!("it selects: {}", names.join(", "))),
                    }
                })
            }
        }
    }

    /// `auth.parameter('x')` and its kind.
    fn request_call(
        &mut self,
        scope: &Scope<'_>,
        (namespace, name): (&str, &str),
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
                if let Some(Entry { kind: EntryKind::Table(source), .. }) = scope.entry(namespace)
                    && let Some(fact) = self.table_fact(*source, name, arguments)
                {
                    return Ok(fact);
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
            return Err(Diagnostic::error(position, message));
        }
        let whole = Expression::Leaf(Leaf::Request(RequestLeaf::Given { source, member: None }));
        let Some(argument) = arguments.first() else { return Ok(whole) };
        let path = self.lower(scope, argument)?;
        check_path(&path, argument.position)?;
        Ok(self.member(Box::new(whole), Box::new(path), true))
    }

    /// `t.schema()` or `t.table_name()`. A table is named in full, so they are known here.
    fn table_fact(
        &self,
        source: SourceId,
        name: &str,
        arguments: &[syntax::Expression],
    ) -> Option<QueryExpression> {
        let table = self.plan.tables.get(self.sources.table(source)?)?;
        let fact = match name {
            "schema" => &table.schema,
            "table_name" => &table.name,
            _ => return None,
        };
        let literal = Expression::Literal(Literal::Text(fact.clone()));
        arguments.is_empty().then_some(literal)
    }

    /// `->` and `->>`; of the request by a constant path it is a leaf, which needs no JSON text.
    pub(super) fn member(
        &self,
        value: Box<QueryExpression>,
        path: Box<QueryExpression>,
        as_value: bool,
    ) -> QueryExpression {
        if let Expression::Leaf(Leaf::Request(RequestLeaf::Given { source, member: None })) = *value
            && source != RequestSource::UserId
            && let Expression::Literal(Literal::Text(path)) = path.as_ref()
        {
            let names = path_names(path, self.path_split).into_iter().map(str::to_owned).collect();
            let member = Some(Member { names, as_value });
            return Expression::Leaf(Leaf::Request(RequestLeaf::Given { source, member }));
        }
        Expression::Json { value, path, as_value, split: self.path_split }
    }
}

/// The kind of value that an expression has whenever it is not NULL, where that is plain.
fn kind(expression: &QueryExpression) -> Option<Kind> {
    match expression {
        Expression::Literal(Literal::Integer(_) | Literal::Real(_))
        | Expression::Cast { to: CastType::Integer | CastType::Real | CastType::Numeric, .. } => {
            Some(Kind::Number)
        }
        Expression::Leaf(Leaf::Request(RequestLeaf::Given {
            source: RequestSource::UserId,
            ..
        }))
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
pub(super) fn check_path(path: &QueryExpression, position: Position) -> Result<(), Diagnostic> {
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

fn unknown_call(scope: &Scope<'_>, namespace: &str, name: &str, position: Position) -> Diagnostic {
    let error = Diagnostic::error(position, format!("unknown function `{namespace}.{name}`"));
    match scope.kind {
        ScopeKind::Stream => error.hint(
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

fn misplaced_call(
    scope: &Scope<'_>,
    namespace: &str,
    name: &str,
    position: Position,
) -> Diagnostic {
    let error = |message: &str| {
        Diagnostic::error(position, format!("`{namespace}.{name}` is not available {message}"))
    };
    match scope.kind {
        ScopeKind::Stream => error("in streams").hint("use auth, connection or subscription"),
        ScopeKind::ParameterQuery => error("in bucket definitions").hint("use request"),
        ScopeKind::DataQuery { .. } => error("in data queries")
            .hint("select it in `parameters`, and compare with `bucket.<name>` here"),
    }
}
