//! The rows of the source in one snapshot, evaluated as the worker does.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use tidewater_protocol::{Digest, RowKey};
use tidewater_storage::{Lsn, SourceIdentity, answer_name};
use tidewater_sync_config::RowOutput;
use tokio::time::Instant;
use tokio_postgres::Client;
use xxhash_rust::xxh3::xxh3_64;

use crate::apply::applier::SyncedTable;
use crate::apply::fan_out::keep_limits;
use crate::replication::wal_message::{CopyRequest, MESSAGE_PREFIX, WalMessage};
use crate::source::catalog::{self, SourceTable};
use crate::source::connect::{ConnectError, connect};
use crate::source::connection;
use crate::source::copy_rows::CopyRows;
use crate::source::database::Database;
use crate::source::dsn::Dsn;
use crate::source::error::SourceError;
use crate::source::table_queries::{all_rows_query, rows_with_keys_query};
use crate::verify::error::VerifyError;
use crate::verify::place::{Place, PlaceKind};
use crate::verify::scope::Scope;
use crate::verify::sides::{Sides, SourceContent};
use crate::verify::subject::Subject;

/// Pause before the next look whether transactions have ended.
const TRANSACTION_PAUSE: Duration = Duration::from_millis(20);
/// Rows that are read by their keys in one query.
const ROWS_PER_QUERY: usize = 2_000;
/// Rows between two reports of progress.
const REPORT_EVERY: u64 = 10_000;

/// A snapshot of the source. Only one exists at a time, as the transaction of the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceSnapshot {
    /// A position above every transaction that the snapshot sees.
    pub(super) position: Lsn,
    /// True if it sees every transaction that had begun before, so all that any checkpoint before it has.
    pub(super) is_settled: bool,
}

/// The rows that were read of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowCounts {
    pub(super) rows: u64,
    /// Rows that are not synced, or not by all queries: see `docs/limits.md`.
    pub(super) unsynced: u64,
}

/// A session on the source.
pub(super) struct SourceSession {
    client: Client,
    database: String,
    publication: String,
}

impl SourceSession {
    pub(super) async fn open(database: &Database, publication: &str) -> Result<Self, VerifyError> {
        let dsn = Dsn::of(database).map_err(ConnectError::from)?;
        let client = connect(&dsn).await?;
        Ok(Self { client, database: dsn.database, publication: publication.to_owned() })
    }

    /// Fails if the store was filled from another database, or if this is a standby.
    pub(super) async fn must_be(&self, source: &SourceIdentity) -> Result<(), VerifyError> {
        let query =
            "SELECT pg_is_in_recovery(), has_function_privilege('pg_control_system()', 'EXECUTE')";
        let row = self.client.query_one(query, &[]).await.map_err(SourceError::from)?;
        let mut found = format!("database '{}'", self.database);
        let mut is_other = self.database != source.database;
        if row.get(0) {
            found.push_str(" of a standby");
            is_other = true;
        }
        if row.get(1) {
            let query = "SELECT system_identifier::text FROM pg_control_system()";
            let row = self.client.query_one(query, &[]).await.map_err(SourceError::from)?;
            let system_id: String = row.get(0);
            is_other |= system_id != source.system_id;
            found.push_str(&format!(" of cluster {system_id}"));
        }

        let stored = format!("database '{}' of cluster {}", source.database, source.system_id);
        if is_other { Err(VerifyError::OtherSource { stored, found }) } else { Ok(()) }
    }

    /// Begins a transaction with a snapshot, which should see every transaction that has begun before the
    /// call. It waits until these have ended, at most for `patience`.
    ///
    /// A transaction is decoded from the WAL, and may be in the store, before new snapshots see it.
    pub(super) async fn begin(&self, patience: Duration) -> Result<SourceSnapshot, SourceError> {
        // All earlier transactions have lower ids.
        let begun: String = self.value("SELECT pg_current_xact_id()::text").await?;
        let begun = parse_xid(&begun)?;
        let deadline = Instant::now() + patience;
        let is_settled = loop {
            // The first query of the transaction takes its snapshot.
            self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let oldest = self.value("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").await?;
            let is_settled = parse_xid(&oldest)? >= begun;
            if is_settled || Instant::now() >= deadline {
                break is_settled;
            }
            self.execute("ROLLBACK").await?;
            tokio::time::sleep(TRANSACTION_PAUSE).await;
        };

        let position = self.value("SELECT pg_current_wal_insert_lsn()::text").await?;
        let position = position
            .parse()
            .map_err(|_| SourceError::UnexpectedAnswer("pg_current_wal_insert_lsn"))?;
        Ok(SourceSnapshot { position, is_settled })
    }

    /// Ends the transaction.
    pub(super) async fn end(&self) -> Result<(), SourceError> {
        self.execute("COMMIT").await
    }

    /// Asks the worker on a replication slot to copy a table again.
    pub(super) async fn request_copy(
        &self,
        slot: &str,
        request: CopyRequest,
    ) -> Result<(), SourceError> {
        let content = WalMessage::CopyTable(request).content(slot);
        let query = "SELECT pg_logical_emit_message(true, $1, $2::text)";
        self.client.query_one(query, &[&MESSAGE_PREFIX, &content]).await?;
        Ok(())
    }

