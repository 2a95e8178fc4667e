//! The real worker core, fed from the model of the source in place of PostgreSQL.

use std::sync::Arc;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidewater_ingest_worker::{
    Applier, CommitOptions, LogWriter, RowRef, SourceTable, SyncedTable,
};
use tidewater_storage::conformance::first_control;
use tidewater_storage::{
    Control, ControlStore, Embedded, Faulty, Generation, GenerationId, Lsn, Nonce, RecordKey, Tag,
    Ticket, WriteCheckpointStore,
};
use tidewater_sync_config::{Column, PgTypes, SyncConfig, TableSchema};

use crate::Shared;
use crate::source::{CONFIGS, Change, MEMBERS, NOTES, Row, TABLES, TODOS, Transaction};

type Store = Faulty<Embedded>;

/// PostgreSQL's `text`.
const TEXT_OID: u32 = 25;
const BARRIER_UNKNOWN: Lsn = Lsn(u64::MAX);
/// The copy's chunks: a table, and which of its rows.
type Chunk = (usize, fn(&Row) -> bool);
const CHUNKS: [Chunk; 4] = [
    (TODOS, |row| *row[0] < *"t4"),
    (TODOS, |row| *row[0] >= *"t4"),
    (MEMBERS, |_| true),
    (NOTES, |_| true),
];

/// Works until it is killed or finds that it is not the one any more.
pub(crate) async fn run(store: Store, world: Shared, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let applier = take_over(&store, &mut rng).await?;
    let mut worker = Worker::new(applier, world, rng).await?;
    loop {
        worker.step(&store).await?;
    }
}

async fn take_over(store: &Store, rng: &mut StdRng) -> Result<Applier<Store>> {
    let former = store.control().await?;
    let nonce = Nonce(format!("{:x}", rng.random::<u128>()));
    let (mut next, archived) = match &former {
        Some(former) => former.after_takeover(nonce)?,
        None => (Control { owner: nonce, ..first_control() }, Vec::new()),
    };
    let stored = match &former {
        Some(former) => store.generation(former.generation).await?,
        None => None,
    };
    let kept = stored.filter(|_| rng.random_range(0..6) > 0);
    let new = kept.is_none().then(|| new_generation(GenerationId(next.epoch), rng));
    if new.is_some() {
        next.generation = GenerationId(next.epoch);
        next.truncated.clear();
        next.visibility_barrier = Some(BARRIER_UNKNOWN);
    }
    let generation = kept.or(new.clone()).context("one of them")?;
    let writer = LogWriter::take_over(store.clone(), former, next, archived, new.as_ref()).await?;
    let writer = writer.with_compaction_threshold(rng.random_range(1..4));
    let tables = tables(&SyncConfig::compile(&generation.sync_config).unwrap());
    Ok(Applier::new(writer, generation, tables))
}

fn new_generation(id: GenerationId, rng: &mut StdRng) -> Generation {
    let text = CONFIGS[rng.random_range(0..CONFIGS.len())];
    let config = SyncConfig::compile(text).unwrap();
    let mut tags = |count| (0..count).map(|_| Tag::from_bits(rng.random())).collect::<Vec<_>>();
    Generation {
        id,
        identity: String::new(),
        sync_config: text.to_owned(),
        definitions: tags(config.definitions().len()),
        lookups: tags(config.lookups().len()),
        retired_at: None,
    }
}

/// The tables of the model as the catalogue would describe them, in the config's order.
fn tables(config: &SyncConfig) -> Vec<SyncedTable> {
    let table = |(number, name): (usize, &tidewater_sync_config::TablePattern)| {
        let (_, columns) = TABLES.iter().find(|(table, _)| *table == name.name).unwrap();
        let column = |name: &&str| Column { name: (*name).to_owned(), type_oid: TEXT_OID };
        let schema = TableSchema {
            schema: name.schema.clone(),
            name: name.name.clone(),
            columns: columns.iter().map(column).collect(),
            types: PgTypes::default(),
        };
        let is_keyless = name.name == TABLES[NOTES].0;
        let evaluator = config.bind(&schema).unwrap().unwrap();
        let table = SourceTable {
            oid: u32::try_from(number).unwrap(),
            column_types: vec!["text".into(); schema.columns.len()],
            schema,
            kind: 'r',
            replica_identity: if is_keyless { 'f' } else { 'd' },
            key: if is_keyless { vec![] } else { vec![0] },
            may_select: true,
            row_security: false,
            is_published: true,
            has_row_filter: false,
            estimated_rows: 0.0,
        };
        SyncedTable { number: u16::try_from(number).unwrap(), table, evaluator }
    };
    config.tables().iter().enumerate().map(table).collect()
}

