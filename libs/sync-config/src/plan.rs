//! A compiled config: what rows yield and what requests ask.
//!
//! The row side is serialised for hashes, so a change of these types is a new
//! [`EVALUATOR_VERSION`](crate::EVALUATOR_VERSION).

use serde::Serialize;
use tidewater_protocol::Priority;

use crate::TableName;
use crate::diagnostic::Position;
use crate::expression::Expression;
use crate::options::ValueOptions;

/// An expression over the columns of one table, by their names.
pub(crate) type RowExpression = Expression<String>;
/// An expression over what is known of a request.
pub(crate) type RequestExpression = Expression<RequestLeaf>;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) values: ValueOptions,
    pub(crate) tables: Vec<TableName>,
    pub(crate) definitions: Vec<DefinitionPlan>,
    pub(crate) lookups: Vec<LookupPlan>,
    pub(crate) streams: Vec<StreamPlan>,
    /// What the tables must have.
    pub(crate) references: Vec<Reference>,
}

/// What rows are in the buckets of one family.
#[derive(Clone, Debug)]
pub(crate) struct DefinitionPlan {
    pub(crate) name: String,
    pub(crate) queries: Vec<DataQuery>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DataQuery {
    pub(crate) table: usize,
    pub(crate) object_type: String,
    pub(crate) projection: Vec<ProjectionItem>,
    pub(crate) filter: Option<RowExpression>,
    pub(crate) keys: Vec<RowKey>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum ProjectionItem {
    /// Every column, or only those that do not begin with `_`.
    All {
        skip_underscore: bool,
    },
    Expression {
        name: String,
        expression: RowExpression,
    },
}

/// A bucket's parameter or a part of a lookup's key, as the row gives it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum RowKey {
    Value(RowExpression),
    /// Each element of a JSON array.
    Each(RowExpression),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LookupPlan {
    pub(crate) table: usize,
    pub(crate) filter: Option<RowExpression>,
    pub(crate) keys: Vec<RowKey>,
    pub(crate) outputs: Vec<RowExpression>,
}

/// A stream, or a bucket definition, which is a stream that subscribes by itself.
#[derive(Clone, Debug)]
pub(crate) struct StreamPlan {
    pub(crate) name: String,
    pub(crate) auto_subscribe: bool,
    pub(crate) priority: Priority,
    pub(crate) variants: Vec<Variant>,
}

#[derive(Clone, Debug)]
pub(crate) struct Variant {
    pub(crate) definition: usize,
    pub(crate) priority: Option<Priority>,
    pub(crate) instantiation: Instantiation,
}

/// From a request to the parameters of buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Instantiation {
    /// All must hold, else there is no bucket.
    pub(crate) filters: Vec<RequestExpression>,
    /// Each must have an answer, else there is no bucket.
    pub(crate) uses: Vec<LookupUse>,
    pub(crate) parameters: Vec<Parameter>,
}

/// A question to a lookup.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LookupUse {
    pub(crate) lookup: usize,
    pub(crate) key: Vec<RequestKey>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RequestKey {
    Value(RequestExpression),
    /// Each element of a JSON array.
    Each(RequestExpression),
}

/// A bucket's parameter: the values that all of its sources have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) all_of: Vec<ParameterSource>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ParameterSource {
    Request(RequestKey),
    /// A value of each answer. Parameters from the same use are from the same row.
    Output {
        lookup_use: usize,
        column: usize,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequestLeaf {
    pub(crate) source: RequestSource,
    /// A member of it; else the whole.
    pub(crate) member: Option<Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestSource {
    UserId,
    Claims,
    /// The claim `parameters`, with `user_id` added.
    TokenParameters,
    ConnectionParameters,
    SubscriptionParameters,
}

impl RequestSource {
    /// Whether the token vouches for it.
    pub(crate) fn is_authenticated(self) -> bool {
        match self {
            Self::UserId | Self::Claims | Self::TokenParameters => true,
            Self::ConnectionParameters | Self::SubscriptionParameters => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub(crate) names: Vec<String>,
    /// As `->>` gives it; else as `->`.
    pub(crate) as_value: bool,
}

/// A table or column that a query names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) position: Position,
    pub(crate) table: usize,
    pub(crate) kind: ReferenceKind,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReferenceKind {
    Table,
    Column(String),
    /// `*` is all that could give the column `id`.
    IdOfAll,
    /// A column that is compared with what is always of this kind.
    Compared {
        column: String,
        with: Kind,
    },
}

/// Values of different kinds are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Number,
    Text,
}
