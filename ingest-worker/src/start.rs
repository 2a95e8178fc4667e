//! The start of a run: looks over the source, takes the slot, takes over the store, and decides
//! whether to go on or to copy everything anew.

use sha2::{Digest, Sha256};
use tidewater_protocol::Epoch;
use tidewater_storage::{
    CellKey, Control, Generation, GenerationId, Lsn, SourceIdentity, Storage, Tag,
};
use tidewater_sync_config::{Diagnostic, EVALUATOR_VERSION, Severity, SyncConfig, TableSchema};
use tokio_postgres::Client;

use crate::apply::{Applier, SyncedTable};
use crate::catalog::{self, Table};
use crate::config::{Config, Progress};
use crate::connect::connect;
use crate::copy::CopyState;
use crate::dsn::Dsn;
use crate::error::{RunError, SyncConfigErrors};
use crate::log_writer::{LogWriter, WriteError, nonce};
use crate::preflight::{Names, NotReady, preflight};
use crate::session::Session;
use crate::slot::{self, Held};
use crate::source::{self, Source};

/// Raised when what the worker stores means something else than before.
const STORED_FORMAT: u32 = 2;
/// "Not before I say so": the gate while a copy is under way.
pub(crate) const GATE_CLOSED: Lsn = Lsn(u64::MAX);

/// What the source must look like for a store to be gone on with.
struct Plan {
    sync_config: SyncConfig,
    tables: Vec<SyncedTable>,
    /// Read before the catalogue was.
    ignore_until: Lsn,
}

