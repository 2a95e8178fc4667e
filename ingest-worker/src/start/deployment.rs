//! The configs that a run maintains: the one that is deployed, the one that readers have, and former ones
//! that may come back.

use std::time::Duration;

use tidewater_storage::{Control, Generation, GenerationId, MaintainedGeneration};
use tidewater_sync_config::{Severity, SyncConfig, TablePattern, TableSchema};

use crate::initial_copy::state::TableReaders;
use crate::initial_copy::table_numbers::MaintainedConfig;
use crate::source::catalog::SourceTable;
use crate::start::generation::{ConfigSource, FreeNumbers, KnownGeneration, NewTags, continued};
use crate::start::stored::StoredGeneration;

/// Former configs that are maintained at most. Each costs the evaluation of every row, and the operations
/// of what it does not share. More than two deployments are rarely taken back.
const FORMER_CONFIGS_MAX: usize = 3;

/// A deployment of a config over stored rows.
pub(super) struct Deployment {
    /// The generation that readers are to have.
    pub(super) generation: Generation,
    /// All configs that the run maintains, those that are served first.
    pub(super) configs: Vec<MaintainedConfig>,
    /// The generations beside `generation`, as the control record names them.
    pub(super) maintained: Vec<MaintainedGeneration>,
    is_serving: bool,
}

/// Everything that decides about a deployment.
pub(super) struct DeploymentInput<'a> {
    pub(super) stored: &'a StoredGeneration,
    pub(super) former: Option<&'a Control>,
    /// The id of a new generation.
    pub(super) id: GenerationId,
    pub(super) source: ConfigSource<'a>,
    pub(super) tags: &'a NewTags,
    pub(super) tables: &'a [SourceTable],
    /// The time, in seconds since 1970.
    pub(super) now: u64,
    pub(super) rollback_grace: Duration,
}

impl Deployment {
    /// Plans the deployment of a config that continues stored rows. Returns `None` if it cannot.
    pub(super) fn plan(input: DeploymentInput<'_>) -> Option<Self> {
        let DeploymentInput { stored, former, id, source, tags, tables, now, rollback_grace } =
            input;
        let mut known = vec![KnownGeneration::compile(&stored.generation)?];
        let rows_of = stored.generation.rows_of();
        let others = stored.others.iter().filter(|other| other.rows_of() == rows_of);
        known.extend(others.filter_map(KnownGeneration::compile));

        let (definition, lookup) = stored.copy.all_readers().free_numbers()?;
        let free = FreeNumbers { definition, lookup };
        let generation = continued(&known, id, source, tags, free)?;

        let schemas: Vec<_> = tables.iter().map(|table| table.schema.clone()).collect();
        let visible = former.and_then(|former| former.visible.as_ref()).map(|it| it.generation);
        let is_up_to_date = |id: GenerationId| {
            id == generation.id
                || known.iter().any(|known| known.generation.id == id && fits(known, &schemas))
        };
        let Some(visible) = visible.filter(|&visible| is_up_to_date(visible)) else {
            return Some(Self::alone(source.config, generation));
        };

        let former_maintained = former.map_or(&[][..], |former| &former.maintained);
        let mut maintained = Vec::new();
        for one in former_maintained {
            let until = one.until.unwrap_or_else(|| now.saturating_add(rollback_grace.as_secs()));
            if one.id != visible && one.id != generation.id && until > now && is_up_to_date(one.id)
            {
                maintained.push(MaintainedGeneration { id: one.id, until: Some(until) });
            }
        }
        maintained.sort_by_key(|one| std::cmp::Reverse(one.until));
        maintained.truncate(FORMER_CONFIGS_MAX);
        if visible != generation.id {
            maintained.insert(0, MaintainedGeneration { id: visible, until: None });
        }

        let mut configs = Vec::new();
        for one in &maintained {
            let known = known.iter().find(|known| known.generation.id == one.id)?;
            configs.push(MaintainedConfig {
                config: known.config.clone(),
                generation: known.generation.clone(),
                is_served: true,
            });
        }
        // A former config that comes back was maintained meanwhile.
        let is_served = visible == generation.id
            || former_maintained.iter().any(|former| former.id == generation.id);
        let config = source.config.clone();
        configs.push(MaintainedConfig { config, generation: generation.clone(), is_served });
        Some(Self { generation, configs, maintained, is_serving: true })
    }

    /// Returns the deployment of a config without others: readers wait at their checkpoint until it is
    /// copied.
    pub(super) fn alone(config: &SyncConfig, generation: Generation) -> Self {
        let config = config.clone();
        let only = MaintainedConfig { config, generation: generation.clone(), is_served: false };
        Self { generation, configs: vec![only], maintained: Vec::new(), is_serving: false }
    }

    /// Returns whether the config that readers have is maintained.
    pub(super) fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// Returns whether readers can have the generation without waiting for a copy that is for it only.
    pub(super) fn has_served_readers_only(&self) -> bool {
        let mut served = TableReaders::default();
        let mut wanted = TableReaders::default();
        for config in &self.configs {
            if config.is_served {
                served.extend(&config.readers());
            } else {
                wanted.extend(&config.readers());
            }
        }
        !self.is_serving || served.contains(&wanted)
    }

    /// Returns those tables that any of the configs reads.
    pub(super) fn tables_read(&self, tables: &[SourceTable]) -> Vec<SourceTable> {
        let patterns = self.patterns();
        let is_read = |table: &&SourceTable| {
            let TableSchema { schema, name, .. } = &table.schema;
            patterns.iter().any(|pattern| pattern.matches(schema, name))
        };
        tables.iter().filter(is_read).cloned().collect()
    }

    /// Returns the patterns of the tables that the configs read.
    pub(super) fn patterns(&self) -> Vec<TablePattern> {
        self.configs.iter().flat_map(|one| one.config.tables().iter().cloned()).collect()
    }

    /// Returns the generations beside the one that readers are to have.
    pub(super) fn others(&self) -> Vec<Generation> {
        let all = self.configs.iter().map(|one| &one.generation);
        all.filter(|one| one.id != self.generation.id).cloned().collect()
    }
}

/// Returns whether a config can be maintained: the source has what it names.
fn fits(known: &KnownGeneration, schemas: &[TableSchema]) -> bool {
    let is_error = |severity| severity == Severity::Error;
    !known.config.check(schemas).iter().any(|found| is_error(found.severity))
        && schemas.iter().all(|schema| known.config.bind(schema).is_ok())
}
