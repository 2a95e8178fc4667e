//! Reads of the source database beside the stream: chunks, single rows, positions.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tidewater_storage::Lsn;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::apply::applier::SyncedTable;
use crate::source::catalog::SourceTable;
use crate::source::error::SourceError;
use crate::source::pg_snapshot::PgSnapshot;
use crate::source::quote::{quote_identifier, quote_literal};

/// How long to wait before looking again whether an applied transaction has become visible.
const VISIBILITY_PAUSE: Duration = Duration::from_millis(10);

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
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            self.client.batch_execute(begin).await?;
            let snapshot = self.snapshot().await?;
            if must_see.iter().all(|&xid| snapshot.sees(xid)) {
                return Ok(snapshot);
            }
            self.client.batch_execute("ROLLBACK").await?;
            tokio::time::sleep(VISIBILITY_PAUSE).await;
        }
    }

    /// Returns the current snapshot.
    pub(crate) async fn snapshot(&self) -> Result<PgSnapshot, SourceError> {
        let text = self.value("SELECT pg_current_snapshot()").await?;
        PgSnapshot::parse(&text).ok_or(SourceError::UnexpectedAnswer("pg_current_snapshot"))
    }

    /// Ends what [`SourceConnection::begin_snapshot`] began.
    pub(crate) async fn end_snapshot(&self) -> Result<(), SourceError> {
        Ok(self.client.batch_execute("COMMIT").await?)
    }

    /// The rows of a query over a table, each in the text form of COPY.
    ///
    /// # Errors
    /// [`SourceError::TableChanged`] where the table is not as the catalog described it any more.
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

    /// A position that every transaction committed so far lies below.
    pub(crate) async fn insert_lsn(&self) -> Result<Lsn, SourceError> {
        let text = self.value("SELECT pg_current_wal_insert_lsn()").await?;
        text.parse().map_err(|_| SourceError::UnexpectedAnswer("pg_current_wal_insert_lsn"))
    }

    /// Puts a message into the log, in a transaction of its own, so that the stream comes by it.
    pub(crate) async fn emit_message(&self, content: &str) -> Result<(), SourceError> {
        let content = quote_literal(content);
        let query = format!("SELECT pg_logical_emit_message(true, 'tidewater', {content})");
        self.value(&query).await?;
        Ok(())
    }

    async fn value(&self, query: &str) -> Result<String, SourceError> {
        for message in self.client.simple_query(query).await? {
            if let SimpleQueryMessage::Row(row) = message {
                return Ok(row.get(0).unwrap_or_default().to_owned());
            }
        }
        Err(SourceError::UnexpectedAnswer("a query for one value"))
    }
}

/// Returns whether an SQLSTATE says that a name in the query does not exist: class 42 (syntax error or
/// access rule violation), without missing privileges, which somebody has to grant.
fn is_missing_name(code: &SqlState) -> bool {
    code.code().starts_with("42") && *code != SqlState::INSUFFICIENT_PRIVILEGE
}

/// The rows of a query, each in the text form of COPY.
pub(crate) async fn copy_out(
    client: &Client,
    query: &str,
) -> Result<impl Stream<Item = Result<Bytes, SourceError>> + Send + use<>, SourceError> {
    let rows = client.copy_out(&format!("COPY ({query}) TO STDOUT")).await?;
    Ok(rows.map(|row| row.map_err(SourceError::from)))
}

/// The transactions under way now.
pub(crate) async fn in_progress_xids(client: &Client) -> Result<Vec<u32>, SourceError> {
    let row = client.query_one("SELECT pg_current_snapshot()::text", &[]).await?;
    let snapshot = PgSnapshot::parse(row.get(0));
    let snapshot = snapshot.ok_or(SourceError::UnexpectedAnswer("pg_current_snapshot"))?;
    Ok(snapshot.in_progress().collect())
}