    /// Returns all tables of the database.
    pub(super) async fn tables(&self) -> Result<Vec<SourceTable>, SourceError> {
        catalog::read_tables_in_transaction(&self.client, &self.publication).await
    }

    /// Evaluates rows of a table in the snapshot: those with some keys, or all.
    pub(super) async fn read_rows(
        &self,
        evaluation: &mut Evaluation<'_>,
        keys: Option<&[Vec<String>]>,
        on_rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), VerifyError> {
        let Some(keys) = keys else {
            let query = all_rows_query(evaluation.table);
            return self.read_query(evaluation, &query, on_rows).await;
        };

        for keys in keys.chunks(ROWS_PER_QUERY) {
            let query = rows_with_keys_query(evaluation.table, keys);
            self.read_query(evaluation, &query, on_rows).await?;
        }
        Ok(())
    }

    async fn read_query(
        &self,
        evaluation: &mut Evaluation<'_>,
        query: &str,
        on_rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), VerifyError> {
        let mut rows = std::pin::pin!(connection::copy_out(&self.client, query).await?);
        let mut current = CopyRows::default();

        while let Some(row) = rows.next().await.transpose()? {
            current.clear();
            current.push(&row);
            evaluation.add(&current.values()?)?;
            if evaluation.counts.rows.is_multiple_of(REPORT_EVERY) {
                on_rows(evaluation.counts.rows);
            }
        }
        Ok(())
    }

    async fn value(&self, query: &str) -> Result<String, SourceError> {
        Ok(self.client.query_one(query, &[]).await?.get(0))
    }

    async fn execute(&self, statement: &str) -> Result<(), SourceError> {
        Ok(self.client.batch_execute(statement).await?)
    }
}

fn parse_xid(text: &str) -> Result<u64, SourceError> {
    text.parse().map_err(|_| SourceError::UnexpectedAnswer("pg_current_xact_id"))
}

/// The evaluation of a table's rows: the places where they should be.
pub(super) struct Evaluation<'a> {
    subject: &'a Subject,
    table: &'a SyncedTable,
    scope: &'a Scope,
    sides: &'a mut dyn Sides,
    pub(super) counts: RowCounts,
    output: RowOutput,
    subkey: String,
    bucket: String,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(
        subject: &'a Subject,
        table: &'a SyncedTable,
        scope: &'a Scope,
        sides: &'a mut dyn Sides,
    ) -> Self {
        Self {
            subject,
            table,
            scope,
            sides,
            counts: RowCounts::default(),
            output: RowOutput::default(),
            subkey: String::new(),
            bucket: String::new(),
        }
    }

    /// Evaluates a row as `Applier::upsert` does.
    fn add(&mut self, values: &[Option<&str>]) -> Result<(), VerifyError> {
        let row_name = self.table.row_key(values);
        self.table.subkey(&row_name, &mut self.subkey);
        self.table.evaluator.evaluate(values, &mut self.output);

        let problems = keep_limits(&self.table.evaluator, &mut self.output);
        self.counts.rows += 1;
        self.counts.unsynced += u64::from(!problems.is_empty());

        for row in self.output.buckets() {
            self.subject.bucket(row.definition, row.params, &mut self.bucket);
            let place = Place {
                kind: PlaceKind::Row,
                container: &self.bucket,
                object_type: row.object_type,
                object_id: row.object_id,
                subkey: &self.subkey,
            };
            if !self.scope.has_container(place.kind, place.container) {
                continue;
            }
            let key = RowKey::new(row.object_type, row.object_id, &self.subkey);
            let digest = Digest::of_put(&key, row.data).0;
            let content = SourceContent { digest, row_name: &row_name, data: row.data };
            self.sides.source(&place, content)?;
        }

        for answer in self.output.lookups() {
            let Some(tag) = self.subject.lookup_tag(answer.lookup) else { continue };
            let lookup = format!("{tag}{}", answer.key);
            if !self.scope.has_container(PlaceKind::Answer, &lookup) {
                continue;
            }
            let digest = xxh3_64(answer.output.as_bytes());
            let name = answer_name(self.table.number, &row_name, digest);
            let content = SourceContent { digest, row_name: &row_name, data: answer.output };
            self.sides.source(&Place::answer(&lookup, &name), content)?;
            self.sides.lookup(&lookup)?;
        }
        Ok(())
    }
}

/// Returns the keys of some rows by the numbers of their tables; `None` for a table that must be read
/// whole, because the key of one of its rows is not known.
pub(super) fn keys_by_table<'p>(
    subject: &Subject,
    places: impl IntoIterator<Item = (Place<'p>, Option<&'p str>)>,
) -> HashMap<u16, Option<Vec<Vec<String>>>> {
    let mut by_table: HashMap<u16, Option<Vec<Vec<String>>>> = HashMap::new();
    for (place, row_name) in places {
        let Some(table) = place.table().and_then(|number| subject.table(number)) else { continue };
        let row_name = row_name.or_else(|| place.row_name()).filter(|_| !table.is_keyless());
        let key = row_name.and_then(|name| table.key_of(name));
        let keys = by_table.entry(table.number).or_insert_with(|| Some(Vec::new()));
        match key {
            Some(key) => keys.iter_mut().for_each(|keys| keys.push(key.clone())),
            None => *keys = None,
        }
    }

    for keys in by_table.values_mut().flatten() {
        keys.sort_unstable();
        keys.dedup();
    }
    by_table
}
