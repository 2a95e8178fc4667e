//! The plan of a deployment, for people and programs. The names of the fields are a stable format.

use serde::Serialize;

/// The consequences of a sync config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanReport {
    /// The text is that of the config in use.
    pub is_same_text: bool,
    /// No worker has started on the store yet.
    pub is_first: bool,
    /// The stored state cannot be continued: all tables are copied and all devices download everything again.
    pub copies_everything: bool,
    /// Devices stay at their checkpoint until the copy is complete. Otherwise they follow the config in use
    /// meanwhile.
    pub holds_devices: bool,
    /// The definitions of the new config in its order, then those that it no longer has.
    pub definitions: Vec<PlannedDefinition>,
    /// The tables that are copied.
    pub tables: Vec<PlannedTable>,
}

/// A definition of the new config, or of the one in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedDefinition {
    /// Its name.
    pub name: String,
    /// Its fate.
    pub fate: DefinitionFate,
    /// The number of its buckets, for one that is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets: Option<u64>,
    /// False if there are more buckets than were counted.
    pub is_complete: bool,
}

/// The fate of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DefinitionFate {
    /// Devices keep its buckets.
    Kept,
    /// It is of a former config that is still maintained: devices download its buckets, and nothing is copied
    /// for it.
    Back,
    /// Its rows are copied, and devices download its buckets.
    New,
    /// Devices delete its buckets.
    Removed,
}

/// A table that is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedTable {
    /// `schema.table`.
    pub name: String,
    /// The reason.
    pub reason: TableReason,
    /// PostgreSQL's estimate; absent if the table was never analysed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_rows: Option<u64>,
    /// The size of the table in PostgreSQL without its indexes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The definitions of the new config that are new and have rows of it.
    pub definitions: Vec<String>,
}

/// The reason why a table is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableReason {
    /// The store does not have it.
    New,
    /// Definitions or lookups read it for which it was not copied.
    MoreDefinitions,
    /// It is copied again over its stored rows: devices receive what differs.
    OverStoredRows,
    /// The worker is copying it already.
    InProgress,
}

impl PlanReport {
    /// Returns whether any table is copied.
    #[must_use]
    pub fn copies(&self) -> bool {
        !self.tables.is_empty()
    }
}