/// All rows of a table; of one with a key, those after `after` in the key's order.
pub(crate) fn rows_query(table: &SyncedTable, after: Option<&[String]>, limit: usize) -> String {
    let columns = column_list(table, 0..table.table.schema.columns.len());
    let from = table.table.sql_name();
    if table.is_keyless() {
        return format!("SELECT {columns} FROM ONLY {from}");
    }
    let key = column_list(table, table.table.key.iter().copied());
    let condition = after.map_or_else(String::new, |after| {
        format!(" WHERE ({key}) > ({})", key_literals(table, after))
    });
    format!("SELECT {columns} FROM ONLY {from}{condition} ORDER BY {key} LIMIT {limit}")
}

/// The row with this key.
pub(crate) fn row_query(table: &SyncedTable, key: &[String]) -> String {
    let columns = column_list(table, 0..table.table.schema.columns.len());
    let key_columns = column_list(table, table.table.key.iter().copied());
    let literals = key_literals(table, key);
    format!(
        "SELECT {columns} FROM ONLY {} WHERE ({key_columns}) = ({literals})",
        table.table.sql_name()
    )
}

fn column_list(table: &SyncedTable, columns: impl Iterator<Item = usize>) -> String {
    let name = |column: usize| quote_identifier(&table.table.schema.columns[column].name);
    columns.map(name).collect::<Vec<_>>().join(", ")
}

fn key_literals(table: &SyncedTable, key: &[String]) -> String {
    let literal = |(value, &column): (&String, &usize)| {
        format!("{}::{}", quote_literal(value), table.table.column_types[column])
    };
    key.iter().zip(&table.table.key).map(literal).collect::<Vec<_>>().join(", ")
}

/// Rows of COPY, in buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct CopyRows {
    /// The values one after another, without their escapes, and where each ends.
    text: Vec<u8>,
    ends: Vec<Option<usize>>,
}

impl CopyRows {
    /// Takes in a row in the text form of COPY.
    pub(crate) fn push(&mut self, row: &[u8]) {
        let row = row.strip_suffix(b"\n").unwrap_or(row);
        // An escape is a backslash and a letter, never a tab.
        for field in row.split(|&byte| byte == b'\t') {
            if field == b"\\N" {
                self.ends.push(None);
                continue;
            }
            unescape(field, &mut self.text);
            self.ends.push(Some(self.text.len()));
        }
    }

    /// The values of all rows, one after another; `None` is NULL.
    pub(crate) fn values(&self) -> Result<Vec<Option<&str>>, SourceError> {
        let not_text = SourceError::UnexpectedAnswer("COPY: not UTF-8");
        let Ok(text) = std::str::from_utf8(&self.text) else { return Err(not_text) };
        let mut values = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for end in &self.ends {
            let Some(end) = *end else {
                values.push(None);
                continue;
            };
            let Some(value) = text.get(start..end) else { return Err(not_text) };
            values.push(Some(value));
            start = end;
        }
        Ok(values)
    }

    /// Bytes of the values.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

fn unescape(field: &[u8], out: &mut Vec<u8>) {
    let mut rest = field;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        // COPY writes each escape as a backslash and one letter; an unknown letter is itself.
        let letter = rest.get(at + 1).copied();
        out.extend(letter.map(|letter| match letter {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => other,
        }));
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(row: &[u8]) -> Vec<Option<String>> {
        let mut copied = CopyRows::default();
        copied.push(row);
        copied.values().unwrap().into_iter().map(|value| value.map(str::to_owned)).collect()
    }

    #[test]
    fn a_row_of_copy_is_split_and_unescaped() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(split(b"1\t\\N\t\tab\n"), [some("1"), None, some(""), some("ab")]);
        assert_eq!(split(b"a\\tb\\\\\\n\t\\\\N\n"), [some("a\tb\\\n"), some("\\N")]);
        assert_eq!(split("é\\r😀".as_bytes()), [some("é\r😀")]);
    }

    #[test]
    fn what_is_not_utf8_is_an_error() {
        let mut copied = CopyRows::default();
        copied.push(b"\xff\n");
        assert!(copied.values().is_err());
        copied.clear();
        // Two halves of a letter make a text, but not in two columns.
        copied.push(b"\xc3\t\xa9\n");
        assert!(copied.values().is_err());
    }
}
