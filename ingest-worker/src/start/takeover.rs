//! Plans how a run takes over: whether it continues what is stored, or copies again.
//!
//! [`plan_takeover`] is a pure function of what was found in the store and in the source. The
//! caller reads all of that before, and writes the planned records after.

use std::collections::HashSet;
use std::time::Duration;

use tidewater_protocol::{Epoch, EpochError};
use tidewater_storage::{
    ClosedEpoch, Control, Generation, GenerationId, Lsn, Nonce, SourceIdentity,
};
use tidewater_sync_config::{SyncConfig, TablePattern};

use crate::apply::applier::SyncedTable;
use crate::initial_copy::state::{CopyState, GoneTable};
use crate::initial_copy::table_numbers::{
    MaintainedConfigs, NumberedTables, NumberingError, number,
};
use crate::replication::events::BARRIER_UNKNOWN;
use crate::source::catalog::SourceTable;
use crate::source::inspection::InspectedTable;
use crate::source::preflight::Finding;
use crate::start::deployment::{Deployment, DeploymentInput};
use crate::start::generation::{self, ConfigSource, KnownGeneration, NewTags};
use crate::start::stored::StoredGeneration;

/// Everything that a run finds when it begins.
#[derive(Debug)]
pub struct TakeoverInput<'a> {
    /// The control record; `None` in an empty store.
    pub former: Option<Control>,
    /// The generation that it names, if that can be read.
    pub stored: Option<StoredGeneration>,
    /// The source. Its `slot_generation` is ignored: the plan counts it.
    pub found: SourceIdentity,
    /// The replication slot.
    pub slot: SlotPosition,
    /// The compiled sync config, and its text.
    pub config: &'a SyncConfig,
    /// The text of the sync config.
    pub config_text: &'a str,
    /// The tables that it reads, and those that other maintained configs read.
    pub tables: Vec<FoundTable>,
    /// The table for which the former run ended. It is copied again even if it looks as before:
    /// the log may have changes of another shape in between.
    pub changed_table: Option<u32>,
    /// True if the former run ended because the server sent another history than before.
    pub has_diverged: bool,
    /// A position of the source before its catalog was read.
    pub catalog_read_at: Lsn,
    /// The new run's name for itself.
    pub owner: Nonce,
    /// Tags for a new generation, if one is needed.
    pub tags: NewTags,
    /// The time, in seconds since 1970.
    pub now: u64,
    /// Duration for which a config that readers no longer have is maintained.
    pub rollback_grace: Duration,
}

/// The position of the replication slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotPosition {
    /// Everything before it was confirmed: the server does not send it again.
    pub confirmed: Lsn,
    /// True if this run has created the slot.
    pub is_new: bool,
    /// The end of the server's WAL. A server that continues never has less than what it has sent.
    pub server_end: Lsn,
}

/// A table of the source that the sync config reads.
#[derive(Clone, Debug)]
pub struct FoundTable {
    /// The table.
    pub table: SourceTable,
    /// Reasons why it cannot be synced. Only tables that were found by a pattern may have some.
    pub findings: Vec<Finding>,
}

impl From<InspectedTable> for FoundTable {
    fn from(inspected: InspectedTable) -> Self {
        Self { table: inspected.table, findings: inspected.left_out_for }
    }
}

/// The relation of the new run to what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeoverKind {
    /// The store is empty.
    Fresh,
    /// Everything is as the former run left it.
    Continue,
    /// The generation continues. Some of its tables are gone, and some are copied.
    TablesChanged,
    /// The slot does not continue at the stored position: all tables are copied again, by difference
    /// where the generation can be continued.
    SlotReset,
    /// The sync config is another: what is new of it is copied. If the stored format is another, all
    /// tables are copied again.
    ConfigChanged,
    /// The generation cannot be continued, since its record cannot be read or too many tables
    /// have come and gone: all tables are copied again.
    GenerationLost,
}

