//! What a config comes to: its buckets, how requests find them, and what changes of rows cost.
//!
//! The names of the members are a format that programs read: they stay.

mod access_path;
mod names;
mod rows;
pub(crate) mod streams;
mod text;

use serde::Serialize;

/// What a config comes to. Its `Display` is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Streams and bucket definitions, in the order of the file.
    pub streams: Vec<StreamExplanation>,
    /// Each table that is read, as [`SyncConfig::tables`](crate::SyncConfig::tables).
    pub tables: Vec<TableExplanation>,
}

/// A stream or a bucket definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamExplanation {
    /// Its name in the file.
    pub name: String,
    /// Whether it is a bucket definition.
    pub is_bucket_definition: bool,
    /// Whether every client gets it without asking.
    pub auto_subscribe: bool,
    /// 0 to 3, 0 being the most urgent.
    pub priority: u8,
    /// Its families of buckets.
    pub families: Vec<FamilyExplanation>,
}

/// The buckets of one definition, which differ in their parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FamilyExplanation {
    /// The readable part of the buckets' names.
    pub name: String,
    /// What is in the buckets.
    pub rows: Vec<RowsExplanation>,
    /// How a request finds them, each way by itself.
    pub found_by: Vec<AccessPathExplanation>,
}

/// Rows of one table that are in a family's buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowsExplanation {
    /// The table, with its schema; or the pattern that finds tables, with `%`.
    pub table: String,
    /// The table on the device; with `%` where each table's rows go by its own name.
    pub output_table: String,
    /// What is selected: `*`, columns, and expressions with their names.
    pub columns: Vec<String>,
    /// Whether `*` leaves out columns that begin with `_`.
    pub without_underscore: bool,
    /// Arrays of the row, each element of which puts the row into buckets of its own.
    pub arrays: Vec<String>,
    /// Which rows: those for which all of this holds.
    pub conditions: Vec<String>,
    /// What of the row must equal the bucket's parameters, in their order.
    pub keys: Vec<String>,
    /// The columns that are read, by name; `*` alone for all.
    pub reads: Vec<String>,
}

/// One way from a request to buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessPathExplanation {
    /// The priority of buckets that are found in this way.
    pub priority: u8,
    /// Conditions on the request, all of which must hold.
    pub conditions: Vec<String>,
    /// What is looked at, in this order.
    pub steps: Vec<StepExplanation>,
    /// The values that are the bucket's parameters, in their order; one bucket for each combination
    /// that the steps find.
    pub parameters: Vec<String>,
    /// There is no bucket if one of these is found.
    pub absent: Vec<NotExistsExplanation>,
}

/// What must not be there for a request to find buckets. It is there when all conditions hold, all
/// steps find something, and nothing of what must be absent in turn is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotExistsExplanation {
    /// As [`AccessPathExplanation::conditions`].
    pub conditions: Vec<String>,
    /// As [`AccessPathExplanation::steps`].
    pub steps: Vec<StepExplanation>,
    /// As [`AccessPathExplanation::absent`].
    pub absent: Vec<NotExistsExplanation>,
}

/// A step on the way from a request to buckets. What it gives is named alike in later steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepExplanation {
    /// One value: of the request, or a constant.
    Value {
        /// It.
        value: String,
    },
    /// Each element of an array of the request.
    Elements {
        /// The array, taken apart.
        array: String,
        /// Conditions on the element, all of which must hold.
        conditions: Vec<String>,
        /// What each element gives.
        gives: Vec<String>,
    },
    /// Each row of a table that a lookup finds.
    Lookup {
        /// Index into [`SyncConfig::lookups`](crate::SyncConfig::lookups).
        lookup: usize,
        /// The table, with its schema.
        table: String,
        /// The name of its row in what is given, which differs where a table is asked twice.
        alias: String,
        /// Arrays of the row, each element of which is looked at by itself.
        arrays: Vec<String>,
        /// What the row must equal to be found.
        keys: Vec<KeyExplanation>,
        /// Which rows can be found at all: those for which all of this holds.
        conditions: Vec<String>,
        /// What each row gives. Nothing where it is enough that there is one.
        gives: Vec<String>,
    },
    /// Only where two values are equal it goes on.
    Equal {
        /// The one.
        left: String,
        /// The other.
        right: String,
    },
}

/// An equality by which a lookup finds rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyExplanation {
    /// What of the row.
    pub row: String,
    /// The value, known from the steps before.
    pub value: String,
}

/// What a change of one row of a table costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableExplanation {
    /// The table, with its schema.
    pub table: String,
    /// Of how many families buckets may change.
    pub families: usize,
    /// How many lookups may change.
    pub lookups: usize,
    /// The columns that are read, by name; `*` alone for all.
    pub reads: Vec<String>,
}
