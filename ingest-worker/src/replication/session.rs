//! One run on the slot: gathers transactions from the stream, copies chunks between them, commits.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pgwire_replication::{ReplicationClient, ReplicationEvent};
use tidewater_storage::{Lsn, Storage, Ticket};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::apply::applier::Applier;
use crate::config::Progress;
use crate::error::RunError;
use crate::initial_copy::state::CopyState;
use crate::log::writer::CommitOptions;
use crate::source::catalog;
use crate::source::catalog_watcher::{CatalogWatcher, changed};
use crate::source::connection::SourceConnection;
use crate::source::pgoutput::{Message, Relation};

/// Changes, and bytes of them, that are applied in one go.
const ITEMS_MAX: usize = 5_000;
const BYTES_MAX: usize = 4 << 20;
/// An idle source's position is stored this often.
const IDLE_COMMIT: Duration = Duration::from_secs(10);
/// How long one wait for a ticket lasts.
const TICKET_WAIT: Duration = Duration::from_millis(500);
/// Applied transactions remembered before the list is shortened.
const UNSEEN_MAX: usize = 10_000;
/// How long the server may take to take leave.
const FAREWELL: Duration = Duration::from_secs(5);

/// A change that was received and waits to be applied.
#[derive(Debug)]
pub(crate) enum Item {
    /// An Insert, Update or Delete message of a table, by its index.
    Change(usize, Bytes),
    /// These tables were emptied.
    Truncate(Vec<usize>),
}

impl Item {
    /// Bytes that it holds on to.
    fn len(&self) -> usize {
        match self {
            Self::Change(_, message) => message.len(),
            Self::Truncate(_) => 0,
        }
    }
}

/// What the stream's table ids mean.
#[derive(Clone, Copy, Debug)]
enum Mapped {
    Table(usize),
    /// A table as it was before it was altered: its changes are in the copy.
    Outdated(usize),
    /// Not ours.
    Ignored,
}

/// A transaction that is being received.
#[derive(Clone, Copy, Debug)]
struct OpenTransaction {
    xid: u32,
    commit_lsn: Lsn,
    /// It was taken in by a former run.
    is_known: bool,
    /// The unit holds changes of it already, although its end has not come.
    is_begun: bool,
}

/// One run on the slot.
pub(crate) struct Session<S> {
    pub(crate) applier: Applier<S>,
    pub(crate) source: SourceConnection,
    stream: ReplicationClient,
    pub(crate) copy: Option<CopyState>,
    /// See [`tidewater_storage::Control::visibility_barrier`]; as it will be at the next commit.
    pub(crate) visibility_barrier: Option<Lsn>,
    relations: HashMap<u32, Mapped>,
    items: Vec<Item>,
    item_bytes: usize,
    /// How many of the items belong to transactions received whole.
    whole: usize,
    open: Option<OpenTransaction>,
    /// End of the last transaction received whole, and the highest ticket up to there.
    received: Lsn,
    ticket: Ticket,
    emitted: Ticket,
    watch: CatalogWatcher,
    idle_since: Instant,
    pub(crate) copied_rows: HashMap<usize, u64>,
}

impl<S: Storage> Session<S> {
    pub(crate) fn new(
        applier: Applier<S>,
        source: SourceConnection,
        stream: ReplicationClient,
        copy: Option<CopyState>,
        watch: CatalogWatcher,
    ) -> Self {
        let control = applier.writer.control();
        let (visibility_barrier, committed) = (control.visibility_barrier, control.committed);
        Self {
            applier,
            source,
            stream,
            copy,
            visibility_barrier,
            relations: HashMap::new(),
            items: Vec::new(),
            item_bytes: 0,
            whole: 0,
            open: None,
            received: committed.lsn,
            ticket: committed.ticket,
            emitted: committed.ticket,
            watch,
            idle_since: Instant::now(),
            copied_rows: HashMap::new(),
        }
    }

    /// Runs until `shutdown`, or until something breaks.
    pub(crate) async fn run(
        mut self,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
        shutdown: &CancellationToken,
    ) -> Result<(), RunError> {
        let mut was_visible = false;
        loop {
            if !was_visible && self.is_ready() {
                was_visible = true;
                on_progress(Progress::Ready);
            }
            if shutdown.is_cancelled() {
                return self.leave().await;
            }
            self.advance().await?;
            let copies = self.copy.as_ref().is_some_and(|copy| copy.next().is_some());
            if copies && self.open.is_none() && self.items.is_empty() {
                self.copy_chunk(on_progress).await?;
                self.take_ready_events(ITEMS_MAX).await?;
                continue;
            }
            self.wait(shutdown).await?;
        }
    }

