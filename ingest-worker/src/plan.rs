//! The consequences of another sync config, found beside the worker and before it is deployed.
//!
//! The plan of a takeover is a pure function of what the store and the source have. It is made here as a run
//! with the new config would make it, and nothing of it is written.

mod report;

use std::collections::HashMap;
use std::time::Duration;

use tidewater_storage::{Control, Generation, Lsn, SourceIdentity, Storage, StorageError, Tag};
use tidewater_sync_config::{Diagnostic, SyncConfig};
use tokio_postgres::Client;

pub use report::{DefinitionFate, PlanReport, PlannedDefinition, PlannedTable, TableReason};

use crate::clock::unix_seconds;
use crate::config::SourceNames;
use crate::initial_copy::state::{CopyState, TableCopy};
use crate::log::writer::nonce;
use crate::source::connect::{ConnectError, connect};
use crate::source::database::Database;
use crate::source::dsn::Dsn;
use crate::source::error::SourceError;
use crate::source::inspection::inspect;
use crate::source::preflight::{Finding, PreflightError};
use crate::start::add_tables_of_others;
use crate::start::error::StartError;
use crate::start::generation::NewTags;
use crate::start::stored::{StoredGeneration, read_stored_generation};
use crate::start::takeover::{
    FoundTable, SlotPosition, TakeoverError, TakeoverInput, TakeoverKind, TakeoverPlan,
    plan_takeover,
};
use crate::status::difference;

/// Buckets of a definition that are counted.
const BUCKETS_COUNTED_MAX: usize = 10_000;
/// Buckets that are listed in one call.
const PAGE: usize = 1_000;

const SIZES: &str = "SELECT c.oid, pg_table_size(c.oid) FROM pg_class c WHERE c.oid = ANY($1)";

/// A reason why a plan cannot be made, sorted by what its caller does next.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Fix the connection string, the network or the role.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Name the database that the store is filled from.
    #[error("{0}: name the same database as the ingest worker, on its primary server")]
    OtherSource(String),
    /// Fix the sync config.
    #[error("the sync config does not fit the database")]
    SyncConfig(Vec<Diagnostic>),
    /// Fix the tables, as each finding says.
    #[error(transparent)]
    NotReady(PreflightError),
    /// See what the message says.
    #[error("the tables of the other configs cannot be read")]
    Others(#[source] StartError),
    /// See what the message says: a worker would stop with it.
    #[error("a worker could not take over with this sync config")]
    Takeover(#[from] TakeoverError),
    /// Try again if the connection broke; otherwise fix what the server's message names.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// See what the storage error says.
    #[error("the store cannot be read")]
    Storage(#[from] StorageError),
    /// The operating system has no random numbers.
    #[error("the operating system gives no random numbers")]
    Random(#[from] getrandom::Error),
}

impl From<tokio_postgres::Error> for PlanError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Source(error.into())
    }
}

/// A sync config that may be deployed.
#[derive(Clone, Copy, Debug)]
pub struct NewConfig<'a> {
    /// The compiled config.
    pub config: &'a SyncConfig,
    /// Its text.
    pub text: &'a str,
}