/// The way in which a run takes over.
#[derive(Debug)]
pub struct TakeoverPlan {
    /// The relation to what is stored.
    pub kind: TakeoverKind,
    /// The control record that is to be replaced.
    pub former: Option<Control>,
    /// The control record that replaces it.
    pub next: Control,
    /// Epochs that must be archived before.
    pub archived: Vec<ClosedEpoch>,
    /// The generation that readers are to have.
    pub generation: Generation,
    /// The other generations that the run maintains.
    pub others: Vec<Generation>,
    /// The patterns of the tables that all of them read.
    pub patterns: Vec<TablePattern>,
    /// True if the generation is new, so that it must be stored.
    pub is_new_generation: bool,
    /// The tables of the run.
    pub tables: Vec<SyncedTable>,
    /// The progress of the initial copy. It also lists the tables by their numbers.
    pub copy: CopyState,
    /// Tables whose rows must be removed.
    pub gone: Vec<GoneTable>,
    /// Tables that a pattern found and that cannot be synced.
    pub left_out: HashSet<u32>,
    /// Messages for the owner of the worker.
    pub advice: Vec<String>,
    /// True if the copy's record lists all transactions that new snapshots may not see yet.
    lists_not_yet_visible: bool,
}

/// A reason why a run cannot take over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The store was filled from another database.
    #[error("the store belongs to another database: {stored}, not {found}")]
    Foreign {
        /// The database that the store was filled from.
        stored: String,
        /// The database that the connection string leads to.
        found: String,
    },
    /// Tables that were synced before cannot be synced any more.
    #[error("synced tables cannot be read")]
    NotReady(Vec<Finding>),
    /// The tables cannot be numbered.
    #[error(transparent)]
    Numbering(#[from] NumberingError),
    /// All epochs are used up.
    #[error("no epoch is left: start a new deployment")]
    NoEpochLeft(#[from] EpochError),
}

impl TakeoverPlan {
    /// Returns whether something is not visible before the stream has passed a barrier: a copy is not
    /// finished, or rows are ahead of the stream.
    #[must_use]
    pub fn has_barrier(&self) -> bool {
        self.next.visibility_barrier.is_some() || self.next.switch_barrier.is_some()
    }

    /// Returns the progress of the copy as the assembler needs it: none once it is visible.
    #[must_use]
    pub fn copy_in_progress(&self) -> Option<CopyState> {
        self.has_barrier().then(|| self.copy.clone())
    }

    /// Returns the transactions that are stored as applied but perhaps not visible yet.
    #[must_use]
    pub fn not_yet_visible_xids(&self) -> Vec<u32> {
        self.copy_in_progress().map(|copy| copy.not_yet_visible_xids).unwrap_or_default()
    }

    /// Returns whether any transaction in progress may be one that was applied already. While
    /// chunks are read, the copy's record lists those; later they are not recorded.
    #[must_use]
    pub fn must_list_transactions_in_progress(&self) -> bool {
        !(self.has_barrier() && self.lists_not_yet_visible)
    }
}

/// Plans how a run takes over.
///
/// # Errors
/// When the store and the source do not fit together, or a table cannot be synced any more.
pub fn plan_takeover(input: TakeoverInput<'_>) -> Result<TakeoverPlan, TakeoverError> {
    let mut advice = Vec::new();
    let slot_name = input.found.slot.clone();
    let reset = reset_reason(&input);
    let discontinuity = Discontinuity::find(&input, reset.is_some());
    let Succession { mut next, archived } =
        succeed(input.former.as_ref(), input.found, input.slot, reset.is_some(), input.owner)?;
    advice.extend(reset.as_ref().map(|reason| advice_of_reset(&slot_name, reason)));

    let id = GenerationId(next.epoch);
    let source = ConfigSource { config: input.config, text: input.config_text };
    let former_generation = input.stored.as_ref().map(|stored| stored.generation.id);
    let eligible = eligible_tables(input.tables, input.stored.as_ref(), &mut advice)?;
    let deployment = input.stored.as_ref().and_then(|stored| {
        Deployment::plan(DeploymentInput {
            stored,
            former: input.former.as_ref(),
            id,
            source,
            tags: &input.tags,
            tables: &eligible.tables,
            now: input.now,
            rollback_grace: input.rollback_grace,
        })
    });
    let is_config_known = input.stored.is_none() || deployment.is_some();

    let catalog_read_at = input.catalog_read_at;
    let continued = match input.stored.zip(deployment) {
        Some((stored, deployment)) => {
            let continuation = Continuation { discontinuity, catalog_read_at, former: &next };
            continue_generation(stored.copy, deployment, &eligible.tables, &continuation)?
        }
        None => None,
    };
    // After a reset all of them are copied, which the advice above says.
    if let Some(continued) = continued.as_ref().filter(|_| reset.is_none()) {
        advise_of_copies(&mut advice, &continued.numbered);
    }
    let kind = match &continued {
        _ if input.former.is_none() => TakeoverKind::Fresh,
        _ if reset.is_some() => TakeoverKind::SlotReset,
        Some(continued) => continued.kind(former_generation),
        None if is_config_known => TakeoverKind::GenerationLost,
        None => TakeoverKind::ConfigChanged,
    };

    let is_continued = continued.is_some();
    let Continued { deployment, numbered, lists_not_yet_visible } = match continued {
        Some(continued) => continued,
        None => {
            // Truncations name tables by their numbers in the former generation.
            next.truncated.clear();
            let generation = generation::first(id, source, input.tags);
            Continued::begin(
                input.config,
                generation,
                &eligible.tables,
                catalog_read_at,
                input.slot,
            )?
        }
    };
    let is_new_generation = deployment.generation.id == id;
    next.continued_generation = former_generation.filter(|_| is_new_generation && is_continued);
    next.generation = deployment.generation.id;
    next.maintained.clone_from(&deployment.maintained);
    set_barriers(&mut next, &deployment, &numbered, is_continued);

    Ok(TakeoverPlan {
        kind,
        former: input.former,
        next,
        archived,
        patterns: deployment.patterns(),
        others: deployment.others(),
        generation: deployment.generation,
        is_new_generation,
        tables: numbered.tables,
        copy: numbered.copy,
        gone: numbered.gone,
        left_out: eligible.left_out,
        advice,
        lists_not_yet_visible,
    })
}

fn advice_of_reset(slot: &str, reason: &str) -> String {
    format!(
        "replication slot {slot} does not continue at the position in the store: {reason}; all tables are \
         copied again"
    )
}

/// Adds which tables are copied, and why.
fn advise_of_copies(advice: &mut Vec<String>, numbered: &NumberedTables) {
    for reason in &numbered.changed {
        advice.push(format!("copying again table {reason}"));
    }
    for table in &numbered.extended {
        advice.push(format!(
            "copying table {table} for the new sync config; clients are served by the former one until \
             that is done"
        ));
    }
}

/// Sets the positions that the stream must pass before readers see what is copied.
fn set_barriers(
    next: &mut Control,
    deployment: &Deployment,
    numbered: &NumberedTables,
    is_continued: bool,
) {
    let is_copying = numbered.copy.next().is_some() || numbered.is_changed;
    if deployment.has_served_readers_only() {
        next.switch_barrier = None;
    } else if is_copying {
        next.switch_barrier = Some(BARRIER_UNKNOWN);
    }

    if !is_continued || numbered.is_held {
        // Readers stay at the former checkpoint until all tables are copied. A copy for others only is
        // planned by the next run as by this one.
        next.visibility_barrier = Some(BARRIER_UNKNOWN);
        next.copy_planned_in = Some(next.epoch);
    }
}

/// Returns why the stored position says nothing about what the slot sends next, if it does not: the
/// changes in between cannot be had any more.
fn reset_reason(input: &TakeoverInput<'_>) -> Option<String> {
    let TakeoverInput { former, found, slot, has_diverged, .. } = input;
    let former = former.as_ref()?;
    let committed = former.committed.lsn;

    if slot.is_new {
        return Some("it is new".to_owned());
    }
    if former.source.slot != found.slot {
        return Some(format!("the former one was {}", former.source.slot));
    }
    if former.source.timeline != found.timeline {
        return Some(format!(
            "the server was promoted or restored, its timeline was {} and is {}",
            former.source.timeline, found.timeline
        ));
    }
    if slot.server_end < committed {
        return Some(format!(
            "the server's WAL ends at {} before {committed}, so an earlier state of it was restored",
            slot.server_end
        ));
    }
    if *has_diverged {
        return Some(format!(
            "the server sent other transactions below {committed} than before, so an earlier state \
             of it was restored"
        ));
    }
    (slot.confirmed > committed)
        .then(|| format!("somebody else has moved it from {committed} to {}", slot.confirmed))
}

/// The control record that succeeds the former one, but for the generation.
struct Succession {
    next: Control,
    archived: Vec<ClosedEpoch>,
}

fn succeed(
    former: Option<&Control>,
    found: SourceIdentity,
    slot: SlotPosition,
    is_reset: bool,
    owner: Nonce,
) -> Result<Succession, TakeoverError> {
    let Some(former) = former else {
        let source = SourceIdentity { slot_generation: 1, ..found };
        let next = Control::first(Epoch::ZERO.next()?, owner, source, slot.confirmed);
        return Ok(Succession { next, archived: Vec::new() });
    };

    let stored = &former.source;
    if stored.system_id != found.system_id || stored.database != found.database {
        return Err(foreign(stored, &found));
    }

    let (mut next, archived) = former.after_takeover(owner)?;
    let slot_generation = stored.slot_generation + u32::from(is_reset);
    next.source = SourceIdentity { slot_generation, ..found };
    if is_reset {
        // The new position replaces the stored one, even if it is lower: positions of another
        // timeline or slot cannot be compared.
        next.committed.lsn = slot.confirmed;
        next.last_transaction = None;
    }
    Ok(Succession { next, archived })
}

/// Returns the error of a store that was filled from another source.
pub(crate) fn foreign(stored: &SourceIdentity, found: &SourceIdentity) -> TakeoverError {
    TakeoverError::Foreign { stored: describe(stored), found: describe(found) }
}

fn describe(source: &SourceIdentity) -> String {
    format!("database '{}' of cluster {}", source.database, source.system_id)
}

/// The tables that can be synced.
struct EligibleTables {
    tables: Vec<SourceTable>,
    left_out: HashSet<u32>,
}

/// Leaves out tables that a pattern found and that cannot be synced. A table that was synced
/// before is never left out: its rows would disappear from devices.
fn eligible_tables(
    found: Vec<FoundTable>,
    stored: Option<&StoredGeneration>,
    advice: &mut Vec<String>,
) -> Result<EligibleTables, TakeoverError> {
    let is_continuable =
        |stored: &&StoredGeneration| KnownGeneration::compile(&stored.generation).is_some();
    let stored = stored.filter(is_continuable);

    let mut tables = Vec::new();
    let mut left_out = HashSet::new();
    for FoundTable { table, findings } in found {
        if findings.is_empty() {
            tables.push(table);
        } else if stored.is_some_and(|stored| stored.copy.holds(table.oid)) {
            return Err(TakeoverError::NotReady(findings));
        } else {
            left_out.insert(table.oid);
            advice.extend(findings.iter().map(|finding| format!("left out: {finding}")));
        }
    }
    Ok(EligibleTables { tables, left_out })
}

/// A generation with the tables as they are now.
struct Continued {
    deployment: Deployment,
    numbered: NumberedTables,
    lists_not_yet_visible: bool,
}

impl Continued {
    /// Begins source rows with these tables. Without a generation the config has too many definitions.
    fn begin(
        config: &SyncConfig,
        generation: Option<Generation>,
        tables: &[SourceTable],
        copied_after: Lsn,
        slot: SlotPosition,
    ) -> Result<Self, NumberingError> {
        let generation = generation.ok_or(NumberingError::TooManyDefinitions)?;
        let deployment = Deployment::alone(config, generation);
        let tables = deployment.tables_read(tables);
        let maintained = MaintainedConfigs {
            configs: &deployment.configs,
            are_readers_waiting: true,
            is_ahead: false,
        };
        let numbered = number(maintained, &tables, CopyState::default(), copied_after)?;
        let numbered = numbered.ok_or(NumberingError::TooManyTables)?;

        // The server creates a slot only after all earlier transactions have ended. With an older slot, a
        // former run may have taken a transaction that new snapshots do not see yet: neither the
        // stream nor a chunk would bring its changes.
        Ok(Self { deployment, numbered, lists_not_yet_visible: slot.is_new })
    }

    /// Returns the relation to what is stored, if the slot continues.
    fn kind(&self, former_generation: Option<GenerationId>) -> TakeoverKind {
        if Some(self.deployment.generation.id) != former_generation {
            TakeoverKind::ConfigChanged
        } else if self.numbered.is_changed {
            TakeoverKind::TablesChanged
        } else {
            TakeoverKind::Continue
        }
    }
}

/// The tables that are copied again even if they look as before.
#[derive(Clone, Copy, Debug)]
enum Discontinuity {
    /// All of them: the stream does not continue at the stored position.
    All {
        /// True if the server has created the slot after all earlier transactions had ended.
        lists_not_yet_visible: bool,
    },
    /// The one for which the former run ended, if it did for one.
    Table(Option<u32>),
}

impl Discontinuity {
    fn find(input: &TakeoverInput<'_>, is_reset: bool) -> Self {
        let lacks_plan = input.stored.as_ref().is_some_and(|stored| stored.lacks_plan);
        if is_reset {
            return Self::All { lists_not_yet_visible: input.slot.is_new };
        }
        if lacks_plan {
            // What was to be copied is not known any more.
            return Self::All { lists_not_yet_visible: false };
        }
        Self::Table(input.changed_table)
    }
}

/// The way in which stored rows are continued.
struct Continuation<'a> {
    discontinuity: Discontinuity,
    catalog_read_at: Lsn,
    /// The control record, but for the generation.
    former: &'a Control,
}

