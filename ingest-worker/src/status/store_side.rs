//! Worker, configs and tables, as the store knows them.

use sha2::{Digest, Sha256};
use tidewater_storage::{
    CommittedOps, Control, Generation, GenerationId, ReadResult, RecordKey, Storage, StorageError,
};
use tidewater_sync_config::SyncConfig;

use crate::apply::unsynced_rows::UnsyncedRows;
use crate::initial_copy::state::{CopiedTable, CopyState, TableCopy};
use crate::source::quote::quote_identifier;
use crate::start::stored::read_stored_generation;
use crate::status::report::{
    ConfigState, ConfigStatus, CopyProgress, CopyStage, TableStatus, WorkerStatus,
};
use crate::status::source_side::SourceFacts;

/// The records of the store that a state is made of.
pub(super) struct StoreFacts {
    pub(super) control: Control,
    pub(super) committed_ops: CommittedOps,
    /// The generations that the control record names, each once.
    generations: Vec<Generation>,
    copy: Option<CopyState>,
    unsynced: Option<UnsyncedRows>,
}

impl StoreFacts {
    /// Reads the records; `None` if no worker has ever started on the store.
    pub(super) async fn read<S: Storage>(storage: &S) -> Result<Option<Self>, StorageError> {
        // Epochs move from the control record to the archive: read in this order, none is missed.
        let Some(control) = storage.control().await? else { return Ok(None) };
        let committed_ops = control.committed_ops(&storage.archived_epochs().await?);
        let stored = read_stored_generation(storage, Some(&control)).await?;
        let unsynced = match &stored {
            Some(stored) => {
                let rows_of = stored.generation.rows_of();
                read_unsynced(storage, &control, &committed_ops, rows_of).await?
            }
            None => None,
        };

        let mut ids = vec![control.generation];
        ids.extend(control.visible.as_ref().map(|visible| visible.generation));
        ids.extend(control.maintained.iter().map(|maintained| maintained.id));
        ids.sort_unstable();
        ids.dedup();
        let mut generations = Vec::new();
        for id in ids {
            generations.extend(storage.generation(id).await?);
        }
        let copy = stored.map(|stored| stored.copy);
        Ok(Some(Self { control, committed_ops, generations, copy, unsynced }))
    }

    /// Returns the generation that readers have; before there is one, the latest.
    pub(super) fn shown_generation(&self) -> Option<&Generation> {
        let visible = self.control.visible.as_ref().map(|visible| visible.generation);
        self.generation(visible.unwrap_or(self.control.generation))
    }

