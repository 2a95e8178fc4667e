//! Compiled expressions over a row's columns or a request's values.

use serde::Serialize;

use crate::functions::{self, Function};
use crate::json;
use crate::value::{Number, Value};

/// An expression over leaves of one kind.
///
/// Serialised it is part of hashes: a change here is a new
/// [`EVALUATOR_VERSION`](crate::EVALUATOR_VERSION).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum Expression<L> {
    Leaf(L),
    Literal(Literal),
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Compare { comparison: Comparison, left: Box<Self>, right: Box<Self> },
    Arithmetic { operator: Arithmetic, left: Box<Self>, right: Box<Self> },
    Concat { left: Box<Self>, right: Box<Self> },
    Json { value: Box<Self>, path: Box<Self>, as_value: bool, split: PathSplit },
    IsNull { value: Box<Self>, negated: bool },
    Cast { value: Box<Self>, to: CastType },
    InList { value: Box<Self>, list: Vec<Self> },
    InArray { value: Box<Self>, array: Box<Self> },
    Call { function: Function, arguments: Vec<Self> },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum Literal {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum CastType {
    Text,
    Integer,
    Real,
    Numeric,
    Blob,
}

/// Where a path for `->` is split into names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum PathSplit {
    /// At dots when it begins with `$.`.
    AfterDollar,
    /// At every dot.
    Always,
}

/// Why an expression has no value. Never holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EvaluationError {
    /// Text that should be JSON is not.
    NotJson,
    /// Text that should be a JSON array is something else.
    NotAnArray,
    /// A path that does not begin with `$`.
    BadPath,
    /// PostgreSQL's text of a value that is not what its type prints.
    BadText,
    /// More buckets or keys than may come of one row or request.
    TooMany,
    NullId,
    BlobId,
}

impl EvaluationError {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::NotJson => "a value is not valid JSON",
            Self::NotAnArray => "a value is not a JSON array",
            Self::BadPath => "a JSON path does not begin with `$`",
            Self::BadText => "a value is not as PostgreSQL prints its type",
            Self::TooMany => "too many combinations of array elements",
            Self::NullId => "the column `id` is NULL",
            Self::BlobId => "the column `id` is a blob",
        }
    }
}

/// Gives leaves their values.
pub(crate) trait Leaves<'v, L> {
    fn value(&self, leaf: &L) -> Result<Value<'v>, EvaluationError>;
}

impl<L> Expression<L> {
    /// Replaces the leaves.
    pub(crate) fn try_map<M, E>(
        &self,
        leaf: &mut impl FnMut(&L) -> Result<M, E>,
    ) -> Result<Expression<M>, E> {
        Ok(match self {
            Self::Leaf(l) => Expression::Leaf(leaf(l)?),
            Self::Literal(literal) => Expression::Literal(literal.clone()),
            Self::And(list) => Expression::And(map_all(list, leaf)?),
            Self::Or(list) => Expression::Or(map_all(list, leaf)?),
            Self::Not(inner) => Expression::Not(map_box(inner, leaf)?),
            Self::Compare { comparison, left, right } => Expression::Compare {
                comparison: *comparison,
                left: map_box(left, leaf)?,
                right: map_box(right, leaf)?,
            },
            Self::Arithmetic { operator, left, right } => Expression::Arithmetic {
                operator: *operator,
                left: map_box(left, leaf)?,
                right: map_box(right, leaf)?,
            },
            Self::Concat { left, right } => {
                Expression::Concat { left: map_box(left, leaf)?, right: map_box(right, leaf)? }
            }
            Self::Json { value, path, as_value, split } => Expression::Json {
                value: map_box(value, leaf)?,
                path: map_box(path, leaf)?,
                as_value: *as_value,
                split: *split,
            },
            Self::IsNull { value, negated } => {
                Expression::IsNull { value: map_box(value, leaf)?, negated: *negated }
            }
            Self::Cast { value, to } => Expression::Cast { value: map_box(value, leaf)?, to: *to },
            Self::InList { value, list } => {
                Expression::InList { value: map_box(value, leaf)?, list: map_all(list, leaf)? }
            }
            Self::InArray { value, array } => {
                Expression::InArray { value: map_box(value, leaf)?, array: map_box(array, leaf)? }
            }
            Self::Call { function, arguments } => {
                Expression::Call { function: *function, arguments: map_all(arguments, leaf)? }
            }
        })
    }

