//! The start of a run: inspects the source, takes the slot, and takes over the store as planned.

mod deployment;
pub(crate) mod error;
pub(crate) mod generation;
pub(crate) mod stored;
pub(crate) mod takeover;

use std::sync::Arc;
use std::time::Duration;

use pgwire_replication::ReplicationClient;
use tidewater_protocol::ErrorChain;
use tidewater_storage::{
    Committed, Control, ControlStore, Lsn, Nonce, SourceIdentity, Storage, SwapOutcome, Tag,
};
use tidewater_sync_config::{Diagnostic, Severity, SyncConfig};
use tokio_postgres::Client;

use crate::apply::applier::Applier;
use crate::clock::{unix_millis, unix_seconds};
use crate::config::{Config, Progress, SourceNames};
use crate::freshness::Freshness;
use crate::initial_copy::state::GoneTable;
use crate::log::error::WriteError;
use crate::log::writer::{LogWriter, nonce};
use crate::metrics;
use crate::replication::assembler::{AssemblerLimits, AssemblerStart, TransactionAssembler};
use crate::replication::events::BARRIER_UNKNOWN;
use crate::replication::relations::NewTables;
use crate::replication::session::{ReplicationSession, SessionSettings};
use crate::source::catalog_watcher::CatalogWatcher;
use crate::source::connect::connect;
use crate::source::connection::{self, SourceConnection};
use crate::source::dsn::Dsn;
use crate::source::error::SourceError;
use crate::source::inspection::{InspectedTable, Inspection, inspect};
use crate::source::preflight::PreflightError;
use crate::source::quote::quote_literal;
use crate::source::slot::{self, AcquiredSlot, ServerPositions, SlotError, Usability};
use error::{ConfigurationError, StartError};
use generation::NewTags;
use stored::{StoredGeneration, read_stored_generation};
use takeover::{FoundTable, SlotPosition, TakeoverInput, TakeoverPlan, foreign, plan_takeover};

/// Duration of the attempt to drop the slot that a failed start has made. The session that holds it
/// ends within moments.
const DROP_TIMEOUT: Duration = Duration::from_secs(10);

/// The reason for which the former run ended, if the next one has to copy for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartReason {
    /// The table with this id in `pg_class` has changed. It is copied again.
    TableChanged(u32),
    /// All rows of the table with this id are to be stored again, whatever is stored of them.
    RowsReplaced(u32),
    /// The server sent another history than before. All tables are copied again.
    HistoryDiverged,
    /// The slot cannot go on. It is replaced, and all tables are copied again.
    SlotStuck,
}

impl RestartReason {
    /// Returns the id in `pg_class` of the table that has changed, if that is the reason.
    fn changed_table(self) -> Option<u32> {
        match self {
            Self::TableChanged(oid) => Some(oid),
            Self::RowsReplaced(_) | Self::HistoryDiverged | Self::SlotStuck => None,
        }
    }
}