    fn generation(&self, id: GenerationId) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.id == id)
    }

    /// Returns the worker at `now`, in milliseconds since 1970.
    pub(super) fn worker(&self, now: u64, problem: Option<String>) -> WorkerStatus {
        let visible = self.control.visible.as_ref();
        let confirmed_at_ms = visible.and_then(|visible| visible.current_at);
        WorkerStatus {
            epoch: self.control.epoch.number(),
            committed_lsn: self.control.committed.lsn.to_string(),
            has_checkpoint: visible.is_some(),
            held_back: self.control.visibility_barrier.is_some(),
            confirmed_at_ms,
            age_ms: confirmed_at_ms.map(|confirmed| now.saturating_sub(confirmed)),
            error: problem,
        }
    }

    /// Returns the configs: the one in use, the one on its way, and those that are kept.
    pub(super) fn configs(&self) -> Vec<ConfigStatus> {
        let visible = self.control.visible.as_ref().map(|visible| visible.generation);
        let latest = self.control.generation;
        let mut named = Vec::new();
        named.extend(visible.map(|id| (id, ConfigState::InUse, None)));
        if visible != Some(latest) {
            named.push((latest, ConfigState::OnItsWay, None));
        }
        for kept in &self.control.maintained {
            if Some(kept.id) != visible && kept.id != latest {
                named.push((kept.id, ConfigState::Kept, kept.until));
            }
        }

        let describe = |(id, state, kept_until): (GenerationId, ConfigState, Option<u64>)| {
            let generation = self.generation(id)?;
            Some(ConfigStatus {
                state,
                generation: id.0.number(),
                sha256: hex::encode(Sha256::digest(&generation.sync_config)),
                definitions: generation.definitions.len(),
                kept_until,
                text: generation.sync_config.clone(),
            })
        };
        named.into_iter().filter_map(describe).collect()
    }

    /// Returns the tables, by name. `copies` are those that the worker of this process has reported.
    pub(super) fn tables(
        &self,
        source: Option<&SourceFacts>,
        copies: &[(String, CopyProgress)],
    ) -> Vec<TableStatus> {
        let Some(copy) = &self.copy else { return Vec::new() };
        let names = self.full_names();

        let mut tables = Vec::new();
        for (number, table) in (0_u16..).zip(&copy.tables) {
            let Some(table) = table else { continue };
            let listed = source.and_then(|source| source.tables.get(&table.oid));
            let name = listed.map(|listed| listed.name.clone()).or_else(|| name_of(table, &names));
            let copy = stage(&table.progress);
            let progress = copies.iter().find(|(of, _)| Some(of) == name.as_ref());
            tables.push(TableStatus {
                oid: table.oid,
                copy,
                estimated_rows: listed.and_then(|listed| listed.estimated_rows),
                progress: progress
                    .map(|(_, progress)| *progress)
                    .filter(|_| copy != CopyStage::Done),
                unsynced_rows: self.unsynced.as_ref().map(|rows| rows.count(number) as u64),
                name,
            });
        }
        tables.sort_by(|one, other| (&one.name, one.oid).cmp(&(&other.name, other.oid)));
        tables
    }

    /// Returns the ids of the tables.
    pub(super) fn table_oids(&self) -> Vec<u32> {
        let tables = self.copy.iter().flat_map(|copy| copy.tables.iter().flatten());
        tables.map(|table| table.oid).collect()
    }

    /// Returns the tables that the configs name in full: schema and name.
    fn full_names(&self) -> Vec<(String, String)> {
        let mut names = Vec::new();
        for generation in &self.generations {
            let Ok(config) = SyncConfig::compile(&generation.sync_config) else { continue };
            for pattern in config.tables().iter().filter(|pattern| !pattern.is_wildcard()) {
                let name = (pattern.schema.clone(), pattern.name.clone());
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }
}

/// Reads the list of rows that are not synced; `None` if it cannot be read. There is none before the
/// first such row.
async fn read_unsynced<S: Storage>(
    storage: &S,
    control: &Control,
    committed_ops: &CommittedOps,
    rows_of: GenerationId,
) -> Result<Option<UnsyncedRows>, StorageError> {
    let key: RecordKey = UnsyncedRows::record_key(rows_of);
    let Some(record) = storage.records(&[key]).await?.into_iter().next().flatten() else {
        return Ok(Some(UnsyncedRows::default()));
    };

    Ok(match record.read_at(control.committed.op, committed_ops) {
        ReadResult::Found(_, stored) => UnsyncedRows::decode(stored).ok(),
        ReadResult::NotFound => Some(UnsyncedRows::default()),
        ReadResult::TooOld => None,
    })
}

/// Returns the name of a table that the source was not asked for. The record of the copy has only a digest
/// of it, with which the names in the configs are compared.
fn name_of(table: &CopiedTable, names: &[(String, String)]) -> Option<String> {
    let is_its_name = |(schema, name): &&(String, String)| {
        let sql_name = format!("{}.{}", quote_identifier(schema), quote_identifier(name));
        table.shape.has_sql_name(&sql_name)
    };
    names.iter().find(is_its_name).map(|(schema, name)| format!("{schema}.{name}"))
}

fn stage(progress: &TableCopy) -> CopyStage {
    match progress {
        TableCopy::Todo => CopyStage::Waiting,
        TableCopy::After(_) => CopyStage::Copying,
        TableCopy::Removing(_) => CopyStage::Removing,
        TableCopy::Done | TableCopy::Whole(_) => CopyStage::Done,
    }
}