/// Plans the deployment of a config, and changes nothing.
///
/// # Errors
/// When the store or the source cannot be read, or a worker could not start with the config.
pub async fn plan_config<S: Storage>(
    storage: &S,
    database: &Database,
    publication: &str,
    new: NewConfig<'_>,
) -> Result<PlanReport, PlanError> {
    let control = storage.control().await?;
    let stored = read_stored_generation(storage, control.as_ref()).await?;
    let former_copy = stored.as_ref().map(|stored| stored.copy.clone()).unwrap_or_default();

    let known_tags: Vec<Tag> = stored
        .iter()
        .flat_map(|stored| stored.others.iter().chain([&stored.generation]))
        .flat_map(|generation| generation.definitions.iter().cloned())
        .collect();

    let dsn = Dsn::of(database).map_err(ConnectError::from)?;
    let client = connect(&dsn).await?;
    if let Some(control) = &control
        && let Some(problem) = difference(&client, &control.source).await?
    {
        return Err(PlanError::OtherSource(problem));
    }

    // The slot of the store is not asked for: a worker may hold it.
    let slot = control.as_ref().map(|control| control.source.slot.clone()).unwrap_or_default();
    let names = SourceNames { publication, slot: &slot };
    let found = found_tables(&client, new, names, stored.as_ref()).await?;

    let present = present_generation(storage, control.as_ref()).await?;
    let committed = control.as_ref().map_or(Lsn(0), |control| control.committed.lsn);
    let plan = plan_takeover(TakeoverInput {
        found: match &control {
            Some(control) => control.source.clone(),
            None => unknown_source(),
        },
        slot: SlotPosition {
            confirmed: committed,
            is_new: control.is_none(),
            server_end: committed,
        },
        former: control,
        stored,
        config: new.config,
        config_text: new.text,
        tables: found,
        changed_table: None,
        has_diverged: false,
        catalog_read_at: committed,
        owner: nonce()?,
        tags: random_tags(new.config)?,
        now: unix_seconds(),
        rollback_grace: Duration::ZERO,
    })?;

    let copied = copied_tables(&client, new.config, &plan, &former_copy, present.as_ref()).await?;
    let definitions =
        definitions(storage, new.config, &plan, present.as_ref(), &known_tags).await?;
    Ok(PlanReport {
        is_same_text: present.as_ref().is_some_and(|one| one.sync_config == new.text),
        is_first: plan.kind == TakeoverKind::Fresh,
        copies_everything: matches!(
            plan.kind,
            TakeoverKind::Fresh | TakeoverKind::SlotReset | TakeoverKind::GenerationLost
        ) || (plan.kind == TakeoverKind::ConfigChanged
            && plan.is_new_generation
            && plan.next.continued_generation.is_none()),
        holds_devices: !copied.is_empty() && plan.next.visibility_barrier.is_some(),
        definitions,
        tables: copied,
    })
}

/// Inspects the source as a start does. Returns the tables that the config reads, and those that other
/// maintained configs read.
async fn found_tables(
    client: &Client,
    new: NewConfig<'_>,
    names: SourceNames<'_>,
    stored: Option<&StoredGeneration>,
) -> Result<Vec<FoundTable>, PlanError> {
    let inspection = inspect(client, new.config, names).await?;
    if has_error(&inspection.diagnostics) {
        return Err(PlanError::SyncConfig(inspection.diagnostics));
    }
    let findings: Vec<Finding> =
        inspection.findings.into_iter().filter(|finding| finding.is_fatal).collect();
    if !findings.is_empty() {
        return Err(PlanError::NotReady(PreflightError { findings }));
    }
    let mut tables = inspection.tables;
    if let Some(stored) = stored {
        let added = add_tables_of_others(client, stored, new.text, names, &mut tables);
        added.await.map_err(PlanError::Others)?;
    }
    Ok(tables.into_iter().map(FoundTable::from).collect())
}

fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|one| one.severity == tidewater_sync_config::Severity::Error)
}

/// Returns the identity of a source that no store was filled from yet.
fn unknown_source() -> SourceIdentity {
    SourceIdentity {
        system_id: String::new(),
        database: String::new(),
        timeline: 1,
        slot: String::new(),
        slot_generation: 1,
    }
}

/// Returns the generation that readers have; before there is one, the latest.
async fn present_generation<S: Storage>(
    storage: &S,
    control: Option<&Control>,
) -> Result<Option<Generation>, StorageError> {
    let Some(control) = control else { return Ok(None) };
    let visible = control.visible.as_ref().map(|visible| visible.generation);
    storage.generation(visible.unwrap_or(control.generation)).await
}

/// Returns tags that no stored definition or lookup has.
fn random_tags(config: &SyncConfig) -> Result<NewTags, getrandom::Error> {
    let tags = |count: usize| {
        (0..count).map(|_| Ok(Tag::from_bits(getrandom::u32()?))).collect::<Result<Vec<_>, _>>()
    };
    Ok(NewTags {
        definitions: tags(config.definitions().len())?,
        lookups: tags(config.lookups().len())?,
    })
}

