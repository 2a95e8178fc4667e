//! The worker's ordinary session: reads chunks, single rows and positions beside the stream.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tidewater_storage::Lsn;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::source::catalog::SourceTable;
use crate::source::error::SourceError;
use crate::source::pg_snapshot::PgSnapshot;
use crate::source::quote::quote_literal;

/// Pause before the next look whether an applied transaction has become visible. It usually has
/// after less than a millisecond; a standby that confirms synchronously may delay it for long.
const VISIBILITY_PAUSE: Duration = Duration::from_millis(10);

/// The prefix of the worker's messages in `pg_logical_emit_message`.
pub(crate) const MESSAGE_PREFIX: &str = "tidewater";

/// The end of the server's WAL at a time of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerEnd {
    /// Only what is flushed is sent.
    pub(crate) position: Lsn,
    /// The server's time in microseconds since 2000, as in the replication stream.
    pub(crate) time: i64,
}

/// The result of one look at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerLook {
    pub(crate) end: ServerEnd,
    /// The WAL of the worker's slot; `None` if there is no such slot.
    pub(crate) slot: Option<SlotWal>,
}

/// The WAL that the server keeps for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotWal {
    /// True if the server has invalidated the slot. Nobody can continue from it.
    pub(crate) is_lost: bool,
    /// The bytes from the oldest WAL that the slot needs to the end.
    pub(crate) retained_bytes: u64,
    /// The bytes from the position that is confirmed to the end. The rest of what is retained belongs to
    /// transactions that were open at that position.
    pub(crate) unconfirmed_bytes: u64,
    /// The bytes that may be written before the slot is in danger of being lost; `None` without a limit.
    pub(crate) left_bytes: Option<u64>,
}

/// 946,684,800 seconds lie between 1970 and 2000. The columns of a slot that are NULL are 0 or -1.
const SERVER_LOOK: &str = "
SELECT concat_ws(' ', server.flushed,
       ((extract(epoch FROM clock_timestamp()) - 946684800) * 1000000)::bigint,
       coalesce(slot.wal_status = 'lost', false)::int,
       coalesce(pg_wal_lsn_diff(server.flushed, slot.restart_lsn), 0)::bigint,
       coalesce(pg_wal_lsn_diff(server.flushed, slot.confirmed_flush_lsn), 0)::bigint,
       CASE WHEN slot.safe_wal_size < 0 THEN 0 ELSE coalesce(slot.safe_wal_size, -1) END,
       (slot.slot_name IS NOT NULL)::int)
FROM (SELECT pg_current_wal_flush_lsn() AS flushed) AS server
LEFT JOIN pg_replication_slots AS slot ON slot.slot_name = ";

/// The outcome of an attempt to begin a snapshot.
#[derive(Debug)]
pub(crate) enum SnapshotAttempt {
    /// A transaction with this snapshot has begun.
    Begun(PgSnapshot),
    /// None has begun. The last snapshot lacks a transaction.
    Lacking(PgSnapshot),
}

/// The worker's ordinary session.
pub(crate) struct SourceConnection {
    pub(crate) client: Client,
}

impl SourceConnection {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Begins a transaction whose snapshot sees all of these transactions, and waits until that
    /// is possible.
    ///
    /// They were applied from the stream. Without the wait, a row whose DELETE was applied could
    /// be read once more and would stay: a commit is decoded before new snapshots see it.
    pub(crate) async fn begin_snapshot(&self, must_see: &[u32]) -> Result<PgSnapshot, SourceError> {
        loop {
            let attempt = self.begin_snapshot_within(must_see, Duration::MAX).await?;
            if let SnapshotAttempt::Begun(snapshot) = attempt {
                return Ok(snapshot);
            }
        }
    }