/// Begins a run.
pub(crate) async fn start<S: Storage>(
    config: &Config,
    storage: S,
    restart: Option<RestartReason>,
    freshness: &Freshness,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<ReplicationSession<S>, StartError> {
    let sync_config = SyncConfig::compile(&config.sync_config)?;
    let dsn = Dsn::of(&config.database)?;
    let client = connect(&dsn).await?;
    // Nothing is made before everything was checked.
    let inspection = inspect(&client, &sync_config, config.source_names()).await?;
    let Inspection { mut tables, user, catalog_read_at, .. } = accept(inspection, on_progress)?;
    // Later, the slot would be made and an epoch taken, again by each restart.
    storage.probe_access().await?;
    let former = storage.control().await.map_err(WriteError::from)?;
    let stored =
        read_stored_generation(&storage, former.as_ref()).await.map_err(WriteError::from)?;
    if let Some(stored) = &stored {
        let text = &config.sync_config;
        add_tables_of_others(&client, stored, text, config.source_names(), &mut tables).await?;
    }

    // From here on this session holds the slot, so no other worker can take over meanwhile.
    let is_stuck = restart == Some(RestartReason::SlotStuck);
    let is_slot_new = !find_usable_slot(&dsn, &client, &storage, config, is_stuck, on_progress)
        .await?
        && slot::ensure_slot(&client, &config.slot, on_progress).await?;
    let wanted = WantedRun { config, sync_config: &sync_config, tables, catalog_read_at, restart };
    let planned =
        plan_on_slot(&dsn, &client, &storage, wanted, is_slot_new, freshness, on_progress).await;
    if planned.is_err() && is_slot_new {
        drop_unused_slot(&client, &config.slot, on_progress).await;
    }
    let PlannedRun { plan, stream, confirmed } = planned?;
    for advice in &plan.advice {
        on_progress(Progress::Advice(advice.clone()));
    }
    tracing::info!(kind = ?plan.kind, "taking over the store");

    let mut not_yet_visible_xids = plan.not_yet_visible_xids();
    if plan.must_list_transactions_in_progress() {
        not_yet_visible_xids.extend(connection::in_progress_xids(&client).await?);
    }
    let new_tables = NewTables {
        patterns: plan.patterns.clone(),
        catalog_read_at,
        left_out: plan.left_out.clone(),
    };
    let mut watch = CatalogWatcher::new(config, plan.patterns.clone(), user);
    watch.left_out.clone_from(&plan.left_out);

    let (applier, assembler) = take_over(
        storage,
        plan,
        config.snapshot_threshold,
        TakeoverSettings {
            new_tables,
            slot: config.slot.clone(),
            slot_confirmed: confirmed,
            not_yet_visible_xids,
            limits: AssemblerLimits::default(),
        },
    )
    .await?;
    metrics::record_epoch(applier.writer.control().epoch);
    Ok(ReplicationSession::new(
        assembler,
        applier,
        SourceConnection::new(client),
        stream,
        watch,
        SessionSettings {
            freshness: freshness.clone(),
            receiver_timeout: config.receiver_timeout,
            wal_budget_bytes: config.wal_budget_bytes,
            rollback_grace: config.rollback_grace,
        },
    )
    .until_caught_up(config.until_caught_up))
}

/// Starts the stream, which makes this the only worker.
async fn acquire_slot(
    dsn: &Dsn,
    client: &Client,
    config: &Config,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<AcquiredSlot, StartError> {
    let timeout = config.receiver_timeout;
    match slot::acquire_slot(dsn, config.source_names(), timeout, on_progress).await {
        // The server has invalidated the slot since it was found. The next run finds it so.
        Err(SlotError::Refused { source, .. })
            if slot::find_slot(client, &config.slot).await? == Some(Usability::Lost) =>
        {
            Err(SourceError::Disconnected(source.into()).into())
        }
        acquired => Ok(acquired?),
    }
}

/// A run that is to begin.
struct WantedRun<'a> {
    config: &'a Config,
    sync_config: &'a SyncConfig,
    tables: Vec<InspectedTable>,
    catalog_read_at: Lsn,
    restart: Option<RestartReason>,
}

/// A run that holds its slot, with what it does to the store.
struct PlannedRun {
    plan: TakeoverPlan,
    /// The stream, which holds the slot.
    stream: ReplicationClient,
    /// The position up to which the slot was confirmed.
    confirmed: Lsn,
}

/// Acquires the slot and plans how to take over the store. Nothing is written to the store.
async fn plan_on_slot<S: Storage>(
    dsn: &Dsn,
    client: &Client,
    storage: &S,
    wanted: WantedRun<'_>,
    is_slot_new: bool,
    freshness: &Freshness,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<PlannedRun, StartError> {
    let WantedRun { config, sync_config, tables, catalog_read_at, restart } = wanted;
    let tables = tables.into_iter().map(FoundTable::from).collect();

    let held = acquire_slot(dsn, client, config, on_progress).await?;
    let former = storage.control().await?;
    restore_freshness(freshness, former.as_ref());
    let mut stored = read_stored_generation(storage, former.as_ref()).await?;
    if let (Some(stored), Some(RestartReason::RowsReplaced(oid))) = (&mut stored, restart) {
        stored.copy.forget_rows(oid);
    }
    let ServerPositions { confirmed, end: server_end } =
        slot::server_positions(client, &config.slot).await?;

    let plan = plan_takeover(TakeoverInput {
        former,
        stored,
        found: SourceIdentity {
            system_id: held.system_id,
            database: dsn.database.clone(),
            timeline: held.timeline,
            slot: config.slot.clone(),
            slot_generation: 1,
        },
        slot: SlotPosition { confirmed, is_new: is_slot_new, server_end },
        tags: NewTags {
            definitions: new_tags(sync_config.definitions().len())?,
            lookups: new_tags(sync_config.lookups().len())?,
        },
        config: sync_config,
        config_text: &config.sync_config,
        tables,
        changed_table: restart.and_then(RestartReason::changed_table),
        has_diverged: restart == Some(RestartReason::HistoryDiverged),
        catalog_read_at,
        owner: new_nonce()?,
        now: unix_seconds(),
        rollback_grace: config.rollback_grace,
    })?;
    Ok(PlannedRun { plan, stream: held.stream, confirmed })
}

/// Adds the tables that other maintained configs read, if the source still has them. The plan maintains
/// only configs whose tables it gets.
pub(crate) async fn add_tables_of_others(
    client: &Client,
    stored: &StoredGeneration,
    config_text: &str,
    names: SourceNames<'_>,
    tables: &mut Vec<InspectedTable>,
) -> Result<(), StartError> {
    for other in stored.others.iter().chain([&stored.generation]) {
        if other.sync_config == config_text {
            continue;
        }
        let Ok(other) = SyncConfig::compile(&other.sync_config) else { continue };
        let inspection = inspect(client, &other, names).await?;
        // A table that was synced and no longer can be does not keep the new config from being deployed.
        let is_lost =
            |one: &InspectedTable| !one.left_out_for.is_empty() && stored.copy.holds(one.table.oid);
        if inspection.findings.iter().any(|finding| finding.is_fatal)
            || inspection.tables.iter().any(is_lost)
        {
            continue;
        }

        for found in inspection.tables {
            if tables.iter().all(|known| known.table.oid != found.table.oid) {
                tables.push(found);
            }
        }
    }
    Ok(())
}

/// Drops the slot that a start has made before it failed: nobody would read it, and it would retain
/// WAL until the server's disk is full.
async fn drop_unused_slot(
    client: &Client,
    slot: &str,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) {
    let dropped = slot::drop_slot(client, slot, on_progress);
    let problem = match tokio::time::timeout(DROP_TIMEOUT, dropped).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => ErrorChain(&error).to_string(),
        Err(_) => format!("it is still held after {} s", DROP_TIMEOUT.as_secs()),
    };
    on_progress(Progress::Advice(format!(
        "replication slot {slot} was made and is not used, and cannot be dropped: {problem}\n    fix: \
         SELECT pg_drop_replication_slot({});",
        quote_literal(slot)
    )));
}

/// Returns whether there is a slot that can be used. Drops one that cannot go on.
async fn find_usable_slot<S: ControlStore>(
    dsn: &Dsn,
    client: &Client,
    storage: &S,
    config: &Config,
    is_stuck: bool,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<bool, StartError> {
    let slot = &config.slot;
    let found = slot::find_slot(client, slot).await?;
    match found {
        Some(Usability::Foreign) => return Err(SlotError::Foreign(slot.clone()).into()),
        Some(Usability::Usable) if !is_stuck => return Ok(true),
        Some(Usability::Usable | Usability::Lost) | None => {}
    }

    // A slot that nobody reads would retain WAL, so none is made in a foreign cluster.
    refuse_foreign_server(dsn, storage, config).await?;
    let reason = match found {
        None => return Ok(false),
        Some(Usability::Lost) => {
            "the server has invalidated it, see max_slot_wal_keep_size and \
             idle_replication_slot_timeout"
        }
        Some(Usability::Usable | Usability::Foreign) => {
            "the publication did not exist at its position"
        }
    };

    // From the moment at which a new slot exists, a run that knows nothing of this one could take it
    // for the former slot. It cannot if the store has no position.
    void_position(storage).await?;
    slot::drop_slot(client, slot, on_progress).await?;
    on_progress(Progress::Advice(format!(
        "replication slot {slot} cannot go on ({reason}): it is made again, and all tables are copied \
         again"
    )));
    Ok(false)
}

/// Fails if the store was filled from another server.
async fn refuse_foreign_server<S: ControlStore>(
    dsn: &Dsn,
    storage: &S,
    config: &Config,
) -> Result<(), StartError> {
    let Some(former) = storage.control().await? else { return Ok(()) };
    let system_id = slot::system_id(dsn, config.source_names(), config.receiver_timeout).await?;
    let found = SourceIdentity { system_id, ..former.source.clone() };
    if found == former.source { Ok(()) } else { Err(foreign(&former.source, &found).into()) }
}

/// Makes the stored position one that no slot continues at. Readers stay where they are.
async fn void_position<S: ControlStore>(storage: &S) -> Result<(), StartError> {
    let Some(former) = storage.control().await? else { return Ok(()) };
    let next = Control {
        revision: former.revision + 1,
        committed: Committed { lsn: Lsn(0), ..former.committed },
        visibility_barrier: Some(BARRIER_UNKNOWN),
        last_transaction: None,
        ..former.clone()
    };
    match storage.swap_control(Some(former.revision), &next).await? {
        SwapOutcome::Swapped => Ok(()),
        SwapOutcome::Conflict(found) => {
            Err(WriteError::of_takeover(Some(&former), found.as_deref()).into())
        }
    }
}

/// Takes over the time as of which readers were last current, by the wall clock.
fn restore_freshness(freshness: &Freshness, former: Option<&Control>) {
    let visible = former.and_then(|control| control.visible.as_ref());
    if let Some(current_at) = visible.and_then(|visible| visible.current_at) {
        freshness.restore(Duration::from_millis(unix_millis().saturating_sub(current_at)));
    }
}

/// Fails if the source or the sync config has a finding that keeps a run from starting, with all of
/// them. Reports the others.
fn accept(
    mut inspection: Inspection,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Inspection, StartError> {
    let (fatal, advice): (Vec<_>, Vec<_>) =
        inspection.findings.drain(..).partition(|finding| finding.is_fatal);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        inspection.diagnostics.drain(..).partition(|found| found.severity == Severity::Error);
    match (fatal.is_empty(), errors.is_empty()) {
        (true, true) => {}
        (false, true) => return Err(PreflightError { findings: fatal }.into()),
        (true, false) => return Err(errors.into()),
        (false, false) => {
            let source = PreflightError { findings: fatal };
            return Err(ConfigurationError::SyncConfigAndSource(errors.into(), source).into());
        }
    }

    for finding in advice {
        on_progress(Progress::Advice(finding.to_string()));
    }
    for Diagnostic { line, column, message, hint, .. } in warnings {
        let hint = hint.map(|hint| format!("\n    {hint}")).unwrap_or_default();
        on_progress(Progress::Advice(format!("sync config {line}:{column}: {message}{hint}")));
    }
    Ok(inspection)
}

/// The settings of a run beside its plan.
#[derive(Debug)]
pub struct TakeoverSettings {
    /// The rule by which unknown tables end the run.
    pub new_tables: NewTables,
    /// Name of the replication slot.
    pub slot: String,
    /// The position up to which it was confirmed when the stream began.
    pub slot_confirmed: Lsn,
    /// Transactions that may not be visible to new snapshots yet.
    pub not_yet_visible_xids: Vec<u32>,
    /// The sizes by which the work is divided.
    pub limits: AssemblerLimits,
}

/// Takes over the store as planned, and removes the rows of tables that are gone. Those removals
/// are part of the run's first commit.
///
/// # Errors
/// [`WriteError::Fenced`] if another run took over at the same moment.
pub async fn take_over<S: Storage>(
    storage: S,
    plan: TakeoverPlan,
    due_every: u64,
    settings: TakeoverSettings,
) -> Result<(Applier<S>, TransactionAssembler), WriteError> {
    let copy = plan.copy_in_progress();
    let to_store = plan.is_new_generation.then_some(&plan.generation);
    let writer =
        LogWriter::take_over(storage, plan.former, plan.next, plan.archived, to_store).await?;
    let writer = writer.with_compaction_threshold(due_every);

    let tables: Arc<[_]> = plan.tables.into();
    let mut applier =
        Applier::new(writer, plan.generation, tables.clone()).maintaining(&plan.others);
    applier.load_unsynced_rows().await?;
    applier.load_bucket_digests().await?;
    remove_gone_tables(&mut applier, &plan.gone).await?;

    let start = AssemblerStart {
        tables,
        new_tables: settings.new_tables,
        slot: settings.slot,
        slot_confirmed: settings.slot_confirmed,
        copy,
        not_yet_visible_xids: settings.not_yet_visible_xids,
        limits: settings.limits,
    };
    let assembler = TransactionAssembler::new(start, applier.writer.control());
    Ok((applier, assembler))
}

/// Removes the rows of tables that the generation had and that no longer exist.
async fn remove_gone_tables<S: Storage>(
    applier: &mut Applier<S>,
    gone: &[GoneTable],
) -> Result<(), WriteError> {
    for table in gone {
        applier.truncate(table.number).await?;
        // The number is never used again, so nobody looks for the records of the table's rows.
        // Readers do look up its answers, and must know that they are void.
        if !table.has_lookups {
            applier.truncated.retain(|truncated| truncated.table != table.number);
        }
    }
    Ok(())
}

fn new_nonce() -> Result<Nonce, StartError> {
    nonce().map_err(StartError::NoRandomNumbers)
}

fn new_tags(count: usize) -> Result<Vec<Tag>, StartError> {
    let mut tags = Vec::with_capacity(count);
    for _ in 0..count {
        let mut bits = [0; 4];
        getrandom::fill(&mut bits).map_err(StartError::NoRandomNumbers)?;
        tags.push(Tag::from_bits(u32::from_le_bytes(bits)));
    }
    Ok(tags)
}