/// Returns the tables that a run would copy, or go on copying.
async fn copied_tables(
    client: &Client,
    config: &SyncConfig,
    plan: &TakeoverPlan,
    former: &CopyState,
    present: Option<&Generation>,
) -> Result<Vec<PlannedTable>, PlanError> {
    let is_open = |copy: &CopyState, number: u16| {
        let table = copy.tables.get(usize::from(number)).and_then(Option::as_ref);
        table.is_some_and(|table| match table.progress {
            TableCopy::Todo | TableCopy::After(_) | TableCopy::Removing(_) => true,
            TableCopy::Done | TableCopy::Whole(_) => false,
        })
    };
    let open: Vec<_> =
        plan.tables.iter().filter(|table| is_open(&plan.copy, table.number)).collect();
    let oids: Vec<u32> = open.iter().map(|table| table.table.oid).collect();
    let sizes: HashMap<u32, i64> =
        client.query(SIZES, &[&oids]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();

    let numbers = plan.generation.definition_numbers.numbers();
    let mut tables = Vec::new();
    for table in open {
        let was_open = plan.kind != TakeoverKind::Fresh && is_open(former, table.number);
        let reason = if was_open {
            TableReason::InProgress
        } else if table.is_extended {
            TableReason::MoreDefinitions
        } else if table.has_former_rows {
            TableReason::OverStoredRows
        } else {
            TableReason::New
        };
        let mut of_table: Vec<_> = table
            .evaluator
            .definitions()
            .filter_map(|number| numbers.iter().position(|one| usize::from(*one) == number))
            .filter(|&at| {
                let tag = &plan.generation.definitions[at];
                present.is_none_or(|present| !present.definitions.contains(tag))
            })
            .map(|at| config.definitions()[at].name.clone())
            .collect();
        of_table.dedup();

        let estimate = table.table.estimated_rows;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate, which is negative where there is none"
        )]
        let estimated_rows = (estimate >= 0.0).then_some(estimate as u64);
        let bytes = sizes.get(&table.table.oid).and_then(|size| u64::try_from(*size).ok());
        tables.push(PlannedTable {
            name: table.table.display_name(),
            reason,
            estimated_rows,
            bytes,
            definitions: of_table,
        });
    }
    Ok(tables)
}

/// Compares the definitions with those that readers have, and with those of all configs that are maintained.
async fn definitions<S: Storage>(
    storage: &S,
    config: &SyncConfig,
    plan: &TakeoverPlan,
    present: Option<&Generation>,
    known_tags: &[Tag],
) -> Result<Vec<PlannedDefinition>, StorageError> {
    let mut compared = Vec::new();
    for (definition, tag) in config.definitions().iter().zip(&plan.generation.definitions) {
        let is_present = present.is_some_and(|present| present.definitions.contains(tag));
        let fate = if is_present {
            DefinitionFate::Kept
        } else if known_tags.contains(tag) {
            DefinitionFate::Back
        } else {
            DefinitionFate::New
        };
        compared.push(PlannedDefinition {
            name: definition.name.clone(),
            fate,
            buckets: None,
            is_complete: true,
        });
    }

    let Some(present) = present else { return Ok(compared) };
    let Ok(former) = SyncConfig::compile(&present.sync_config) else { return Ok(compared) };
    for (definition, tag) in former.definitions().iter().zip(&present.definitions) {
        if plan.generation.definitions.contains(tag) {
            continue;
        }
        let buckets = count_buckets(storage, tag).await?;
        compared.push(PlannedDefinition {
            name: definition.name.clone(),
            fate: DefinitionFate::Removed,
            buckets: Some(buckets as u64),
            is_complete: buckets < BUCKETS_COUNTED_MAX,
        });
    }
    Ok(compared)
}

/// Counts the buckets of a definition, up to a bound.
async fn count_buckets<S: Storage>(storage: &S, tag: &Tag) -> Result<usize, StorageError> {
    let mut count = 0;
    let mut after = None;
    while count < BUCKETS_COUNTED_MAX {
        let names = storage.registered_buckets(tag, after.as_ref(), PAGE).await?;
        count += names.len();
        if names.len() < PAGE {
            break;
        }
        after = names.last().cloned();
    }
    Ok(count)
}