/// How far the copy is: chunks done, and where the source stood when the notes were read.
#[derive(Clone, Copy, Default)]
struct Copied {
    chunks: usize,
    notes_at: u64,
}

struct Worker {
    applier: Applier<Store>,
    world: Shared,
    rng: StdRng,
    copied: Option<Copied>,
    visibility_barrier: Option<Lsn>,
    ticket: u64,
    emitted: u64,
}

impl Worker {
    async fn new(mut applier: Applier<Store>, world: Shared, rng: StdRng) -> Result<Self> {
        let control = applier.writer.control();
        let (visibility_barrier, ticket) = (control.visibility_barrier, control.committed.ticket.0);
        let key = RecordKey::Copy(applier.generation.id);
        let records = applier.writer.load([key]).await?;
        let stored = applier.writer.get(records[0]).map(|(_, value)| {
            let number = |at: usize| u64::from_le_bytes(value[at..at + 8].try_into().unwrap());
            Copied { chunks: usize::try_from(number(0)).unwrap(), notes_at: number(8) }
        });
        let copied = visibility_barrier.map(|_| stored.unwrap_or_default());
        Ok(Self { applier, world, rng, copied, visibility_barrier, ticket, emitted: ticket })
    }

    /// A chunk, or a few transactions, or a message for tickets that were taken.
    async fn step(&mut self, store: &Store) -> Result<()> {
        if self.rng.random_range(0..3) == 0 {
            let taken = store.last_ticket().await?.0;
            if taken > self.emitted {
                self.world.lock().unwrap().source.message(taken);
                self.emitted = taken;
            }
        }
        // As if there were many: all but what is on its way is read again.
        self.applier.writer.trim(self.rng.random_range(0..20));
        let after = self.applier.writer.latest_control().committed.lsn.0;
        let next = self.world.lock().unwrap().source.next(after);
        let copies = self.copied.filter(|copied| copied.chunks < CHUNKS.len());
        match (copies, next) {
            (Some(copied), next) if next.is_none() || self.rng.random() => {
                self.copy_chunk(copied).await
            }
            (_, Some(_)) => self.follow(after).await,
            // Nothing to do: a look at the store is a turn all the same.
            (_, None) => Ok(store.control().await.map(|_| ())?),
        }
    }

    async fn copy_chunk(&mut self, mut copied: Copied) -> Result<()> {
        let (table, is_in) = CHUNKS[copied.chunks];
        // The source is read in one go, with everything applied so far in it.
        let (rows, now) = {
            let world = self.world.lock().unwrap();
            (world.source.now().tables[table].clone(), world.source.position())
        };
        for row in rows.iter().filter(|row| is_in(row)) {
            let (table, key, values) = self.keyed(table, row);
            let loaded = self.applier.load_copied(table, vec![key]).await?.pop();
            self.applier.upsert(&loaded.context("one row was asked for")?, &values)?;
        }
        if table == NOTES {
            copied.notes_at = now;
        }
        copied.chunks += 1;
        if copied.chunks == CHUNKS.len() {
            self.visibility_barrier = Some(Lsn(now));
        }
        self.copied = Some(copied);
        let mut record = (copied.chunks as u64).to_le_bytes().to_vec();
        record.extend_from_slice(&copied.notes_at.to_le_bytes());
        let key = RecordKey::Copy(self.applier.generation.id);
        self.applier.writer.set_at(key, Some(record.into()));
        let at = self.applier.writer.latest_control().committed.lsn;
        self.commit(at).await
    }

