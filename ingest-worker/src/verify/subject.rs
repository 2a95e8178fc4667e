//! The subject of a comparison: the visible generation of the store, and the tables of the source that
//! it reads.

use std::collections::HashMap;

use tidewater_storage::{
    BucketKey, Generation, Lsn, ReadResult, RecordKey, Storage, StorageError, Tag,
};
use tidewater_sync_config::SyncConfig;

use crate::apply::applier::SyncedTable;
use crate::apply::tags::TagsByNumber;
use crate::initial_copy::state::{CopiedTable, CopyState};
use crate::initial_copy::table_numbers::{MaintainedConfig, MaintainedConfigs, number};
use crate::source::catalog::SourceTable;
use crate::source::shape::TableShape;
use crate::source::tables::{CandidateTable, candidate_tables};
use crate::verify::checkpoint::View;
use crate::verify::error::VerifyError;

/// The generation that readers see, and its tables.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) config: SyncConfig,
    pub(super) generation: Generation,
    /// The tags of its definitions and lookups, by their numbers in source rows.
    definition_tags: TagsByNumber,
    lookup_tags: TagsByNumber,
    /// The tables of the source, with the numbers under which they are stored.
    pub(super) tables: Vec<SyncedTable>,
    copied: CopiedTables,
}

/// The tables that a generation has copied, by their numbers: id and shape.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CopiedTables(Vec<Option<(u32, TableShape)>>);

impl CopiedTables {
    fn of(copy: &CopyState) -> Self {
        let table = |table: &CopiedTable| (table.oid, table.shape.clone());
        Self(copy.tables.iter().map(|known| known.as_ref().map(table)).collect())
    }

    /// Reads those of a generation at a checkpoint.
    pub(super) async fn read<S: Storage>(
        storage: &S,
        generation: &Generation,
        view: &View,
    ) -> Result<Self, VerifyError> {
        Ok(Self::of(&read_copy(storage, generation, view).await?))
    }
}

impl Subject {
    /// Reads the generation of a checkpoint, and finds its tables among those of the source.
    pub(super) async fn read<S: Storage>(
        storage: &S,
        view: &View,
        source: &[SourceTable],
    ) -> Result<Self, VerifyError> {
        let id = view.visible.generation;
        let generation = storage.generation(id).await?.ok_or_else(|| {
            let missing = format!("generation {} is not stored", id.0.number());
            StorageError::Damaged("generation", missing.into())
        })?;
        let config = SyncConfig::compile(&generation.sync_config).map_err(|findings| {
            let first = findings.into_iter().next().map(|one| one.message);
            VerifyError::Config(first.unwrap_or_default())
        })?;
        if config.definitions().len() != generation.definitions.len()
            || config.lookups().len() != generation.lookups.len()
        {
            return Err(VerifyError::Config("it compiles to other definitions".to_owned()));
        }

        let copy = read_copy(storage, &generation, view).await?;
        let copied = CopiedTables::of(&copy);
        // A table that only a pattern matches may be new, or left out because it cannot be synced.
        let tables: Vec<_> = candidate_tables(config.tables(), source, |table| table.is_published)
            .into_iter()
            .filter(|one| one.is_named || copy.holds(one.table.oid))
            .map(|CandidateTable { table, .. }| table)
            .collect();
        let only = [MaintainedConfig { config, generation, is_served: true }];
        let maintained =
            MaintainedConfigs { configs: &only, are_readers_waiting: false, is_ahead: false };
        let numbered = number(maintained, &tables, copy, Lsn(0))?;
        let [MaintainedConfig { config, generation, is_served: _ }] = only;
        match numbered {
            Some(numbered) if !numbered.is_changed => {
                let mut definition_tags = TagsByNumber::default();
                definition_tags.add(&generation.definition_numbers, &generation.definitions);
                let mut lookup_tags = TagsByNumber::default();
                lookup_tags.add(&generation.lookup_numbers, &generation.lookups);
                let tables = numbered.tables;
                Ok(Self { config, generation, definition_tags, lookup_tags, tables, copied })
            }
            Some(numbered) if !numbered.changed.is_empty() => {
                Err(VerifyError::Changing(numbered.changed.join("; ")))
            }
            Some(_) | None => {
                Err(VerifyError::Changing("a table was created, dropped or renamed".to_owned()))
            }
        }
    }

