//! The slot and the tables, as the source lists them.

use std::collections::HashMap;
use std::time::Duration;

use tidewater_storage::SourceIdentity;
use tokio_postgres::Client;

use crate::source::connect::{ConnectError, connect};
use crate::source::database::Database;
use crate::source::dsn::Dsn;
use crate::source::error::SourceError;
use crate::source::table_reader::ReadingError;
use crate::status::report::SlotStatus;

/// Time that the queries may take before the connection counts as dead. They read a few rows of the
/// catalog.
const QUERIES_TIMEOUT: Duration = Duration::from_secs(10);

/// A slot that was confirmed at the end of the WAL may be a little ahead of what is flushed.
const SLOT: &str = "
SELECT active, wal_status::text,
       pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn)::int8,
       pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn)::int8,
       safe_wal_size
FROM pg_replication_slots WHERE slot_name = $1";

/// The system identifier is read where our role may.
const IDENTITY: &str = "
SELECT current_database()::text, pg_is_in_recovery(),
       CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')
            THEN (SELECT system_identifier::text FROM pg_control_system()) END";

const TABLES: &str = "
SELECT c.oid, n.nspname || '.' || c.relname, c.reltuples::float8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1)";

/// The questions about the source that a state needs answers to.
pub(super) struct SourceQuestions<'a> {
    /// The database and the slot that the store was filled from.
    pub(super) identity: &'a SourceIdentity,
    /// The ids of the tables.
    pub(super) table_oids: Vec<u32>,
    /// The WAL that the slot may retain.
    pub(super) budget_bytes: u64,
}

/// The facts of the source that a state is made of.
#[derive(Default)]
pub(super) struct SourceFacts {
    /// The slot that the store was filled from, if the server has it.
    pub(super) slot: Option<SlotStatus>,
    /// The tables that were asked for and exist, by their id.
    pub(super) tables: HashMap<u32, ListedTable>,
    /// The difference, if this is not the database that the store was filled from.
    pub(super) other_source: Option<String>,
}

/// A table as the catalog lists it.
pub(super) struct ListedTable {
    pub(super) name: String,
    pub(super) estimated_rows: Option<u64>,
}

impl SourceFacts {
    /// Reads the facts. Without questions it only finds out whether the database can be reached.
    pub(super) async fn read(
        database: &Database,
        questions: Option<SourceQuestions<'_>>,
    ) -> Result<Self, ReadingError> {
        let dsn = Dsn::of(database).map_err(ConnectError::from)?;
        let client = connect(&dsn).await?;
        let Some(questions) = questions else { return Ok(Self::default()) };
        let queries = tokio::time::timeout(QUERIES_TIMEOUT, ask(&client, &questions));
        Ok(queries.await.map_err(|_| SourceError::Silent(QUERIES_TIMEOUT))??)
    }
}

async fn ask(client: &Client, questions: &SourceQuestions<'_>) -> Result<SourceFacts, SourceError> {
    let mut found = SourceFacts {
        other_source: difference(client, questions.identity).await?,
        ..SourceFacts::default()
    };
    if found.other_source.is_some() {
        return Ok(found);
    }

    found.slot = slot(client, &questions.identity.slot, questions.budget_bytes).await?;
    for row in client.query(TABLES, &[&questions.table_oids]).await? {
        let estimate: f64 = row.get(2);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate, which is negative where there is none"
        )]
        let estimated_rows = (estimate >= 0.0).then_some(estimate as u64);
        found.tables.insert(row.get(0), ListedTable { name: row.get(1), estimated_rows });
    }
    Ok(found)
}

/// Returns how the database differs from the one that the store was filled from.
pub(crate) async fn difference(
    client: &Client,
    source: &SourceIdentity,
) -> Result<Option<String>, SourceError> {
    let row = client.query_one(IDENTITY, &[]).await?;
    let database: String = row.get(0);
    let system_id: Option<String> = row.get(2);

    if row.get(1) {
        return Ok(Some("the database is on a standby".to_owned()));
    }
    if database != source.database || system_id.is_some_and(|id| id != source.system_id) {
        return Ok(Some(format!(
            "the store is filled from another database: '{}' of cluster {}",
            source.database, source.system_id
        )));
    }
    Ok(None)
}

async fn slot(
    client: &Client,
    name: &str,
    budget_bytes: u64,
) -> Result<Option<SlotStatus>, SourceError> {
    let Some(row) = client.query_opt(SLOT, &[&name]).await? else { return Ok(None) };
    let bytes = |column| -> Option<u64> {
        let signed: Option<i64> = row.get(column);
        signed.map(|signed| u64::try_from(signed).unwrap_or_default())
    };

    Ok(Some(SlotStatus {
        name: name.to_owned(),
        active: row.get(0),
        wal_status: row.get(1),
        lag_bytes: bytes(2),
        retained_bytes: bytes(3),
        left_bytes: bytes(4),
        budget_bytes,
    }))
}
