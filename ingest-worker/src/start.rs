//! The start of a run: looks over the source, takes the slot, takes over the store, and decides
//! whether to go on or to copy everything anew.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use tidewater_protocol::Epoch;
use tidewater_storage::{
    Control, Generation, GenerationId, Lsn, ReadResult, RecordKey, SourceIdentity, Storage, Tag,
};
use tidewater_sync_config::{Diagnostic, EVALUATOR_VERSION, Severity, SyncConfig};
use tokio_postgres::Client;

use crate::apply::applier::Applier;
use crate::config::{Config, Progress};
use crate::error::RunError;
use crate::initial_copy::state::{CopyState, GoneTable};
use crate::initial_copy::table_numbers::{NumberedTables, number, too_many_tables};
use crate::log::writer::{LogWriter, WriteError, nonce};
use crate::replication::session::Session;
use crate::source::catalog::{self, SourceTable};
use crate::source::catalog_watcher::CatalogWatcher;
use crate::source::connect::connect;
use crate::source::connection::{self, SourceConnection};
use crate::source::dsn::Dsn;
use crate::source::preflight::{PreflightError, PreflightReport, preflight, table_findings};
use crate::source::slot::{self, AcquiredSlot};
use crate::source::tables::{CandidateTable, candidate_tables, check_config};

/// Raised when what the worker stores means something else than before.
const STORED_FORMAT: u32 = 3;
/// "Not before I say so": the visibility barrier while a copy is under way.
pub(crate) const BARRIER_UNKNOWN: Lsn = Lsn(u64::MAX);

/// What the source looks like.
struct Plan {
    sync_config: SyncConfig,
    candidates: Vec<CandidateTable>,
    changed: Option<u32>,
    /// Our role.
    user: String,
    /// Read before the catalogue was.
    read_at: Lsn,
}

/// What a former run has left of its generation.
struct Stored {
    generation: Generation,
    copy: CopyState,
}

