//! Description of a compiled config: its buckets, how requests find them, and what a changed row
//! affects.
//!
//! The names of the fields are a stable format for programs.

mod access_path;
pub(crate) mod names;
mod rows;
pub(crate) mod streams;
mod text;

use serde::Serialize;

/// Description of a config. Its `Display` is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Streams and bucket definitions, in the order of the file.
    pub streams: Vec<StreamExplanation>,
    /// Tables that are read, in the order of [`SyncConfig::tables`](crate::SyncConfig::tables).
    pub tables: Vec<TableExplanation>,
}

/// Stream or bucket definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamExplanation {
    /// Name in the file.
    pub name: String,
    /// `true` for a bucket definition.
    pub is_bucket_definition: bool,
    /// `true` if every client is subscribed without asking.
    pub auto_subscribe: bool,
    /// Priority from 0 to 3; 0 is the most urgent.
    pub priority: u8,
    /// Families of buckets.
    pub families: Vec<FamilyExplanation>,
}

/// Family of buckets, which differ in their parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FamilyExplanation {
    /// Readable part of the bucket names.
    pub name: String,
    /// Rows in the buckets.
    pub rows: Vec<RowsExplanation>,
    /// Ways in which requests find the buckets. Each is sufficient.
    pub found_by: Vec<AccessPathExplanation>,
}

/// Rows of one table in the buckets of a family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowsExplanation {
    /// Table with its schema, or a wildcard with `%`.
    pub table: String,
    /// Table on the device, with `%` if each table keeps its own name.
    pub output_table: String,
    /// Selected items: `*`, columns, and expressions with their names.
    pub columns: Vec<String>,
    /// `true` if `*` leaves out columns that begin with `_`.
    pub without_underscore: bool,
    /// Arrays of the row. Each element puts the row into buckets of its own.
    pub arrays: Vec<String>,
    /// Conditions on the row. All must be true.
    pub conditions: Vec<String>,
    /// Values of the row that must equal the bucket parameters, in their order.
    pub keys: Vec<String>,
    /// Columns that are read, by name, or `*` alone for all.
    pub reads: Vec<String>,
}

/// Way in which a request finds buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessPathExplanation {
    /// Priority of the buckets.
    pub priority: u8,
    /// Conditions on the request. All must be true.
    pub conditions: Vec<String>,
    /// Steps, in their order.
    pub steps: Vec<StepExplanation>,
    /// Values of the bucket parameters, in their order. Each combination that the steps find is one
    /// bucket.
    pub parameters: Vec<String>,
    /// Anti-joins: there is no bucket if one of them is found.
    pub absent: Vec<NotExistsExplanation>,
}

/// Anti-join: rows that must not exist. They exist if all conditions are true, each step finds
/// something, and none of the nested anti-joins is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotExistsExplanation {
    /// Conditions on the request, in the format of [`AccessPathExplanation::conditions`].
    pub conditions: Vec<String>,
    /// Steps, in the format of [`AccessPathExplanation::steps`].
    pub steps: Vec<StepExplanation>,
    /// Nested anti-joins, in the format of [`AccessPathExplanation::absent`].
    pub absent: Vec<NotExistsExplanation>,
}

/// Step from a request to buckets. Later steps use the texts of its outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepExplanation {
    /// Value of the request, or a constant.
    Value {
        /// Text of the value.
        value: String,
    },
    /// Each element of an array of the request.
    Elements {
        /// Array whose elements are read.
        array: String,
        /// Conditions on the element. All must be true.
        conditions: Vec<String>,
        /// Outputs of each element.
        gives: Vec<String>,
    },
    /// Each row of a table that a lookup finds.
    Lookup {
        /// Index into [`SyncConfig::lookups`](crate::SyncConfig::lookups).
        lookup: usize,
        /// Table with its schema.
        table: String,
        /// Name of the row in the outputs. It has a number if the table is read again.
        alias: String,
        /// Arrays of the row. Each element is a row of its own.
        arrays: Vec<String>,
        /// Equalities by which the rows are found.
        keys: Vec<KeyExplanation>,
        /// Conditions on the rows in the lookup. All must be true.
        conditions: Vec<String>,
        /// Outputs of each row. Empty if only its existence matters.
        gives: Vec<String>,
    },
    /// Condition that two values are equal.
    Equal {
        /// Left operand.
        left: String,
        /// Right operand.
        right: String,
    },
}

/// Equality by which a lookup finds rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyExplanation {
    /// Value of the row.
    pub row: String,
    /// Value that is known from earlier steps.
    pub value: String,
}

/// Cost of a change of one row of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableExplanation {
    /// Table with its schema.
    pub table: String,
    /// Number of families whose buckets may change.
    pub families: usize,
    /// Number of lookups that may change.
    pub lookups: usize,
    /// Columns that are read, by name, or `*` alone for all.
    pub reads: Vec<String>,
}
