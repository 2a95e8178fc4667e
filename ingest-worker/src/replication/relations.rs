//! Maps the table ids of the stream to the tables of the run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidewater_storage::Lsn;
use tidewater_sync_config::TablePattern;

use crate::apply::applier::SyncedTable;
use crate::replication::wal_message::CopyRequest;
use crate::source::catalog::SourceTable;
use crate::source::error::TableChanged;
use crate::source::pgoutput::{Relation, RelationColumn};

/// The rule by which a table that the run does not know counts as new.
#[derive(Clone, Debug, Default)]
pub struct NewTables {
    /// The patterns of the sync config.
    pub patterns: Vec<TablePattern>,
    /// A position of the source before its catalog was read: what was committed up to here is in
    /// the catalog.
    pub catalog_read_at: Lsn,
    /// Tables that match a pattern and cannot be synced.
    pub left_out: HashSet<u32>,
}

impl NewTables {
    /// Returns whether a transaction that was committed at `commit_lsn` changes a table that the
    /// sync config reads and that was not there when the run began.
    fn contain(&self, relation: &Relation, commit_lsn: Lsn) -> bool {
        let is_read = |pattern: &TablePattern| pattern.matches(&relation.schema, &relation.name);
        commit_lsn > self.catalog_read_at
            && !self.left_out.contains(&relation.oid)
            && self.patterns.iter().any(is_read)
    }
}

/// The transaction in which the stream refers to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionAge {
    /// An earlier run has applied it, so nothing of it is applied again.
    Known,
    /// It was committed at this position. It is to be applied, except to tables whose copy began
    /// later: the copy reads its effects, and it may describe a table as it was before it was
    /// altered.
    New(Lsn),
}

/// The meaning of a table id of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RelationMapping {
    /// A table of the run, by its index.
    Table(usize),
    /// A table of the run, as it was before it was altered: the initial copy has its changes.
    Outdated(usize),
    /// A table that the sync config does not read.
    Ignored,
}

/// The tables of the run, by the ids under which the stream refers to them.
#[derive(Debug)]
pub(crate) struct RelationMap {
    tables: Arc<[SyncedTable]>,
    new_tables: NewTables,
    mappings: HashMap<u32, RelationMapping>,
}

impl RelationMap {
    pub(crate) fn new(tables: Arc<[SyncedTable]>, new_tables: NewTables) -> Self {
        Self { tables, new_tables, mappings: HashMap::new() }
    }

    /// Returns the tables of the run.
    pub(crate) fn tables(&self) -> &[SyncedTable] {
        &self.tables
    }

    /// Notes how the stream describes a table.
    ///
    /// # Errors
    /// When the description differs from the catalog that the run began with, and the copy does
    /// not cover the difference.
    pub(crate) fn describe(
        &mut self,
        relation: &Relation,
        age: TransactionAge,
    ) -> Result<(), TableChanged> {
        let mapping = self.map(relation, age)?;
        self.mappings.insert(relation.oid, mapping);
        Ok(())
    }

    /// Returns the index of the table that a change concerns, or `None` for a change that is not
    /// to be applied.
    ///
    /// # Errors
    /// When the table was altered before the change, and the copy does not have the change.
    pub(crate) fn table(
        &self,
        relation: u32,
        age: TransactionAge,
    ) -> Result<Option<usize>, TableChanged> {
        match self.mappings.get(&relation) {
            None | Some(RelationMapping::Ignored) => Ok(None),
            Some(RelationMapping::Table(table) | RelationMapping::Outdated(table))
                if self.is_left_to_copy(*table, age) =>
            {
                Ok(None)
            }
            Some(RelationMapping::Table(table)) => Ok(Some(*table)),
            // PostgreSQL describes a table again before its first change after it was altered. It
            // did not, so behind the copy the table still has another shape than in the catalog.
            Some(RelationMapping::Outdated(table)) => {
                let table = &self.tables[*table].table;
                Err(changed(table, "the log describes it otherwise than the catalog"))
            }
        }
    }