/// Begins a run. `changed` is the table, if any, for which the former one ended: it is copied anew,
/// whether or not it looks as before by now.
pub(crate) async fn start<S: Storage>(
    config: &Config,
    storage: S,
    changed: Option<u32>,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Session<S>, RunError> {
    let dsn =
        Dsn::parse(&config.database_url).map_err(crate::source::connect::ConnectError::from)?;
    let client = connect(&dsn).await?;
    let plan = Plan { changed, ..plan(config, &client, on_progress).await? };
    let is_slot_new = slot::ensure_slot(&client, &config.slot, on_progress).await?;
    let held = slot::acquire_slot(&dsn, &config.publication, &config.slot, on_progress).await?;
    let former = storage.control().await?;
    let confirmed = slot::confirmed_lsn(&client, &config.slot).await?;
    let found = SourceIdentity {
        system_id: held.system_id.clone(),
        database: dsn.database.clone(),
        timeline: held.timeline,
        slot: config.slot.clone(),
        slot_generation: 1,
    };
    let taken = match former {
        None => first(found, confirmed)?,
        Some(former) => next(former, found, Position { confirmed, is_new: is_slot_new })?,
    };
    if taken.is_reset {
        on_progress(Progress::Advice(format!(
            "replication slot {} does not continue what the store holds: everything is copied anew",
            config.slot
        )));
    }
    let (applier, contents) = take_over(config, storage, &plan, taken, on_progress).await?;
    session(applier, contents, client, held).await
}

/// Compiles the config and holds it against the source.
async fn plan(
    config: &Config,
    client: &Client,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Plan, RunError> {
    let sync_config = SyncConfig::compile(&config.sync_config)?;
    let read_at: String =
        client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
    let read_at = read_at
        .parse()
        .map_err(|_| RunError::Unexpected("the source names no WAL position".to_owned()))?;
    let tables = catalog::read_tables(client, &config.publication).await?;
    let candidates = candidate_tables(sync_config.tables(), &tables, |table| table.is_published);
    let PreflightReport { findings, user } = {
        let named = candidates.iter().filter(|one| one.is_named).map(|one| &one.table);
        preflight(client, named, config.source_names()).await?
    };
    let (fatal, advice): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.is_fatal);
    if !fatal.is_empty() {
        return Err(PreflightError { findings: fatal }.into());
    }
    for finding in advice {
        on_progress(Progress::Advice(finding.to_string()));
    }
    let (errors, warnings): (Vec<_>, Vec<_>) = check_config(&sync_config, &tables)
        .into_iter()
        .partition(|finding| finding.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(errors.into());
    }
    for Diagnostic { line, column, message, hint, .. } in warnings {
        let hint = hint.map(|hint| format!("\n    {hint}")).unwrap_or_default();
        on_progress(Progress::Advice(format!("sync config {line}:{column}: {message}{hint}")));
    }
    Ok(Plan { sync_config, candidates, changed: None, user, read_at })
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
        former.after_takeover(new_nonce()?).map_err(|_| WriteError::NoEpochLeft)?;
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

/// What a run holds besides the log.
struct Contents {
    copy: CopyState,
    gone: Vec<GoneTable>,
    /// The copy's record names all transactions that a snapshot may not contain yet.
    knows_unseen: bool,
    watch: CatalogWatcher,
}

/// Takes over the store, with the stored generation if it still is what the config says, else with a
/// new one.
async fn take_over<S: Storage>(
    config: &Config,
    storage: S,
    plan: &Plan,
    taken: Taken,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(Applier<S>, Contents), RunError> {
    let Taken { former, mut next, archived, .. } = taken;
    let identity = identity(config, &plan.sync_config, next.source.slot_generation);
    let stored = match &former {
        Some(former) => stored(&storage, former).await?,
        None => None,
    };
    let stored = stored.filter(|stored| stored.generation.identity == identity);
    let (tables, left_out) = eligible(plan, config, stored.as_ref(), on_progress)?;
    let kept = match stored {
        Some(Stored { generation, mut copy }) => {
            let knows_unseen = copy.next().is_some();
            copy.forget(plan.changed);
            let numbered = number(&plan.sync_config, &tables, copy)?;
            let numbered = numbered.filter(|numbered| numbered.fits(&next.truncated));
            numbered.map(|numbered| (generation, numbered, knows_unseen))
        }
        None => None,
    };
    let is_kept = kept.is_some();
    let (generation, numbered, knows_unseen) = match kept {
        Some((generation, mut numbered, knows_unseen)) => {
            if numbered.is_changed {
                next.visibility_barrier = Some(BARRIER_UNKNOWN);
                numbered.copy.ignore_until = plan.read_at;
            }
            (generation, numbered, knows_unseen)
        }
        None => {
            next.generation = GenerationId(next.epoch);
            next.truncated.clear();
            next.visibility_barrier = Some(BARRIER_UNKNOWN);
            let sync_config = &plan.sync_config;
            let new = new_generation(next.generation, identity, &config.sync_config, sync_config)?;
            let numbered = number(sync_config, &tables, CopyState::new(plan.read_at))?;
            (new, numbered.ok_or_else(too_many_tables)?, true)
        }
    };
    let NumberedTables { tables, copy, gone, .. } = numbered;
    let to_store = (!is_kept).then_some(&generation);
    let writer = LogWriter::take_over(storage, former, next, archived, to_store).await?;
    let writer = writer.with_compaction_threshold(config.snapshot_threshold);
    let patterns = plan.sync_config.tables().to_vec();
    let watch = CatalogWatcher::new(config, patterns, plan.user.clone());
    let watch = CatalogWatcher { read_at: plan.read_at, left_out, ..watch };
    let contents = Contents { copy, gone, knows_unseen, watch };
    Ok((Applier::new(writer, generation, tables), contents))
}

/// The former run's generation, and how far it was copied, as of what that run committed. A record
/// that cannot be read is none: then everything is copied anew.
async fn stored<S: Storage>(storage: &S, former: &Control) -> Result<Option<Stored>, RunError> {
    let Some(generation) = storage.generation(former.generation).await? else { return Ok(None) };
    let records = storage.records(&[RecordKey::Copy(generation.id)]).await?;
    let Some(record) = records.into_iter().next().flatten() else { return Ok(None) };
    let committed_ops = former.committed_ops(&storage.archived_epochs().await?);
    let ReadResult::Found(_, record) = record.read_at(former.committed.op, &committed_ops) else {
        return Ok(None);
    };
    Ok(serde_json::from_slice(record).ok().map(|copy| Stored { generation, copy }))
}

/// The tables to sync. One that a pattern has found and that cannot be synced is left out, and told
/// of; but not if it has been synced before: its rows would be gone from devices.
fn eligible(
    plan: &Plan,
    config: &Config,
    stored: Option<&Stored>,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(Vec<SourceTable>, HashSet<u32>), RunError> {
    let mut tables = Vec::new();
    let mut left_out = HashSet::new();
    for CandidateTable { table, is_named } in &plan.candidates {
        let findings = match is_named {
            true => Vec::new(),
            false => table_findings(table, &plan.user, config.source_names()),
        };
        if findings.is_empty() {
            tables.push(table.clone());
        } else if stored.is_some_and(|stored| stored.copy.holds(table.oid)) {
            return Err(PreflightError { findings }.into());
        } else {
            left_out.insert(table.oid);
            for finding in findings {
                on_progress(Progress::Advice(format!("left out: {finding}")));
            }
        }
    }
    Ok((tables, left_out))
}

fn new_generation(
    id: GenerationId,
    identity: String,
    text: &str,
    sync_config: &SyncConfig,
) -> Result<Generation, RunError> {
    let tags = |count: usize| (0..count).map(|_| new_tag()).collect::<Result<Vec<_>, _>>();
    Ok(Generation {
        id,
        identity,
        sync_config: text.to_owned(),
        definitions: tags(sync_config.definitions().len())?,
        lookups: tags(sync_config.lookups().len())?,
        retired_at: None,
    })
}

fn new_tag() -> Result<Tag, RunError> {
    let mut bits = [0; 4];
    getrandom::fill(&mut bits)
        .map_err(|error| RunError::Unexpected(format!("no random numbers: {error}")))?;
    Ok(Tag::from_bits(u32::from_le_bytes(bits)))
}

/// Hash of everything that makes stored data of one generation useless for another. Tables are not
/// in it: those that are others than before are removed and copied one by one.
///
/// The config's text is part of it: the hashes of definitions and lookups say nothing of who may
/// read, and readers go by the text that is stored with the generation.
fn identity(config: &Config, sync_config: &SyncConfig, slot_generation: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{STORED_FORMAT}|{EVALUATOR_VERSION}|{slot_generation}|"));
    hash.update(Sha256::digest(&config.sync_config));
    for definition in sync_config.definitions() {
        hash.update(format!("{}|{}|", definition.name, definition.hash));
    }
    for lookup in sync_config.lookups() {
        hash.update(format!("{}|", lookup.hash));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts the run together, with the copy where the former run left it.
async fn session<S: Storage>(
    applier: Applier<S>,
    contents: Contents,
    client: Client,
    held: AcquiredSlot,
) -> Result<Session<S>, RunError> {
    let Contents { copy, gone, knows_unseen, watch } = contents;
    let is_copying = applier.writer.control().visibility_barrier.is_some();
    let copy = is_copying.then_some(copy);
    // While chunks are read, the record tells which transactions were applied but may not be
    // visible yet. Afterwards it is not kept, so any that is under way may be one of them.
    let mut unseen = copy.as_ref().map(|copy| copy.unseen.clone()).unwrap_or_default();
    if !(is_copying && knows_unseen) {
        unseen.extend(connection::in_progress_xids(&client).await?);
    }
    let source = SourceConnection::new(client, unseen);
    let mut session = Session::new(applier, source, held.stream, copy, watch);
    session.remove_gone(&gone).await?;
    Ok(session)
}