    /// Shows the expressions that this one is made of, not what is within those.
    pub(crate) fn for_each_child<'e>(&'e self, see: &mut impl FnMut(&'e Self)) {
        match self {
            Self::Leaf(_) | Self::Literal(_) => {}
            Self::And(list) | Self::Or(list) | Self::Call { arguments: list, .. } => {
                list.iter().for_each(see);
            }
            Self::Not(value) | Self::IsNull { value, .. } | Self::Cast { value, .. } => see(value),
            Self::Compare { left, right, .. }
            | Self::Arithmetic { left, right, .. }
            | Self::Concat { left, right }
            | Self::Json { value: left, path: right, .. }
            | Self::InArray { value: left, array: right } => {
                see(left);
                see(right);
            }
            Self::InList { value, list } => {
                see(value);
                list.iter().for_each(see);
            }
        }
    }

    /// Shows each leaf.
    pub(crate) fn for_each_leaf<'e>(&'e self, see: &mut impl FnMut(&'e L)) {
        if let Self::Leaf(leaf) = self {
            see(leaf);
        }
        self.for_each_child(&mut |child| child.for_each_leaf(see));
    }

    /// The expression's value. Recursion is bounded by the depth that the compiler accepts.
    pub(crate) fn evaluate<'v, S: Leaves<'v, L>>(
        &'v self,
        leaves: &S,
    ) -> Result<Value<'v>, EvaluationError> {
        Ok(match self {
            Self::Leaf(leaf) => leaves.value(leaf)?,
            Self::Literal(literal) => literal.value(),
            Self::And(list) => {
                for operand in list {
                    if !operand.is_true(leaves)? {
                        return Ok(Value::boolean(Some(false)));
                    }
                }
                Value::boolean(Some(true))
            }
            Self::Or(list) => {
                for operand in list {
                    if operand.is_true(leaves)? {
                        return Ok(Value::boolean(Some(true)));
                    }
                }
                Value::boolean(Some(false))
            }
            // NOT NULL is true, as NULL counts as false in AND and OR too.
            Self::Not(inner) => Value::boolean(Some(!inner.is_true(leaves)?)),
            Self::Compare { comparison, left, right } => {
                let (left, right) = (left.evaluate(leaves)?, right.evaluate(leaves)?);
                Value::boolean(comparison.holds(&left, &right))
            }
            Self::Arithmetic { operator, left, right } => {
                operator.apply(&left.evaluate(leaves)?, &right.evaluate(leaves)?)
            }
            Self::Concat { left, right } => {
                let (left, right) = (left.evaluate(leaves)?, right.evaluate(leaves)?);
                match (left.into_text(), right.into_text()) {
                    (Some(left), Some(right)) => Value::text(format!("{left}{right}")),
                    (None, _) | (_, None) => Value::Null,
                }
            }
            Self::Json { value, path, as_value, split } => {
                let (value, path) = (value.evaluate(leaves)?, path.evaluate(leaves)?);
                functions::json_get(&value, &path, *as_value, *split)?
            }
            Self::IsNull { value, negated } => {
                let is_null = value.evaluate(leaves)?.is_null();
                Value::boolean(Some(is_null != *negated))
            }
            Self::Cast { value, to } => to.apply(value.evaluate(leaves)?),
            Self::InList { value, list } => is_in_list(&value.evaluate(leaves)?, list, leaves)?,
            Self::InArray { value, array } => {
                is_in_array(&value.evaluate(leaves)?, &array.evaluate(leaves)?)?
            }
            Self::Call { function, arguments } => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(argument.evaluate(leaves)?);
                }
                function.call(values)?
            }
        })
    }

    /// Whether a condition holds.
    pub(crate) fn is_true<'v, S: Leaves<'v, L>>(
        &'v self,
        leaves: &S,
    ) -> Result<bool, EvaluationError> {
        self.evaluate(leaves).map(|value| value.is_true())
    }
}