    /// Does the same, but gives up after `wait_max`.
    pub(crate) async fn begin_snapshot_within(
        &self,
        must_see: &[u32],
        wait_max: Duration,
    ) -> Result<SnapshotAttempt, SourceError> {
        let started_at = Instant::now();
        loop {
            // The first query of a REPEATABLE READ transaction takes its snapshot. So the one that
            // is looked at here is the one in which rows are read.
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            self.client.batch_execute(begin).await?;
            let snapshot = self.snapshot().await?;
            if snapshot.sees_all(must_see) {
                return Ok(SnapshotAttempt::Begun(snapshot));
            }

            // The snapshot never changes, so only another transaction can see more.
            self.client.batch_execute("ROLLBACK").await?;
            if started_at.elapsed() >= wait_max {
                return Ok(SnapshotAttempt::Lacking(snapshot));
            }
            tokio::time::sleep(VISIBILITY_PAUSE).await;
        }
    }

    /// Returns the current snapshot.
    pub(crate) async fn snapshot(&self) -> Result<PgSnapshot, SourceError> {
        let text = self.value("SELECT pg_current_snapshot()").await?;
        PgSnapshot::parse(&text).ok_or(SourceError::UnexpectedAnswer("pg_current_snapshot"))
    }

    /// Ends the transaction that [`SourceConnection::begin_snapshot`] began.
    pub(crate) async fn end_snapshot(&self) -> Result<(), SourceError> {
        Ok(self.client.batch_execute("COMMIT").await?)
    }

