//! The config, the copy and the row, as the store has them.

use std::sync::Arc;

use tidewater_protocol::OpId;
use tidewater_storage::{
    CommittedOps, Control, Generation, ReadResult, RecordKey, Storage, StorageError, Truncation,
    VersionedRecord,
};
use tidewater_sync_config::{SyncConfig, TableSchema};

use crate::apply::source_row::SourceRow;
use crate::apply::unsynced_rows::UnsyncedRows;
use crate::initial_copy::state::{CopiedTable, CopyState};
use crate::source::quote::quote_identifier;
use crate::why::error::WhyError;
use crate::why::source_side::is_named;

/// The store, with the config that readers have; before there is one, the latest.
pub(super) struct StoreSide {
    pub(super) control: Control,
    pub(super) committed_ops: CommittedOps,
    pub(super) generation: Generation,
    pub(super) config: SyncConfig,
    pub(super) copy: CopyState,
}

/// Schema and name of a table.
pub(super) struct TableName {
    pub(super) schema: String,
    pub(super) name: String,
}

/// A bucket: the index of its definition in the config, and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) definition: usize,
    pub(super) params: String,
}

/// A row in the store.
pub(super) struct StoredRow {
    /// At the last commit.
    pub(super) committed: RowAt,
    /// At the checkpoint that devices have; `None` before there is one.
    pub(super) visible: Option<RowAt>,
    /// The row exceeds a limit or cannot be evaluated, so that it is not synced or not by all queries.
    pub(super) is_unsynced: bool,
}

/// A row at a checkpoint.
pub(super) enum RowAt {
    /// It is in no bucket and answers no lookup.
    Absent,
    /// It has been in these buckets since the operation, as far as the config in use has them.
    In(OpId, Vec<Bucket>),
    /// The record has changed so often that the state there is no longer stored.
    TooOld,
}

impl TableName {
    pub(super) fn of(schema: &TableSchema) -> Self {
        Self { schema: schema.schema.clone(), name: schema.name.clone() }
    }

    pub(super) fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

impl StoreSide {
    pub(super) async fn read<S: Storage>(storage: &S) -> Result<Self, WhyError> {
        // Epochs move from the control record to the archive: read in this order, none is missed.
        let control = storage.control().await?.ok_or(WhyError::NoWorker)?;
        let committed_ops = control.committed_ops(&storage.archived_epochs().await?);
        let visible = control.visible.as_ref().map(|visible| visible.generation);
        let id = visible.unwrap_or(control.generation);
        let generation = storage.generation(id).await?.ok_or(WhyError::NoWorker)?;
        let config = SyncConfig::compile(&generation.sync_config).map_err(|findings| {
            WhyError::Config(findings.into_iter().next().map(|one| one.message).unwrap_or_default())
        })?;
        if config.definitions().len() != generation.definitions.len()
            || config.lookups().len() != generation.lookups.len()
        {
            return Err(WhyError::Config("it compiles to other definitions".to_owned()));
        }

        let records = storage.records(&[RecordKey::Copy(generation.rows_of())]).await?;
        let record = records.into_iter().next().flatten();
        let stored = record.as_ref().map(|copy| copy.read_at(control.committed.op, &committed_ops));
        let copy = match stored {
            Some(ReadResult::Found(_, copy)) => serde_json::from_slice(copy)
                .map_err(|error| StorageError::Damaged("copy", error.into()))?,
            Some(ReadResult::NotFound | ReadResult::TooOld) | None => CopyState::default(),
        };
        Ok(Self { control, committed_ops, generation, config, copy })
    }

    /// Returns the table that a name means, if the config names it in full or a pattern matches it.
    pub(super) fn table_named(&self, name: &str) -> Option<TableName> {
        let (schema, table) = name.split_once('.').unwrap_or(("public", name));
        let patterns = self.config.tables();
        let full = patterns.iter().find(|pattern| {
            !pattern.is_wildcard() && is_named(&pattern.schema, &pattern.name, name)
        });
        if let Some(full) = full {
            return Some(TableName { schema: full.schema.clone(), name: full.name.clone() });
        }
        let is_matched = patterns.iter().any(|pattern| pattern.matches(schema, table));
        is_matched.then(|| TableName { schema: schema.to_owned(), name: table.to_owned() })
    }

