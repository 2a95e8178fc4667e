//! A compiled config: what rows yield and what requests ask.
//!
//! The row side is serialised for hashes, so a change of these types is a new
//! [`EVALUATOR_VERSION`](crate::EVALUATOR_VERSION).

pub(crate) mod hash;
pub(crate) mod stages;

use serde::Serialize;
use tidewater_protocol::Priority;

use crate::edition::Edition;
use crate::expression::Expression;
use crate::file::diagnostic::Position;
use crate::schema::TablePattern;
use crate::value::{ValueKind, ValueOptions};

/// An expression over a row of one table.
pub(crate) type RowExpression = Expression<RowLeaf>;
/// An expression over what is known of a request.
pub(crate) type RequestExpression = Expression<RequestLeaf>;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum RowLeaf {
    /// A column of the table, by its name.
    Column(String),
    /// What the table itself is called.
    #[serde(rename = "Fact")]
    TableMetadata(TableMetadata),
    /// The element at hand of one of the row's arrays, by the array's index.
    Element(usize),
    /// The key of that element.
    Key(usize),
}

/// What a row's table is called, where a pattern stands for more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum TableMetadata {
    Schema,
    Name,
    /// Of its name what the pattern leaves open.
    Suffix,
}

#[derive(Clone, Debug)]
pub(crate) struct SyncPlan {
    pub(crate) edition: Edition,
    pub(crate) values: ValueOptions,
    pub(crate) tables: Vec<TablePattern>,
    pub(crate) definitions: Vec<DefinitionPlan>,
    pub(crate) lookups: Vec<LookupPlan>,
    pub(crate) streams: Vec<StreamPlan>,
    /// What the tables must have.
    pub(crate) references: Vec<Reference>,
    /// The names of CTEs, which hide tables of these names.
    pub(crate) ctes: Vec<CteName>,
}

impl SyncPlan {
    /// Returns the index of a table pattern, which is added if it is new.
    pub(crate) fn intern_table(&mut self, table: TablePattern) -> usize {
        intern(&mut self.tables, table)
    }

    /// Returns the index of a lookup, which is added if it is new.
    pub(crate) fn intern_lookup(&mut self, lookup: LookupPlan) -> usize {
        intern(&mut self.lookups, lookup)
    }
}

/// The index of a thing in a list, which it is added to when it is not there.
fn intern<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

#[derive(Clone, Debug)]
pub(crate) struct CteName {
    pub(crate) name: String,
    pub(crate) position: Position,
}

/// What rows are in the buckets of one family.
#[derive(Clone, Debug)]
pub(crate) struct DefinitionPlan {
    pub(crate) name: String,
    pub(crate) queries: Vec<DataQuery>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DataQuery {
    pub(crate) rows: RowQuery,
    pub(crate) object_type: ObjectType,
    pub(crate) projection: Vec<ProjectionItem>,
}

/// The table that rows are in on devices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub(crate) enum ObjectType {
    Named(String),
    /// As each row's table is called.
    OfTable,
}

/// Which rows of a table, each under which keys: with every combination of its arrays' elements for
/// which the filter holds, and with none when a key is NULL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowQuery {
    /// Index into [`Plan::tables`].
    pub(crate) table: usize,
    /// JSON arrays of the row.
    pub(crate) arrays: Vec<RowExpression>,
    pub(crate) filter: Option<RowExpression>,
    /// The bucket's parameters, or what a lookup is asked.
    pub(crate) keys: Vec<RowExpression>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum ProjectionItem {
    /// Every column; or, as before edition 3, those that do not begin with `_`, where what is selected
    /// before by their names is not there or NULL.
    All {
        skip_underscore: bool,
    },
    Expression {
        name: String,
        expression: RowExpression,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LookupPlan {
    pub(crate) rows: RowQuery,
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
///
/// Values are found step by step. Each step gives values to the next slots, in all the ways there
/// are: a table of ways, which later steps extend and thin out. Every way that is left when all steps
/// are done is a bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Instantiation {
    /// All must hold, else there is no bucket.
    pub(crate) filters: Vec<RequestExpression>,
    pub(crate) steps: Vec<Step>,
    /// The slot of each of the bucket's parameters.
    pub(crate) parameters: Vec<usize>,
    /// There is no bucket when one of these has a way. They have no parameters.
    pub(crate) not_exists: Vec<Instantiation>,
}

impl Instantiation {
    /// Shows all that is evaluated of a request, that of what must be absent too.
    pub(crate) fn for_each_expression(&self, see: &mut impl FnMut(&RequestExpression)) {
        self.filters.iter().for_each(&mut *see);
        for step in &self.steps {
            match step {
                Step::Value(expression) => see(expression),
                Step::Elements { array, filters, outputs } => {
                    see(array);
                    filters.iter().chain(outputs).for_each(&mut *see);
                }
                Step::Lookup { .. } | Step::Equal(..) => {}
            }
        }
        self.not_exists.iter().for_each(|part| part.for_each_expression(see));
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// One slot: a value, in one way.
    Value(RequestExpression),
    /// A way for each element of a JSON array for which all filters hold, and a slot for each output.
    Elements {
        array: RequestExpression,
        filters: Vec<RequestExpression>,
        outputs: Vec<RequestExpression>,
    },
    /// A way for each answer to the question that the slots of `key` ask, and a slot for each of the
    /// lookup's outputs.
    Lookup { lookup: usize, key: Vec<usize> },
    /// No slot: only the ways in which two slots have the same value are left.
    Equal(usize, usize),
}

impl Step {
    /// Returns the slots whose values the step needs.
    pub(crate) fn slots_used(&self) -> Vec<usize> {
        match self {
            Self::Value(_) | Self::Elements { .. } => Vec::new(),
            Self::Lookup { key, .. } => key.clone(),
            Self::Equal(left, right) => vec![*left, *right],
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RequestLeaf {
    /// What the request says.
    Given {
        source: RequestSource,
        /// A member of it; else the whole.
        member: Option<RequestMember>,
    },
    /// The element at hand of the step's array.
    Element,
    /// The key of that element.
    Key,
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
pub(crate) struct RequestMember {
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
    /// A column that must not be a blob: it would be found to equal nothing, and here what equals
    /// something is kept out.
    NeverBlob(String),
    /// A column that is compared with what is always of this kind.
    Compared {
        column: String,
        with: ValueKind,
    },
}

impl ReferenceKind {
    /// Whether somebody could see what they must not where a table does not have it.
    pub(crate) fn affects_access(&self) -> bool {
        match self {
            Self::NeverBlob(_) => true,
            Self::Table | Self::Column(_) | Self::IdOfAll | Self::Compared { .. } => false,
        }
    }
}
