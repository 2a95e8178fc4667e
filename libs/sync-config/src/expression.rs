//! Compiled expressions over the columns of a row or the values of a request.

mod affinity;
mod evaluate;
pub(crate) mod items;
mod like;
mod map;
mod operators;
pub(crate) mod quote;
pub(crate) mod text;

use serde::Serialize;

use crate::functions::Function;
use crate::value::{Engine, EvaluationError, PathSplit, Value};

pub(crate) use like::Pattern;

/// Expression over leaves of type `L`.
///
/// Its serialised form is part of the definition hashes: changing it requires a new
/// [`EVALUATOR_VERSION`](crate::EVALUATOR_VERSION).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum Expression<L> {
    Leaf(L),
    Literal(Literal),
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Compare {
        comparison: Comparison,
        left: Box<Self>,
        right: Box<Self>,
    },
    Arithmetic {
        operator: Arithmetic,
        left: Box<Self>,
        right: Box<Self>,
    },
    Concat {
        left: Box<Self>,
        right: Box<Self>,
    },
    Json {
        value: Box<Self>,
        path: Box<Self>,
        as_value: bool,
        split: PathSplit,
    },
    IsNull {
        value: Box<Self>,
        negated: bool,
    },
    /// Null-safe equality: NULL is equal to NULL and to nothing else.
    Is {
        left: Box<Self>,
        right: Box<Self>,
    },
    Between {
        value: Box<Self>,
        low: Box<Self>,
        high: Box<Self>,
    },
    Like {
        value: Box<Self>,
        pattern: Pattern,
    },
    Case {
        operand: Option<Box<Self>>,
        branches: Vec<(Self, Self)>,
        otherwise: Option<Box<Self>>,
    },
    Cast {
        value: Box<Self>,
        to: CastType,
    },
    InList {
        value: Box<Self>,
        list: Vec<Self>,
    },
    InArray {
        value: Box<Self>,
        array: Box<Self>,
    },
    /// An array as `json_each` reads it: the elements of an object are its values, and a scalar is
    /// its only element. Only the parent expression uses this; the value of `Each` is that of its
    /// operand.
    Each(Box<Self>),
    /// `&&`: true if two JSON arrays have a common value.
    Overlap {
        left: Box<Self>,
        right: Box<Self>,
    },
    Call {
        function: Function,
        arguments: Vec<Self>,
    },
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
    Remainder,
    BitAnd,
    BitOr,
    ShiftLeft,
    ShiftRight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum CastType {
    Text,
    Integer,
    Real,
    Numeric,
    Blob,
}

/// Source of the values of leaves: a row or a request.
pub(crate) trait Leaves<'v, L> {
    fn value(&self, leaf: &L) -> Result<Value<'v>, EvaluationError>;

    /// Returns a second value that the leaf is equal to. Only the user of a request has one: if the
    /// token names it by a number, it is equal to this number and to its text.
    fn second_value(&self, _leaf: &L) -> Option<Value<'v>> {
        None
    }

    /// Returns the engine whose results the expressions have.
    fn engine(&self) -> Engine;

    /// Counts the bytes of a text that an expression has made. A request fails if it makes too many.
    fn spend_text(&self, _bytes: usize) -> Result<(), EvaluationError> {
        Ok(())
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