/// Continues stored rows with these tables, if there is room for them.
fn continue_generation(
    mut copy: CopyState,
    deployment: Deployment,
    tables: &[SourceTable],
    continuation: &Continuation<'_>,
) -> Result<Option<Continued>, TakeoverError> {
    let Continuation { discontinuity, catalog_read_at, former } = continuation;
    let is_copying = copy.next().is_some();
    match discontinuity {
        Discontinuity::Table(changed) => copy.forget(*changed),
        Discontinuity::All { .. } => {
            // Ids of transactions of another history say nothing.
            copy.not_yet_visible_xids.clear();
            copy.forget_all();
        }
    }
    let maintained = MaintainedConfigs {
        configs: &deployment.configs,
        // Behind a copy that readers wait for, they wait for all of them.
        are_readers_waiting: !deployment.is_serving()
            || former.visibility_barrier == Some(BARRIER_UNKNOWN),
        is_ahead: former.visibility_barrier.is_some() || former.switch_barrier.is_some(),
    };
    let tables = deployment.tables_read(tables);
    let numbered = number(maintained, &tables, copy, *catalog_read_at)?;
    let numbered = numbered.filter(|numbered| numbered.fits(&former.truncated));
    Ok(numbered.map(|numbered| Continued {
        deployment,
        // Of a table whose copy begins, changes up to the read of the catalog are left to the copy.
        // It must see them, also those of transactions that no run has received yet.
        lists_not_yet_visible: match discontinuity {
            Discontinuity::All { lists_not_yet_visible } => *lists_not_yet_visible,
            Discontinuity::Table(_) => is_copying && !numbered.is_changed,
        },
        numbered,
    }))
}

#[cfg(test)]
mod tests;