    /// Returns the number of a table in the store, found by its id in `pg_class` or by its name.
    pub(super) fn number_of(&self, oid: Option<u32>, name: &TableName) -> Option<u16> {
        let sql_name =
            format!("{}.{}", quote_identifier(&name.schema), quote_identifier(&name.name));
        let mut numbered = (0_u16..).zip(&self.copy.tables);
        numbered.find_map(|(number, table)| {
            let table = table.as_ref()?;
            let is_it = match oid {
                Some(oid) => table.oid == oid,
                None => table.shape.has_sql_name(&sql_name),
            };
            is_it.then_some(number)
        })
    }

    /// Returns the progress of a table's copy.
    pub(super) fn copied(&self, number: u16) -> Option<&CopiedTable> {
        self.copy.tables.get(usize::from(number)).and_then(Option::as_ref)
    }

    /// Returns the name of a bucket as devices have it.
    pub(super) fn bucket_name(&self, bucket: &Bucket) -> String {
        let definition = &self.config.definitions()[bucket.definition];
        let tag = &self.generation.definitions[bucket.definition];
        format!("{}.{tag}{}", definition.name, bucket.params)
    }

    /// Reads what the store has of a row.
    pub(super) async fn row<S: Storage>(
        &self,
        storage: &S,
        number: u16,
        key: Arc<str>,
    ) -> Result<StoredRow, StorageError> {
        let rows_of = self.generation.rows_of();
        let keys = [
            RecordKey::SourceRow(rows_of, number, Arc::clone(&key)),
            UnsyncedRows::record_key(rows_of),
        ];
        let mut records = storage.records(&keys).await?.into_iter();
        let record = records.next().flatten();
        let unsynced = records.next().flatten();

        let committed = self.control.committed.op;
        let truncated = &self.control.truncated;
        let at_commit = self.row_at(record.as_ref(), number, &key, committed, truncated)?;
        let visible = match &self.control.visible {
            Some(visible) => {
                let truncated = &visible.truncated;
                Some(self.row_at(record.as_ref(), number, &key, visible.at.op, truncated)?)
            }
            None => None,
        };
        let unsynced = unsynced.as_ref().map(|list| list.read_at(committed, &self.committed_ops));
        let is_unsynced = match unsynced {
            Some(ReadResult::Found(_, list)) => {
                UnsyncedRows::decode(list).is_ok_and(|list| list.contains(number, &key))
            }
            Some(ReadResult::NotFound | ReadResult::TooOld) | None => false,
        };
        Ok(StoredRow { committed: at_commit, visible, is_unsynced })
    }

    fn row_at(
        &self,
        record: Option<&VersionedRecord>,
        number: u16,
        key: &str,
        at: OpId,
        truncated: &[Truncation],
    ) -> Result<RowAt, StorageError> {
        let Some(record) = record else { return Ok(RowAt::Absent) };
        let (op, stored) = match record.read_at(at, &self.committed_ops) {
            ReadResult::Found(op, stored) => (op, stored),
            ReadResult::NotFound => return Ok(RowAt::Absent),
            ReadResult::TooOld => return Ok(RowAt::TooOld),
        };
        if truncated.iter().any(|one| one.table == number && op < one.op) {
            return Ok(RowAt::Absent);
        }

        let row = SourceRow::decode(stored, key)
            .ok_or_else(|| StorageError::Damaged("source row", "it cannot be decoded".into()))?;
        let numbers = self.generation.definition_numbers.numbers();
        let mut buckets = Vec::new();
        for membership in &row.memberships {
            // A definition of another config that is maintained is none of this one.
            let definition = numbers.iter().position(|one| *one == membership.definition);
            buckets.extend(
                definition
                    .map(|definition| Bucket { definition, params: membership.params.to_owned() }),
            );
        }
        Ok(RowAt::In(op, buckets))
    }
}
