//! The chain of a row, for people and programs. The names of the fields are a stable format.

use serde::Serialize;
use tidewater_sync_config::{ConditionTrace, Outcome};

/// The way of a row to a user.
#[derive(Clone, Debug, Serialize)]
pub struct WhyReport {
    /// True if no link fails. Links that are not known do not count.
    pub arrives: bool,
    /// The table of the source.
    pub table: String,
    /// The row, as it was asked for.
    pub id: String,
    /// The user.
    pub user_id: String,
    /// The first link that fails.
    pub first_failure: Option<Link>,
    /// All links, in their order.
    pub links: Vec<Link>,
    /// The queries that read the table, with their conditions for this row. Empty if the row was not read
    /// from the source.
    pub definitions: Vec<DefinitionReport>,
    /// The buckets that the store has the row in, at the checkpoint that devices have.
    pub row_buckets: Vec<String>,
    /// The user's part.
    pub user: UserReport,
}

/// A link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The link.
    pub link: LinkName,
    /// Its state.
    pub state: LinkState,
    /// The finding.
    pub text: String,
    /// The remedy, if the link fails or is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// The name of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkName {
    /// The publication has the table, and the worker may read it.
    Publication,
    /// The sync config in use reads the table.
    Config,
    /// The source has the row.
    Source,
    /// The table is copied.
    Copy,
    /// A query puts the row into a bucket.
    Definition,
    /// The store has the row in its buckets.
    Store,
    /// The checkpoint that devices have contains it.
    Checkpoint,
    /// The user has one of the buckets.
    User,
    /// The client may publish the checkpoint.
    Client,
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The row passes it.
    Holds,
    /// The row does not pass it.
    Fails,
    /// It is not known.
    Unknown,
}

/// A query of a definition, for the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DefinitionReport {
    /// The definition.
    pub definition: String,
    /// The number of the query among those of the definition, from 1 on.
    pub query: usize,
    /// The conditions on the row.
    pub conditions: Vec<ConditionReport>,
    /// The parts of the bucket's parameters that are NULL or bytes, which equal nothing.
    pub missing_parameters: Vec<String>,
    /// The buckets that the query puts the row into.
    pub buckets: Vec<String>,
    /// The reason why the query cannot be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A condition on the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConditionReport {
    /// The condition.
    pub sql: String,
    /// The result of the condition for the row.
    pub holds: bool,
    /// `true`, `false`, `null`, or why it cannot be evaluated.
    pub outcome: String,
    /// The columns that it reads, with their values as JSON.
    pub columns: Vec<(String, String)>,
}

/// The buckets of the user, and the lookups that gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UserReport {
    /// The names of the buckets.
    pub buckets: Vec<String>,
    /// The lookups, in the order in which they were asked.
    pub lookups: Vec<LookupReport>,
    /// The reason why the sync API refuses the request, or an error of one of its streams.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// A lookup of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LookupReport {
    /// The table that it reads.
    pub table: String,
    /// The values by which rows are found, as a JSON array.
    pub key: String,
    /// The values that they gave, each a JSON array.
    pub outputs: Vec<String>,
}

impl ConditionReport {
    pub(super) fn of(condition: &ConditionTrace) -> Self {
        let outcome = match &condition.outcome {
            Outcome::True => "true".to_owned(),
            Outcome::False => "false".to_owned(),
            Outcome::Null => "null".to_owned(),
            Outcome::Error(error) => error.clone(),
        };
        Self {
            sql: condition.sql.clone(),
            holds: condition.outcome == Outcome::True,
            outcome,
            columns: condition.columns.clone(),
        }
    }
}
