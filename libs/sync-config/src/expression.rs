//! Compiled expressions over a row's columns or a request's values.

mod affinity;
mod evaluate;
mod items;
mod like;
mod map;
mod operators;
pub(crate) mod text;

use serde::Serialize;

use crate::functions::Function;
use crate::value::Value;
use crate::value::engine::Engine;

pub(crate) use items::{Items, items};
pub(crate) use like::Pattern;

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
    /// As `=`, but NULL equals NULL and nothing else.
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
    /// An array as `json_each` reads it: of an object its values, and a scalar is its only element. It
    /// stands where an array does; by itself it is the value that it is of.
    Each(Box<Self>),
    /// Whether two JSON arrays have a value in common.
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
    /// Arrays and the like within each other, too many.
    TooDeep,
    /// Text that should be a UUID is not.
    NotUuid,
    /// What should be a geometry as PostGIS prints it is not.
    NotGeometry,
    /// An integer that does not fit in 64 bits.
    IntegerOverflow,
    /// A text or blob that is longer than [`VALUE_BYTES_MAX`](crate::value::VALUE_BYTES_MAX).
    TooLong,
    /// A LIKE of too many steps.
    TooManySteps,
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
            Self::TooDeep => "a value is nested more than 10 levels deep",
            Self::NotUuid => "a value is not a UUID",
            Self::NotGeometry => "a value is not a geometry as PostGIS prints it",
            Self::IntegerOverflow => "an integer is beyond 64 bits",
            Self::TooLong => "the result of an expression is longer than 16 MiB",
            Self::TooManySteps => "a text takes more than 10000000 steps to compare with LIKE",
            Self::TooMany => "too many combinations of array elements",
            Self::NullId => "the column `id` is NULL",
            Self::BlobId => "the column `id` is a blob",
        }
    }
}

/// Gives leaves their values.
pub(crate) trait Leaves<'v, L> {
    fn value(&self, leaf: &L) -> Result<Value<'v>, EvaluationError>;

    /// Whose results expressions have.
    fn engine(&self) -> Engine;
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
