//! Syntax tree of a query. It can represent supported syntax only.

use crate::expression::{Arithmetic, CastType, Comparison, Pattern};
use crate::file::diagnostic::Position;

#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) position: Position,
    /// Position of `DISTINCT` or `ALL`. Streams ignore both: a bucket holds each row once.
    pub(crate) distinct: Option<Position>,
    pub(crate) ctes: Vec<Cte>,
    pub(crate) columns: Vec<SelectItem>,
    pub(crate) from: Vec<FromItem>,
    pub(crate) condition: Option<Expression>,
}

/// Named query that other queries can select from.
#[derive(Clone, Debug)]
pub(crate) struct Cte {
    pub(crate) position: Position,
    pub(crate) name: String,
    pub(crate) query: Query,
}

#[derive(Clone, Debug)]
pub(crate) struct SelectItem {
    pub(crate) position: Position,
    pub(crate) kind: SelectItemKind,
}

#[derive(Clone, Debug)]
pub(crate) enum SelectItemKind {
    /// `*` or `t.*`.
    All {
        table: Option<Qualifier>,
    },
    Expression {
        expression: Expression,
        alias: Option<String>,
        source_text: Option<SourceText>,
    },
}

/// Qualifier of a column: `table` or `schema.table`.
#[derive(Clone, Debug)]
pub(crate) struct Qualifier {
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

/// Text of an expression in the file.
#[derive(Clone, Debug)]
pub(crate) struct SourceText {
    pub(crate) position: Position,
    pub(crate) text: String,
}

/// Item of `FROM`, joined to those before it.
#[derive(Clone, Debug)]
pub(crate) struct FromItem {
    pub(crate) position: Position,
    pub(crate) source: FromSource,
    pub(crate) alias: Option<String>,
    /// Names that the alias of a subquery gives its columns. Empty if it gives none.
    pub(crate) column_names: Vec<String>,
    /// `true` if the alias is quoted.
    pub(crate) is_quoted: bool,
    pub(crate) join: Join,
}

#[derive(Clone, Debug)]
pub(crate) enum FromSource {
    /// Table or CTE.
    Table {
        schema: Option<String>,
        name: String,
    },
    Function {
        name: String,
        arguments: Vec<Expression>,
    },
    Query(Box<Query>),
}

#[derive(Clone, Debug)]
pub(crate) enum Join {
    /// Inner join, also for a comma and for the first item.
    Inner(Option<Expression>),
    Left(Expression),
}

impl FromItem {
    /// Returns the name that qualifies the item's columns.
    pub(crate) fn visible_name(&self) -> &str {
        match (&self.alias, &self.source) {
            (Some(alias), _) => alias,
            (None, FromSource::Table { name, .. } | FromSource::Function { name, .. }) => name,
            (None, FromSource::Query(_)) => "",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Expression {
    /// Start of the expression, or of its operator.
    pub(crate) position: Position,
    pub(crate) kind: ExpressionKind,
}

#[derive(Clone, Debug)]
pub(crate) enum ExpressionKind {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Boolean(bool),
    /// `name` or `qualifier.name`, folded as PostgreSQL does.
    Name {
        qualifier: Option<Qualifier>,
        name: String,
    },
    /// `name(..)` or `namespace.name(..)`.
    Call {
        namespace: Option<String>,
        name: String,
        arguments: Vec<Expression>,
    },
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    Compare {
        comparison: Comparison,
        left: Box<Expression>,
        right: Box<Expression>,
    },
    Arithmetic {
        operator: Arithmetic,
        left: Box<Expression>,
        right: Box<Expression>,
    },
    Concat {
        left: Box<Expression>,
        right: Box<Expression>,
    },
    /// `->`, or `->>` if `as_value`.
    Json {
        value: Box<Expression>,
        path: Box<Expression>,
        as_value: bool,
    },
    IsNull {
        value: Box<Expression>,
        negated: bool,
    },
    /// `IS [NOT] DISTINCT FROM`, `IS [NOT] TRUE` and `IS [NOT] FALSE`.
    Is {
        left: Box<Expression>,
        right: Box<Expression>,
        negated: bool,
    },
    Between {
        value: Box<Expression>,
        low: Box<Expression>,
        high: Box<Expression>,
        negated: bool,
    },
    /// `LIKE` and `ILIKE`.
    Like {
        value: Box<Expression>,
        pattern: Pattern,
        negated: bool,
    },
    Case {
        operand: Option<Box<Expression>>,
        branches: Vec<(Expression, Expression)>,
        otherwise: Option<Box<Expression>>,
    },
    /// `+` or `-` before an operand that is not a numeric literal.
    Signed {
        negative: bool,
        value: Box<Expression>,
    },
    /// `ARRAY[..]` or `ROW(..)` of literals.
    Array(Vec<Expression>),
    /// `&&`.
    Overlap {
        left: Box<Expression>,
        right: Box<Expression>,
    },
    Cast {
        value: Box<Expression>,
        to: CastType,
    },
    InList {
        value: Box<Expression>,
        list: Vec<Expression>,
        negated: bool,
    },
    InArray {
        value: Box<Expression>,
        array: Box<Expression>,
        negated: bool,
    },
    InQuery {
        value: Box<Expression>,
        query: Box<Query>,
        negated: bool,
    },
    Exists {
        query: Box<Query>,
        negated: bool,
    },
    /// `array && (SELECT ...)`.
    OverlapQuery {
        array: Box<Expression>,
        query: Box<Query>,
    },
}

impl Expression {
    /// Calls `see` for each direct operand of the expression. Subqueries are not operands.
    pub(crate) fn for_each_child<'e>(&'e self, see: &mut impl FnMut(&'e Self)) {
        match &self.kind {
            ExpressionKind::Null
            | ExpressionKind::Integer(_)
            | ExpressionKind::Real(_)
            | ExpressionKind::Text(_)
            | ExpressionKind::Boolean(_)
            | ExpressionKind::Exists { .. }
            | ExpressionKind::Name { .. } => {}

            ExpressionKind::And(list)
            | ExpressionKind::Or(list)
            | ExpressionKind::Array(list)
            | ExpressionKind::Call { arguments: list, .. } => list.iter().for_each(see),

            ExpressionKind::Not(value)
            | ExpressionKind::IsNull { value, .. }
            | ExpressionKind::Like { value, .. }
            | ExpressionKind::Signed { value, .. }
            | ExpressionKind::Cast { value, .. }
            | ExpressionKind::OverlapQuery { array: value, .. }
            | ExpressionKind::InQuery { value, .. } => see(value),

            ExpressionKind::Compare { left, right, .. }
            | ExpressionKind::Arithmetic { left, right, .. }
            | ExpressionKind::Concat { left, right }
            | ExpressionKind::Is { left, right, .. }
            | ExpressionKind::Overlap { left, right }
            | ExpressionKind::Json { value: left, path: right, .. }
            | ExpressionKind::InArray { value: left, array: right, .. } => {
                see(left);
                see(right);
            }

            ExpressionKind::Between { value, low, high, .. } => {
                see(value);
                see(low);
                see(high);
            }

            ExpressionKind::Case { operand, branches, otherwise } => {
                operand.iter().for_each(|operand| see(operand));
                for (condition, result) in branches {
                    see(condition);
                    see(result);
                }
                otherwise.iter().for_each(|otherwise| see(otherwise));
            }

            ExpressionKind::InList { value, list, .. } => {
                see(value);
                list.iter().for_each(see);
            }
        }
    }
}