    /// Applies one to three transactions in one unit.
    async fn follow(&mut self, mut after: u64) -> Result<()> {
        for _ in 0..self.rng.random_range(1..4) {
            let Some((transaction, end)) = self.world.lock().unwrap().source.next(after) else {
                break;
            };
            match transaction {
                Transaction::Message(ticket) => self.ticket = self.ticket.max(ticket),
                Transaction::Changes(changes) => {
                    for change in changes {
                        self.apply(change, end).await?;
                    }
                }
            }
            after = end;
        }
        self.commit(Lsn(after)).await
    }

    async fn apply(&mut self, change: Change, end: u64) -> Result<()> {
        let table = match &change {
            Change::Insert(table, _) | Change::Delete(table, _) | Change::Truncate(table) => *table,
            Change::Update { table, .. } => *table,
        };
        let in_copy = |copied: &Copied| copied.chunks < CHUNKS.len() || end <= copied.notes_at;
        if table == NOTES && self.copied.as_ref().is_some_and(in_copy) {
            return Ok(());
        }
        match change {
            Change::Insert(_, row) => self.upsert(table, &row).await?,
            Change::Delete(_, row) => self.delete(table, &row).await?,
            Change::Truncate(_) => {
                let number = self.applier.tables[self.number(table)].number;
                self.applier.truncate(number).await?;
            }
            Change::Update { old, new, .. } => {
                if table == NOTES || old[0] != new[0] {
                    self.delete(table, &old).await?;
                }
                if table == TODOS && self.rng.random_range(0..12) == 0 {
                    self.read_again(&new).await?;
                } else {
                    self.upsert(table, &new).await?;
                }
            }
        }
        if self.rng.random_range(0..6) == 0 {
            // As in a large transaction: written, not committed.
            self.applier.writer.flush().await?;
        }
        Ok(())
    }

    /// As if a value had been left out: the row is read as it is now, ahead of the stream.
    async fn read_again(&mut self, row: &Row) -> Result<()> {
        let (found, now) = {
            let world = self.world.lock().unwrap();
            let now = world.source.now();
            let found = now.tables[TODOS].iter().find(|found| found[0] == row[0]).cloned();
            (found, world.source.position())
        };
        self.visibility_barrier =
            Some(self.visibility_barrier.map_or(Lsn(now), |barrier| barrier.max(Lsn(now))));
        match found {
            Some(found) => self.upsert(TODOS, &found).await,
            None => self.delete(TODOS, row).await,
        }
    }

    /// The table's place in the sync config.
    fn number(&self, table: usize) -> usize {
        let is_it = |synced: &SyncedTable| synced.table.schema.name == TABLES[table].0;
        self.applier.tables.iter().position(is_it).unwrap()
    }

    async fn upsert(&mut self, table: usize, row: &Row) -> Result<()> {
        let (row, values) = self.loaded(table, row).await?;
        Ok(self.applier.upsert(&row, &values)?)
    }

    async fn delete(&mut self, table: usize, row: &Row) -> Result<()> {
        let (row, _) = self.loaded(table, row).await?;
        Ok(self.applier.delete(&row)?)
    }

    async fn loaded<'a>(
        &mut self,
        table: usize,
        row: &'a Row,
    ) -> Result<(RowRef, Vec<Option<&'a str>>)> {
        let (table, key, values) = self.keyed(table, row);
        let loaded = self.applier.load(vec![(table, key)]).await?.pop();
        Ok((loaded.context("one row was asked for")?, values))
    }

    fn keyed<'a>(&self, table: usize, row: &'a Row) -> (usize, Arc<str>, Vec<Option<&'a str>>) {
        let table = self.number(table);
        let values: Vec<_> = row.iter().map(|value| Some(&**value)).collect();
        (table, self.applier.tables[table].row_key(&values), values)
    }

    /// Mostly the next unit is begun while this one is still on its way.
    async fn commit(&mut self, lsn: Lsn) -> Result<()> {
        let hold = CommitOptions {
            visibility_barrier: self.visibility_barrier,
            truncated: self.applier.truncated.clone(),
        };
        self.applier.writer.start_commit(lsn, Ticket(self.ticket), hold).await?;
        if self.rng.random_range(0..3) == 0 {
            self.applier.writer.finish().await?;
        }
        self.visibility_barrier = self.applier.writer.latest_control().visibility_barrier;
        if self.visibility_barrier.is_none() {
            self.copied = None;
        }
        Ok(())
    }
}