    /// Whether readers see what this run maintains.
    fn is_ready(&self) -> bool {
        let control = self.applier.writer.control();
        control.visible.as_ref().is_some_and(|v| v.generation == control.generation)
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self, shutdown: &CancellationToken) -> Result<(), RunError> {
        let storage = self.applier.writer.storage().clone();
        let is_busy = self.applier.writer.is_busy();
        // No order among them: a busy stream must not keep tickets waiting.
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = self.applier.writer.wait_in_flight(), if is_busy => Ok(()),
            event = self.stream.recv() => {
                let event = event?;
                self.take(event).await?;
                self.take_ready_events(ITEMS_MAX).await
            }
            taken = storage.wait_for_ticket(self.emitted, TICKET_WAIT) => {
                taken?;
                self.emit_ticket().await?;
                Ok(self.watch.check(&self.source.client, &self.applier.tables).await?)
            }
        }
    }

    /// Takes the events that are there, without waiting.
    async fn take_ready_events(&mut self, most: usize) -> Result<(), RunError> {
        for _ in 0..most {
            let Some(event) = self.stream.recv().now_or_never() else { break };
            let event = event?;
            self.take(event).await?;
        }
        Ok(())
    }

    /// Takes one event of the stream.
    async fn take(&mut self, event: Option<ReplicationEvent>) -> Result<(), RunError> {
        let Some(event) = event else {
            return Err(RunError::Disconnected("the server ended the stream".into()));
        };
        match event {
            ReplicationEvent::Begin { final_lsn, xid, .. } => {
                let commit_lsn = Lsn(final_lsn.0);
                // The commit record begins below a position that was stored only as the end of one.
                let is_known = commit_lsn < self.applier.writer.control().committed.lsn;
                self.open = Some(OpenTransaction { xid, commit_lsn, is_known, is_begun: false });
            }
            ReplicationEvent::XLogData { data, .. } => self.take_change(data)?,
            ReplicationEvent::Commit { end_lsn, .. } => {
                let open = self.open.take();
                if let Some(open) = open.filter(|open| !open.is_known) {
                    self.source.note_applied(open.xid);
                    self.received = Lsn(end_lsn.0);
                }
                self.whole = self.items.len();
            }
            ReplicationEvent::Message { prefix, content, transactional, .. } => {
                if transactional && prefix == "tidewater" {
                    self.take_message(&content);
                }
            }
            ReplicationEvent::KeepAlive { wal_end, .. } => {
                self.take_keepalive(Lsn(wal_end.0)).await?;
            }
            ReplicationEvent::StoppedAt { .. } => {}
        }
        if self.items.len() >= ITEMS_MAX || self.item_bytes >= BYTES_MAX {
            self.apply_part().await?;
        }
        Ok(())
    }

    fn take_change(&mut self, data: Bytes) -> Result<(), RunError> {
        let malformed = |_| RunError::Unexpected("the stream sent a malformed change".to_owned());
        let open = self.open.as_ref();
        let (known, xid) = open.map_or((true, 0), |open| (open.is_known, open.xid));
        match Message::decode(&data).map_err(malformed)? {
            Message::Relation(relation) => {
                let mapped = self.map(&relation)?;
                self.relations.insert(relation.oid, mapped);
            }
            Message::Insert { relation, .. }
            | Message::Update { relation, .. }
            | Message::Delete { relation, .. } => {
                if let Some(table) = self.wanted(relation, xid)?.filter(|_| !known) {
                    self.item_bytes += data.len();
                    self.items.push(Item::Change(table, data));
                }
            }
            Message::Truncate { relations } => {
                let wanted = relations.into_iter().map(|id| self.wanted(id, xid));
                let tables: Vec<_> =
                    wanted.filter_map(Result::transpose).collect::<Result<_, _>>()?;
                if !tables.is_empty() && !known {
                    self.items.push(Item::Truncate(tables));
                }
            }
            Message::Other => {}
        }
        Ok(())
    }

    /// The table that a change concerns, unless it is not ours or in the copy already.
    fn wanted(&self, relation: u32, xid: u32) -> Result<Option<usize>, RunError> {
        let table = match self.relations.get(&relation) {
            Some(Mapped::Table(table)) => table,
            // It would have been described anew after it was altered.
            Some(Mapped::Outdated(table)) if !self.is_before_copy() => {
                let table = &self.applier.tables[*table].table;
                return Err(
                    changed(table, "the log describes it otherwise than the catalog").into()
                );
            }
            Some(Mapped::Outdated(_) | Mapped::Ignored) | None => return Ok(None),
        };
        let is_keyless = self.applier.tables[*table].is_keyless();
        let number = self.applier.tables[*table].number;
        let copied = |copy: &CopyState| copy.contains_keyless_change(number, xid);
        if is_keyless && self.copy.as_ref().is_some_and(copied) {
            return Ok(None);
        }
        Ok(Some(*table))
    }

    /// Whether the transaction at hand was committed before the catalogue was read that the copy goes
    /// by, or was taken in by a former run.
    fn is_before_copy(&self) -> bool {
        let is_copied = |open: &OpenTransaction| {
            self.copy.as_ref().is_some_and(|copy| open.commit_lsn <= copy.ignore_until)
        };
        self.open.as_ref().is_none_or(|open| open.is_known || is_copied(open))
    }

    /// Finds the table of a Relation message, which must be as the catalogue described it.
    fn map(&self, relation: &Relation) -> Result<Mapped, RunError> {
        let tables = &self.applier.tables;
        let same_name = |name: &tidewater_sync_config::TableSchema| {
            name.schema == relation.schema && name.name == relation.name
        };
        let found = tables.iter().position(|table| same_name(&table.table.schema));
        let by_id = tables.iter().position(|table| table.table.oid == relation.oid);
        let open = self.open.as_ref().filter(|open| !open.is_known);
        let Some(index) = by_id.or(found) else {
            let is_new = |open: &OpenTransaction| self.watch.is_new(relation, open.commit_lsn);
            if open.is_some_and(is_new) {
                let (oid, reason) = (relation.oid, "it is new".to_owned());
                let table = format!("{}.{}", relation.schema, relation.name);
                return Err(RunError::TableChanged { oid, table, reason });
            }
            return Ok(Mapped::Ignored);
        };
        let table = &tables[index].table;
        let Some(difference) = difference(table, relation) else {
            return Ok(Mapped::Table(index));
        };
        if self.is_before_copy() {
            return Ok(Mapped::Outdated(index));
        }
        Err(changed(table, &difference).into())
    }

    /// A message of ours, in its place in the log: it covers all tickets taken before it was sent.
    fn take_message(&mut self, content: &[u8]) {
        let text = std::str::from_utf8(content).unwrap_or_default();
        let ours = text.rsplit_once(':').filter(|(slot, _)| *slot == self.watch.slot);
        if let Some(ticket) = ours.and_then(|(_, ticket)| ticket.parse().ok()) {
            self.ticket = self.ticket.max(Ticket(ticket));
        }
    }

    /// Everything up to here has been sent.
    async fn take_keepalive(&mut self, wal_end: Lsn) -> Result<(), RunError> {
        let is_idle = self.open.is_none() && self.items.is_empty();
        let is_due = self.visibility_barrier.is_some() || self.idle_since.elapsed() >= IDLE_COMMIT;
        let known = self.applier.writer.latest_control().committed.lsn.max(self.received);
        if is_idle && is_due && wal_end > known {
            self.received = wal_end;
            self.commit().await?;
        }
        Ok(())
    }

    /// Applies the transactions received whole, and commits them unless a commit is under way: a
    /// lone one is not kept waiting, and what arrives meanwhile makes up the next unit.
    async fn advance(&mut self) -> Result<(), RunError> {
        self.apply_whole().await?;
        if self.applier.writer.wait_in_flight().now_or_never().is_some() {
            self.finish().await?;
            if self.is_due() {
                self.commit().await?;
            }
        }
        Ok(())
    }

    /// Applies the transactions received whole, if there are any.
    async fn apply_whole(&mut self) -> Result<(), RunError> {
        if self.whole == 0 {
            return Ok(());
        }
        let rest = self.items.split_off(self.whole);
        let items = std::mem::replace(&mut self.items, rest);
        self.whole = 0;
        self.item_bytes = self.items.iter().map(Item::len).sum();
        self.apply(items).await
    }

    /// Applies what there is of a transaction that is larger than what is held.
    async fn apply_part(&mut self) -> Result<(), RunError> {
        self.apply_whole().await?;
        if self.is_due() {
            // Those before it must not have to wait for its end.
            self.commit().await?;
        }
        if let Some(open) = &mut self.open {
            open.is_begun = true;
            let items = std::mem::take(&mut self.items);
            self.item_bytes = 0;
            self.apply(items).await?;
        }
        Ok(())
    }

    /// Whether there is something to commit that somebody waits for.
    fn is_due(&self) -> bool {
        self.can_commit() && !self.is_nothing_new()
    }

    /// Whether a commit would take a position along, and never a part of a transaction.
    fn can_commit(&self) -> bool {
        let is_begun = self.open.as_ref().is_some_and(|open| open.is_begun);
        let committed = self.applier.writer.latest_control().committed.lsn;
        self.whole == 0 && !is_begun && self.received > committed
    }

    /// Whether a commit would store nothing but a position that nobody waits for: a later one, or
    /// the idle source's, takes it along.
    fn is_nothing_new(&self) -> bool {
        !self.applier.writer.has_uncommitted()
            && self.ticket <= self.applier.writer.latest_control().committed.ticket
            && self.visibility_barrier.is_none()
            && self.copy.is_none()
            && self.idle_since.elapsed() < IDLE_COMMIT
    }

    /// Begins to commit the unit, with the record of the copy while there is one.
    pub(crate) async fn commit(&mut self) -> Result<(), RunError> {
        if self.source.not_yet_visible_xids().len() > UNSEEN_MAX {
            self.source.forget_visible_xids().await?;
        }
        self.store_copy()?;
        let hold = CommitOptions {
            visibility_barrier: self.visibility_barrier,
            truncated: self.applier.truncated.clone(),
        };
        self.applier.writer.start_commit(self.received, self.ticket, hold).await?;
        self.visibility_barrier = self.applier.writer.latest_control().visibility_barrier;
        if self.visibility_barrier.is_none() {
            self.copy = None;
        }
        self.idle_since = Instant::now();
        Ok(())
    }

    /// Waits for the commit that is under way, and confirms the slot.
    async fn finish(&mut self) -> Result<(), RunError> {
        self.applier.writer.finish().await?;
        let committed = self.applier.writer.control().committed.lsn;
        self.stream.update_applied_lsn(pgwire_replication::Lsn(committed.0));
        Ok(())
    }

    fn store_copy(&mut self) -> Result<(), RunError> {
        let Some(copy) = &mut self.copy else { return Ok(()) };
        copy.unseen = self.source.not_yet_visible_xids().to_vec();
        let record = serde_json::to_vec(copy)
            .map_err(|error| RunError::Unexpected(format!("the copy's record: {error}")))?;
        let key = tidewater_storage::RecordKey::Copy(self.applier.generation.id);
        self.applier.writer.set_at(key, Some(record.into()));
        Ok(())
    }

    /// Puts a message into the log for tickets that were taken since the last one.
    async fn emit_ticket(&mut self) -> Result<(), RunError> {
        let taken = self.applier.writer.storage().last_ticket().await?;
        if taken > self.emitted {
            self.source.emit_message(&format!("{}:{}", self.watch.slot, taken.0)).await?;
            self.emitted = taken;
        }
        Ok(())
    }

    /// Ends the run in good order: what was received whole is committed already.
    async fn leave(mut self) -> Result<(), RunError> {
        self.apply_whole().await?;
        if self.can_commit() {
            self.commit().await?;
        }
        self.finish().await?;
        if let Ok(Err(error)) = tokio::time::timeout(FAREWELL, self.stream.shutdown()).await {
            tracing::debug!(%error, "the stream did not end in good order");
        }
        Ok(())
    }
}

/// What differs between a table as it was when the run began and as the stream describes it.
fn difference(table: &catalog::SourceTable, relation: &Relation) -> Option<String> {
    if table.oid != relation.oid {
        return Some("it was made anew".to_owned());
    }
    let columns = &table.schema.columns;
    for (column, now) in columns.iter().zip(&relation.columns) {
        if column.name != now.name {
            return Some(format!("where column {} was, there is {}", column.name, now.name));
        }
        if column.type_oid != now.type_oid {
            return Some(format!("column {} has another type", column.name));
        }
    }
    if let Some(added) = relation.columns.get(columns.len()) {
        return Some(format!("column {} is new", added.name));
    }
    if let Some(dropped) = columns.get(relation.columns.len()) {
        return Some(format!("column {} is gone", dropped.name));
    }
    if table.replica_identity != char::from(relation.replica_identity) {
        return Some("its replica identity is another".to_owned());
    }
    let identifies = |(at, column): (usize, &crate::source::pgoutput::RelationColumn)| {
        column.in_identity != (table.replica_identity == 'f' || table.key.contains(&at))
    };
    if relation.columns.iter().enumerate().any(identifies) {
        return Some("its replica identity is another".to_owned());
    }
    None
}