    /// Returns whether a checkpoint has the same generation with the same tables.
    pub(super) async fn is_still<S: Storage>(
        &self,
        storage: &S,
        view: &View,
    ) -> Result<bool, VerifyError> {
        let generation = &self.generation;
        Ok(view.visible.generation == generation.id
            && CopiedTables::read(storage, generation, view).await? == self.copied)
    }

    /// Returns the table with a number.
    pub(super) fn table(&self, number: u16) -> Option<&SyncedTable> {
        self.tables.iter().find(|table| table.number == number)
    }

    /// Writes the stored name of the bucket of a definition, given by its number. Leaves an empty name if
    /// the generation does not have the definition.
    pub(super) fn bucket(&self, definition: usize, params: &str, name: &mut String) {
        let number = u16::try_from(definition).ok();
        match number.and_then(|number| self.definition_tags.get(number)) {
            Some(tag) => BucketKey::write_name(tag, params, name),
            None => name.clear(),
        }
    }

    /// Returns the tag of a lookup, given by its number.
    pub(super) fn lookup_tag(&self, lookup: usize) -> Option<&Tag> {
        u16::try_from(lookup).ok().and_then(|number| self.lookup_tags.get(number))
    }

    /// Returns the name of a bucket as devices have it, and of a lookup its stored name.
    pub(super) fn shown_name(&self, container: &str) -> String {
        let tags = self.generation.definitions.iter();
        let definition =
            tags.zip(self.config.definitions()).find(|(tag, _)| has_tag(container, tag));
        definition.map_or_else(
            || container.to_owned(),
            |(_, definition)| format!("{}.{container}", definition.name),
        )
    }

    /// Returns the buckets that a name may mean: with a tag, or without.
    pub(super) fn buckets_named(&self, name: &str) -> Vec<BucketKey> {
        let tags = self.generation.definitions.iter().zip(self.config.definitions());
        tags.filter_map(|(tag, definition)| {
            // The readable part may have brackets itself, so it is compared and not split off.
            let rest = name.strip_prefix(definition.name.as_str())?;
            let after_tag = rest.strip_prefix('.').and_then(|rest| rest.strip_prefix(tag.as_str()));
            let params = after_tag.unwrap_or(rest);
            params.starts_with('[').then(|| BucketKey::new(tag, params))
        })
        .collect()
    }

    /// Returns the tags of lookups by their numbers in source rows.
    pub(super) fn lookup_tags(&self) -> HashMap<u16, Tag> {
        let numbers = self.generation.lookup_numbers.numbers().iter().copied();
        numbers.zip(self.generation.lookups.iter().cloned()).collect()
    }
}

fn has_tag(container: &str, tag: &Tag) -> bool {
    container.strip_prefix(tag.as_str()).is_some_and(|params| params.starts_with('['))
}

/// Reads the record of a generation's copy as of a checkpoint.
async fn read_copy<S: Storage>(
    storage: &S,
    generation: &Generation,
    view: &View,
) -> Result<CopyState, VerifyError> {
    let records = storage.records(&[RecordKey::Copy(generation.rows_of())]).await?;
    let record = records.into_iter().next().flatten();
    let damaged = |problem: &str| StorageError::Damaged("copy", problem.into());
    let record = record.ok_or_else(|| damaged("there is none"))?;

    match record.read_at(view.visible.at.op, &view.committed_ops) {
        ReadResult::Found(_, copy) => {
            serde_json::from_slice(copy).map_err(|error| damaged(&error.to_string()).into())
        }
        ReadResult::NotFound => Err(damaged("the checkpoint has none").into()),
        ReadResult::TooOld => {
            Err(VerifyError::Changing("the worker copies a table again".to_owned()))
        }
    }
}