    /// Returns the rows of a query over a table, each in the text form of COPY.
    ///
    /// # Errors
    /// [`SourceError::TableChanged`] where the table is no longer as the catalog described it.
    pub(crate) async fn copy_out(
        &self,
        table: &SourceTable,
        query: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, SourceError>> + Send + use<>, SourceError> {
        match copy_out(&self.client, query).await {
            Err(SourceError::Refused(refusal)) if is_missing_name(refusal.code()) => {
                Err(table.changed("it was renamed, altered or dropped"))
            }
            rows => rows,
        }
    }

    /// Returns a position above every transaction that was committed so far.
    pub(crate) async fn insert_lsn(&self) -> Result<Lsn, SourceError> {
        let text = self.value("SELECT pg_current_wal_insert_lsn()").await?;
        text.parse().map_err(|_| SourceError::UnexpectedAnswer("pg_current_wal_insert_lsn"))
    }

    /// Returns the end of the WAL that the server may send, the server's time, and the state of a slot.
    pub(crate) async fn look_at_server(&self, slot: &str) -> Result<ServerLook, SourceError> {
        let query = format!("{SERVER_LOOK}{}", quote_literal(slot));
        let text = self.value(&query).await?;
        parse_look(&text).ok_or(SourceError::UnexpectedAnswer("a look at the server"))
    }

    /// Returns a position above every transaction that was committed so far, once a crash of the server cannot
    /// lose the log before it: writes a message, and flushes it.
    pub(crate) async fn durable_lsn(&self, content: &str) -> Result<Lsn, SourceError> {
        // A database or a role may have turned flushes off. Standbys need not confirm this one.
        let emit = emit_message_query(content);
        let query = format!("BEGIN; SET LOCAL synchronous_commit = local; {emit}; COMMIT");
        let text = self.value(&query).await?;
        text.parse().map_err(|_| SourceError::UnexpectedAnswer("pg_logical_emit_message"))
    }

    /// Writes a message into the log, in a transaction of its own. The stream then passes it.
    pub(crate) async fn emit_message(&self, content: &str) -> Result<(), SourceError> {
        self.value(&emit_message_query(content)).await?;
        Ok(())
    }

    /// Returns the first value of a query's result.
    async fn value(&self, query: &str) -> Result<String, SourceError> {
        for message in self.client.simple_query(query).await? {
            if let SimpleQueryMessage::Row(row) = message {
                return Ok(row.get(0).unwrap_or_default().to_owned());
            }
        }
        Err(SourceError::UnexpectedAnswer("a query for one value"))
    }
}

/// Reads the answer to [`SERVER_LOOK`].
fn parse_look(text: &str) -> Option<ServerLook> {
    let parts: Vec<_> = text.split(' ').collect();
    let [position, time, is_lost, retained, unconfirmed, left, exists] = parts[..] else {
        return None;
    };
    // A slot that was confirmed at the end of the WAL may be a little ahead of what is flushed.
    let bytes = |text: &str| Some(u64::try_from(text.parse::<i64>().ok()?).unwrap_or_default());
    let slot = SlotWal {
        is_lost: is_lost == "1",
        retained_bytes: bytes(retained)?,
        unconfirmed_bytes: bytes(unconfirmed)?,
        left_bytes: u64::try_from(left.parse::<i64>().ok()?).ok(),
    };
    Some(ServerLook {
        end: ServerEnd { position: position.parse().ok()?, time: time.parse().ok()? },
        slot: (exists == "1").then_some(slot),
    })
}

/// Returns the rows of a query, each in the text form of COPY.
pub(crate) async fn copy_out(
    client: &Client,
    query: &str,
) -> Result<impl Stream<Item = Result<Bytes, SourceError>> + Send + use<>, SourceError> {
    let rows = client.copy_out(&format!("COPY ({query}) TO STDOUT")).await?;
    Ok(rows.map(|row| row.map_err(SourceError::from)))
}

/// Returns the transactions that are in progress now.
pub(crate) async fn in_progress_xids(client: &Client) -> Result<Vec<u32>, SourceError> {
    // A snapshot lists transactions up to the last one that has ended. A later one is in progress, too,
    // and not listed. So a transaction of our own, with an id above all of them, ends first.
    client.batch_execute("SELECT pg_current_xact_id()").await?;
    let row = client.query_one("SELECT pg_current_snapshot()::text", &[]).await?;
    let snapshot = PgSnapshot::parse(row.get(0));
    let snapshot = snapshot.ok_or(SourceError::UnexpectedAnswer("pg_current_snapshot"))?;
    Ok(snapshot.in_progress().collect())
}

/// Returns whether an SQLSTATE says that a name in the query does not exist: class 42 (syntax error or
/// access rule violation), without missing privileges, which somebody has to grant.
fn is_missing_name(code: &SqlState) -> bool {
    code.code().starts_with("42") && *code != SqlState::INSUFFICIENT_PRIVILEGE
}

/// Returns the query that writes a transactional message into the log.
fn emit_message_query(content: &str) -> String {
    let prefix = quote_literal(MESSAGE_PREFIX);
    let content = quote_literal(content);
    format!("SELECT pg_logical_emit_message(true, {prefix}, {content})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_whose_names_are_gone_means_that_the_table_has_changed() {
        for code in [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_COLUMN,
            SqlState::UNDEFINED_OBJECT,
            SqlState::DATATYPE_MISMATCH,
        ] {
            assert!(is_missing_name(&code), "{code:?}");
        }
    }

    #[test]
    fn a_missing_privilege_and_other_refusals_are_not_a_changed_table() {
        for code in [
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::QUERY_CANCELED,
            SqlState::DISK_FULL,
        ] {
            assert!(!is_missing_name(&code), "{code:?}");
        }
    }

    #[test]
    fn a_look_at_the_server_has_the_wal_of_the_slot_if_there_is_one() {
        let end = ServerEnd { position: Lsn(0x10_0000_0020), time: 700_000_000_000_000 };
        let look = |slot| Some(ServerLook { end, slot });
        let slot = SlotWal {
            is_lost: false,
            retained_bytes: 500,
            unconfirmed_bytes: 0,
            left_bytes: Some(70),
        };
        let text = |rest: &str| format!("10/20 700000000000000 {rest}");
        assert_eq!(parse_look(&text("0 500 -8 70 1")), look(Some(slot)), "it is ahead");
        let unlimited = SlotWal { left_bytes: None, ..slot };
        assert_eq!(parse_look(&text("0 500 0 -1 1")), look(Some(unlimited)));
        let lost = SlotWal { is_lost: true, retained_bytes: 0, ..unlimited };
        assert_eq!(parse_look(&text("1 0 0 -1 1")), look(Some(lost)));
        assert_eq!(parse_look(&text("0 0 0 -1 0")), look(None));
        assert_eq!(parse_look(&text("0 0 0 -1")), None);
    }

    #[test]
    fn the_content_of_a_message_is_quoted() {
        assert_eq!(
            emit_message_query("it's:7"),
            "SELECT pg_logical_emit_message(true, 'tidewater', 'it''s:7')"
        );
    }
}
