//! The compiled config: the rows that buckets hold, and the steps by which requests find them.
//!
//! The row side is serialised for the definition hashes. A change of its types requires a new
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

/// Expression over a row of one table.
pub(crate) type RowExpression = Expression<RowLeaf>;
/// Expression over a request.
pub(crate) type RequestExpression = Expression<RequestLeaf>;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum RowLeaf {
    /// Column of the table, by name.
    Column(String),
    /// Schema, name or suffix of the row's table.
    #[serde(rename = "Fact")]
    TableMetadata(TableMetadata),
    /// Current element of one of the row's arrays, by the index of the array.
    Element(usize),
    /// Key of that element: its index or member name.
    Key(usize),
}

/// Metadata of a row's table. It differs between rows where a wildcard matches several tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum TableMetadata {
    Schema,
    Name,
    /// The part of the table's name that `%` matches.
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
    /// Tables and columns that the queries name.
    pub(crate) references: Vec<Reference>,
    /// Names of CTEs, which hide tables of the same name.
    pub(crate) ctes: Vec<CteName>,
}

impl SyncPlan {
    /// Returns the index of a table pattern. Adds the pattern if it is new.
    pub(crate) fn intern_table(&mut self, table: TablePattern) -> usize {
        intern(&mut self.tables, table)
    }

    /// Returns the index of a lookup. Adds the lookup if it is new.
    pub(crate) fn intern_lookup(&mut self, lookup: LookupPlan) -> usize {
        intern(&mut self.lookups, lookup)
    }
}

/// Returns the index of an item in a list. Adds the item if it is new.
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

/// Rows in the buckets of one family.
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

/// Name of the table on devices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub(crate) enum ObjectType {
    Named(String),
    /// The name of each row's own table.
    OfTable,
}

/// Rows of a table and their keys. Each combination of array elements that passes the filter yields
/// one key, unless a part of the key is NULL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowQuery {
    /// Index into [`SyncPlan::tables`].
    pub(crate) table: usize,
    /// JSON arrays of the row.
    pub(crate) arrays: Vec<RowExpression>,
    pub(crate) filter: Option<RowExpression>,
    /// Bucket parameters, or the key of a lookup.
    pub(crate) keys: Vec<RowExpression>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum ProjectionItem {
    /// All columns. With `skip_underscore` (before edition 3), columns that begin with `_` are left
    /// out, and a column selected before is kept unless it is NULL.
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

/// Stream, or bucket definition, which is a stream that every client subscribes to.
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

/// Steps from a request to the parameters of buckets.
///
/// Each step assigns values to the next slots. The slots form a relation: each row of it assigns a
/// value to every slot. Later steps extend the rows or remove some. Each row that remains after the
/// last step is a bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Instantiation {
    /// Conditions on the request. There is no bucket unless all are true.
    pub(crate) filters: Vec<RequestExpression>,
    pub(crate) steps: Vec<Step>,
    /// Slot of each bucket parameter.
    pub(crate) parameters: Vec<usize>,
    /// Anti-joins. There is no bucket if one of them has a row. They have no parameters.
    pub(crate) not_exists: Vec<Instantiation>,
}

impl Instantiation {
    /// Calls `see` for each expression over the request, including those of anti-joins.
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
    /// Assigns a value to one slot.
    Value(RequestExpression),
    /// Assigns the outputs of each array element that passes the filters, one row for each element.
    Elements {
        array: RequestExpression,
        filters: Vec<RequestExpression>,
        outputs: Vec<RequestExpression>,
    },
    /// Assigns the outputs of each answer to a lookup, one row for each answer. The slots of `key`
    /// are the key of the lookup.
    Lookup { lookup: usize, key: Vec<usize> },
    /// Removes the rows in which two slots differ. Assigns no slot.
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
    /// Value that the request supplies.
    Given {
        source: RequestSource,
        /// Member of the value, or `None` for all of it.
        member: Option<RequestMember>,
    },
    /// Current element of the step's array.
    Element,
    /// Key of that element.
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
    /// Returns whether the value comes from the verified token.
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
    /// Converts the member as `->>` does, otherwise as `->`.
    pub(crate) as_value: bool,
}

/// Table or column that a query names.
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
    /// `*` is the only item that can contain the column `id`.
    IdOfAll,
    /// Column that must not be a blob. A blob would equal nothing, and under NOT a missed match
    /// would grant access.
    NeverBlob(String),
    /// Column that is compared with values of one kind.
    Compared {
        column: String,
        with: ValueKind,
    },
    /// Column that is compared with the user of the request, which is text in most tokens.
    ComparedWithUserId(String),
}

impl ReferenceKind {
    /// Returns whether a request could read rows it must not if the table does not match.
    pub(crate) fn affects_access(&self) -> bool {
        match self {
            Self::NeverBlob(_) => true,
            Self::Table
            | Self::Column(_)
            | Self::IdOfAll
            | Self::Compared { .. }
            | Self::ComparedWithUserId(_) => false,
        }
    }
}