fn map_box<L, M, E>(
    expression: &Expression<L>,
    leaf: &mut impl FnMut(&L) -> Result<M, E>,
) -> Result<Box<Expression<M>>, E> {
    expression.try_map(leaf).map(Box::new)
}

fn map_all<L, M, E>(
    list: &[Expression<L>],
    leaf: &mut impl FnMut(&L) -> Result<M, E>,
) -> Result<Vec<Expression<M>>, E> {
    list.iter().map(|expression| expression.try_map(leaf)).collect()
}

fn is_in_list<'v, L, S: Leaves<'v, L>>(
    value: &Value<'_>,
    list: &'v [Expression<L>],
    leaves: &S,
) -> Result<Value<'v>, EvaluationError> {
    let mut has_null = value.is_null() && !list.is_empty();
    for item in list {
        match Comparison::Equal.holds(value, &item.evaluate(leaves)?) {
            Some(true) => return Ok(Value::boolean(Some(true))),
            Some(false) => {}
            None => has_null = true,
        }
    }
    Ok(Value::boolean(if has_null { None } else { Some(false) }))
}

fn is_in_array<'v>(value: &Value<'_>, array: &Value<'_>) -> Result<Value<'v>, EvaluationError> {
    if value.is_null() || array.is_null() {
        return Ok(Value::Null);
    }
    let items = array_items(array)?;
    let found = items
        .iter()
        .any(|item| Comparison::Equal.holds(value, &json::to_value(item)) == Some(true));
    Ok(Value::boolean(Some(found)))
}

/// The elements of a JSON array in text; none of NULL.
pub(crate) fn array_items(array: &Value<'_>) -> Result<Vec<serde_json::Value>, EvaluationError> {
    let text = match array {
        Value::Null => return Ok(Vec::new()),
        Value::Text(text) => text,
        Value::Integer(_) | Value::Real(_) | Value::Blob(_) => {
            return Err(EvaluationError::NotAnArray);
        }
    };
    match json::parse(text) {
        Some(serde_json::Value::Array(items)) => Ok(items),
        Some(_) => Err(EvaluationError::NotAnArray),
        None => Err(EvaluationError::NotJson),
    }
}

impl Literal {
    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Real(real) => Value::Real(*real),
            Self::Text(text) => Value::text(text.as_str()),
        }
    }
}

impl Comparison {
    /// `None` when either side is NULL.
    fn holds(self, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
        let ordering = left.compare(right)?;
        Some(match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        })
    }
}

impl Arithmetic {
    /// Integers stay integers as long as the result is one of 64 bits.
    fn apply<'v>(self, left: &Value<'_>, right: &Value<'_>) -> Value<'v> {
        let (left, right) = (left.to_numeric(), right.to_numeric());
        if let (Number::Integer(left), Number::Integer(right)) = (left, right) {
            if self == Self::Divide && right == 0 {
                return Value::Null;
            }
            let integer = match self {
                Self::Add => left.checked_add(right),
                Self::Subtract => left.checked_sub(right),
                Self::Multiply => left.checked_mul(right),
                Self::Divide => left.checked_div(right),
            };
            if let Some(integer) = integer {
                return Value::Integer(integer);
            }
        }
        let (Some(left), Some(right)) = (left.to_f64(), right.to_f64()) else {
            return Value::Null;
        };
        match self {
            Self::Add => Value::real(left + right),
            Self::Subtract => Value::real(left - right),
            Self::Multiply => Value::real(left * right),
            Self::Divide if right == 0.0 => Value::Null,
            Self::Divide => Value::real(left / right),
        }
    }
}

impl CastType {
    fn apply(self, value: Value<'_>) -> Value<'_> {
        match self {
            Self::Text => value.into_text().map_or(Value::Null, Value::Text),
            Self::Integer => value.to_integer(),
            Self::Real => value.to_real(),
            Self::Numeric => functions::to_numeric(value),
            Self::Blob => functions::to_blob(value),
        }
    }
}