/// Begins a run.
pub(crate) async fn start<S: Storage>(
    config: &Config,
    storage: S,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Session<S>, RunError> {
    let dsn = Dsn::parse(&config.database_url).map_err(crate::connect::ConnectError::from)?;
    let client = connect(&dsn).await?;
    let plan = plan(config, &client, on_progress).await?;
    let slot = slot::ensure(&client, &config.slot, on_progress).await?;
    let held = slot::hold(&dsn, &config.publication, &config.slot, on_progress).await?;
    let former = storage.control().await?;
    let confirmed = slot::confirmed(&client, &config.slot).await?;
    let found = SourceIdentity {
        system_id: held.system_id.clone(),
        database: dsn.database.clone(),
        timeline: held.timeline,
        slot: config.slot.clone(),
        slot_generation: 1,
    };
    let taken = match former {
        None => first(found, confirmed)?,
        Some(former) => next(former, found, Position { confirmed, is_new: slot.is_new })?,
    };
    if taken.is_reset {
        on_progress(Progress::Advice(format!(
            "replication slot {} does not continue what the store holds: everything is copied anew",
            config.slot
        )));
    }
    let applier = take_over(config, storage, &plan.sync_config, plan.tables, taken).await?;
    session(applier, client, held, config, plan.ignore_until).await
}

/// Compiles the config and holds it against the source.
async fn plan(
    config: &Config,
    client: &Client,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Plan, RunError> {
    let sync_config = SyncConfig::compile(&config.sync_config).map_err(sync_config_errors)?;
    let ignore_until: String =
        client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
    let ignore_until = ignore_until
        .parse()
        .map_err(|_| RunError::Unexpected("the source names no WAL position".to_owned()))?;
    let tables = catalog::tables(client, &config.publication).await?;
    let names = Names { publication: &config.publication, slot: &config.slot };
    let (fatal, advice): (Vec<_>, Vec<_>) = preflight(client, &sync_config, &tables, names)
        .await?
        .into_iter()
        .partition(|finding| finding.is_fatal);
    if !fatal.is_empty() {
        return Err(NotReady(fatal).into());
    }
    for finding in advice {
        on_progress(Progress::Advice(finding.to_string()));
    }
    let schemas: Vec<TableSchema> = tables.iter().map(|table| table.schema.clone()).collect();
    let errors: Vec<_> = sync_config
        .check(&schemas)
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect();
    if !errors.is_empty() {
        return Err(sync_config_errors(errors));
    }
    let tables = bind(&sync_config, tables)?;
    Ok(Plan { sync_config, tables, ignore_until })
}

fn sync_config_errors(findings: Vec<Diagnostic>) -> RunError {
    RunError::SyncConfig(SyncConfigErrors(findings))
}

/// The tables that the config reads, in its order.
fn bind(config: &SyncConfig, tables: Vec<Table>) -> Result<Vec<SyncedTable>, RunError> {
    let mut bound = Vec::new();
    for (index, name) in config.tables().iter().enumerate() {
        let missing = || RunError::Unexpected(format!("table {name:?} passed the check unseen"));
        let table = tables.iter().find(|table| table.is(name)).ok_or_else(missing)?;
        let evaluator = config.bind(&table.schema).map_err(sync_config_errors)?;
        let number = u16::try_from(index)
            .map_err(|_| RunError::Unexpected("the sync config reads too many tables".into()))?;
        let evaluator = evaluator.ok_or_else(missing)?;
        bound.push(SyncedTable { number, table: table.clone(), evaluator });
    }
    Ok(bound)
}

/// Where the slot stands.
#[derive(Clone, Copy)]
struct Position {
    confirmed: Lsn,
    is_new: bool,
}

/// What the control record becomes when this run takes over, but for the generation.
struct Taken {
    former: Option<Control>,
    next: Control,
    archived: Vec<tidewater_storage::ClosedEpoch>,
    /// The former position says nothing about this slot.
    is_reset: bool,
}

fn first(source: SourceIdentity, confirmed: Lsn) -> Result<Taken, RunError> {
    let epoch = Epoch::ZERO.next().map_err(|_| WriteError::NoEpochLeft)?;
    let next = Control::first(epoch, new_nonce()?, source, confirmed);
    Ok(Taken { former: None, next, archived: Vec::new(), is_reset: false })
}

fn next(former: Control, found: SourceIdentity, slot: Position) -> Result<Taken, RunError> {
    let stored = former.source.clone();
    if (&stored.system_id, &stored.database) != (&found.system_id, &found.database) {
        let name =
            |s: &SourceIdentity| format!("database '{}' of cluster {}", s.database, s.system_id);
        return Err(RunError::ForeignSource { stored: name(&stored), found: name(&found) });
    }
    // Somebody else moved the slot, or it is another slot, or history forked: what lies between is
    // not to be had any more. The new position replaces ours; it is never the greater of both.
    let is_reset = slot.is_new
        || stored.slot != found.slot
        || stored.timeline != found.timeline
        || slot.confirmed > former.committed.lsn;
    let (mut next, archived) =
        former.taken_over(new_nonce()?).map_err(|_| WriteError::NoEpochLeft)?;
    let slot_generation = stored.slot_generation + u32::from(is_reset);
    next.source = SourceIdentity { slot_generation, ..found };
    if is_reset {
        next.committed.lsn = slot.confirmed;
    }
    Ok(Taken { former: Some(former), next, archived, is_reset })
}

fn new_nonce() -> Result<tidewater_storage::Nonce, RunError> {
    nonce().map_err(|error| RunError::Unexpected(format!("no random numbers: {error}")))
}

/// Takes over the store, with the stored generation if it still is what the config and the source
/// say, else with a new one.
async fn take_over<S: Storage>(
    config: &Config,
    storage: S,
    sync_config: &SyncConfig,
    tables: Vec<SyncedTable>,
    taken: Taken,
) -> Result<Applier<S>, RunError> {
    let Taken { former, mut next, archived, .. } = taken;
    let identity = identity(config, sync_config, &tables, next.source.slot_generation);
    let stored = match &former {
        Some(former) => storage.generation(former.generation).await?,
        None => None,
    };
    let kept = stored.filter(|stored| stored.identity == identity);
    let is_kept = kept.is_some();
    let generation = match kept {
        Some(kept) => kept,
        None => {
            next.generation = GenerationId(next.epoch);
            next.truncated.clear();
            next.gate = Some(GATE_CLOSED);
            new_generation(next.generation, identity, &config.sync_config, sync_config)?
        }
    };
    let to_store = (!is_kept).then_some(&generation);
    let writer = LogWriter::take_over(storage, former, next, archived, to_store).await?;
    let writer = writer.with_due_every(config.snapshot_threshold);
    Ok(Applier::new(writer, generation, tables))
}

fn new_generation(
    id: GenerationId,
    identity: String,
    text: &str,
    sync_config: &SyncConfig,
) -> Result<Generation, RunError> {
    let tags = |count: usize| (0..count).map(|_| new_tag()).collect::<Result<Vec<_>, _>>();
    let table = |lookup: &tidewater_sync_config::Lookup| u16::try_from(lookup.table);
    Ok(Generation {
        id,
        identity,
        sync_config: text.to_owned(),
        definitions: tags(sync_config.definitions().len())?,
        lookups: tags(sync_config.lookups().len())?,
        retired_at: None,
        lookup_tables: sync_config.lookups().iter().map(table).collect::<Result<_, _>>().map_err(
            |_| RunError::Unexpected("the sync config reads too many tables".to_owned()),
        )?,
    })
}

fn new_tag() -> Result<Tag, RunError> {
    let mut bits = [0; 4];
    getrandom::fill(&mut bits)
        .map_err(|error| RunError::Unexpected(format!("no random numbers: {error}")))?;
    Ok(Tag::from_bits(u32::from_le_bytes(bits)))
}

/// Hash of everything that makes stored data of one generation useless for another.
///
/// The config's text is part of it: the hashes of definitions and lookups say nothing of who may
/// read, and readers go by the text that is stored with the generation.
fn identity(
    config: &Config,
    sync_config: &SyncConfig,
    tables: &[SyncedTable],
    slot_generation: u32,
) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{STORED_FORMAT}|{EVALUATOR_VERSION}|{slot_generation}|"));
    hash.update(Sha256::digest(&config.sync_config));
    for definition in sync_config.definitions() {
        hash.update(format!("{}|{}|", definition.name, definition.hash));
    }
    for lookup in sync_config.lookups() {
        hash.update(format!("{}|", lookup.hash));
    }
    for table in tables {
        hash.update(format!("{}|{}|", table.table.display_name(), table.table.fingerprint()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts the run together, with the copy where the former run left it.
async fn session<S: Storage>(
    mut applier: Applier<S>,
    client: Client,
    held: Held,
    config: &Config,
    ignore_until: Lsn,
) -> Result<Session<S>, RunError> {
    let key = CellKey::Copy(applier.generation.id);
    let cells = applier.writer.load([key]).await?;
    let is_copying = applier.writer.control().gate.is_some();
    let stored = cells.first().and_then(|&cell| applier.writer.get(cell));
    let stored = stored.map(|(_, value)| value.clone());
    let copy = match stored {
        _ if !is_copying => None,
        Some(value) => Some(serde_json::from_slice::<CopyState>(&value).map_err(|_| {
            RunError::Unexpected("the stored record of the copy is damaged".to_owned())
        })?),
        None => Some(CopyState::new(ignore_until, applier.tables.len())),
    };
    // While chunks are read, the record tells which transactions were applied but may not be
    // visible yet. Afterwards it is not kept, so any that is under way may be one of them: then
    // only single rows are read, and such a read waits for all.
    let mut unseen = copy.as_ref().map(|copy| copy.unseen.clone()).unwrap_or_default();
    if copy.as_ref().is_none_or(|copy| copy.next().is_none()) {
        unseen.extend(source::in_progress(&client).await?);
    }
    let source = Source::new(client, unseen);
    Ok(Session::new(applier, source, held.stream, copy, config))
}