    /// Checks a request to copy a table again. One that an earlier run has read, or whose table's copy
    /// began after it, is done or in progress.
    ///
    /// # Errors
    /// When the run must end for the copy.
    pub(crate) fn check_request(
        &self,
        request: CopyRequest,
        age: TransactionAge,
    ) -> Result<(), TableChanged> {
        let index = self.tables.iter().position(|table| table.table.oid == request.table);
        let Some(index) = index.filter(|&index| !self.is_left_to_copy(index, age)) else {
            return Ok(());
        };
        let CopyRequest { replaces_rows, .. } = request;
        let reason = "a copy was requested (`tidewater verify --repair`, or the admin API)";
        Err(TableChanged { replaces_rows, ..changed(&self.tables[index].table, reason) })
    }

    /// Returns whether a transaction's changes of a table are not applied: an earlier run has done so,
    /// or the table's copy began after them. The copy waits until it sees them.
    ///
    /// A table that was rewritten is copied again. Its changes from before would put back values from
    /// before if they were applied after the copy has read the rows.
    fn is_left_to_copy(&self, table: usize, age: TransactionAge) -> bool {
        match age {
            TransactionAge::Known => true,
            TransactionAge::New(commit_lsn) => commit_lsn <= self.tables[table].copied_after,
        }
    }

    fn map(
        &self,
        relation: &Relation,
        age: TransactionAge,
    ) -> Result<RelationMapping, TableChanged> {
        // A table that was dropped and created again has its name, but another id.
        let by_id = self.tables.iter().position(|table| table.table.oid == relation.oid);
        let by_name = || {
            self.tables.iter().position(|table| {
                let schema = &table.table.schema;
                schema.schema == relation.schema && schema.name == relation.name
            })
        };
        let Some(index) = by_id.or_else(by_name) else {
            return self.map_unknown(relation, age);
        };

        let table = &self.tables[index].table;
        let Some(difference) = difference(table, relation) else {
            return Ok(RelationMapping::Table(index));
        };
        if self.is_left_to_copy(index, age) {
            Ok(RelationMapping::Outdated(index))
        } else {
            Err(changed(table, difference))
        }
    }

    fn map_unknown(
        &self,
        relation: &Relation,
        age: TransactionAge,
    ) -> Result<RelationMapping, TableChanged> {
        match age {
            TransactionAge::New(commit_lsn) if self.new_tables.contain(relation, commit_lsn) => {
                Err(TableChanged {
                    oid: relation.oid,
                    table: format!("{}.{}", relation.schema, relation.name),
                    reason: "it is new".to_owned(),
                    replaces_rows: false,
                })
            }
            TransactionAge::New(_) | TransactionAge::Known => Ok(RelationMapping::Ignored),
        }
    }
}

fn changed(table: &SourceTable, reason: impl Into<String>) -> TableChanged {
    TableChanged {
        oid: table.oid,
        table: table.display_name(),
        reason: reason.into(),
        replaces_rows: false,
    }
}

/// Returns how the stream's description of a table differs from the catalog's.
fn difference(table: &SourceTable, relation: &Relation) -> Option<String> {
    if table.oid != relation.oid {
        return Some("it was dropped and created again".to_owned());
    }

    let columns = &table.schema.columns;
    for (column, now) in columns.iter().zip(&relation.columns) {
        if column.name != now.name {
            return Some(format!("column {} is now {}", column.name, now.name));
        }
        if column.type_oid != now.type_oid {
            return Some(format!("column {} has another type", column.name));
        }
    }
    if let Some(added) = relation.columns.get(columns.len()) {
        return Some(format!("column {} is new", added.name));
    }
    if let Some(dropped) = columns.get(relation.columns.len()) {
        return Some(format!("column {} was dropped", dropped.name));
    }

    // The columns of the identity matter too: `REPLICA IDENTITY USING INDEX` may change its index.
    let is_expected = |(at, column): (usize, &RelationColumn)| {
        column.in_identity == (table.replica_identity == 'f' || table.key.contains(&at))
    };
    if table.replica_identity != char::from(relation.replica_identity)
        || !relation.columns.iter().enumerate().all(is_expected)
    {
        return Some("it has another replica identity".to_owned());
    }

    None
}

#[cfg(test)]
mod tests;
