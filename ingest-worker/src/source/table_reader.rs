//! Reads whole tables as they are now, for commands that run beside the worker.

use futures::StreamExt;
use tidewater_sync_config::{Diagnostic, SyncConfig, TableSchema};
use tokio_postgres::Client;

use crate::source::catalog::{self, SourceTable};
use crate::source::connect::{ConnectError, connect};
use crate::source::connection;
use crate::source::copy_rows::CopyRows;
use crate::source::database::Database;
use crate::source::dsn::Dsn;
use crate::source::error::SourceError;
use crate::source::preflight::PreflightError;
use crate::source::quote::quote_identifier;
use crate::source::table_check::reading_findings;
use crate::source::tables::{self, CandidateTable, candidate_tables};

/// The name of no publication: then the catalog lists all columns of a table.
const NO_PUBLICATION: &str = "";

/// Error of a read beside the worker, sorted by what its caller fixes.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// Fix the connection string, the network or the role.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Fix the tables, as each finding says.
    #[error(transparent)]
    NotReadable(PreflightError),
    /// Try again if the connection broke; otherwise fix what the server's message names.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl From<tokio_postgres::Error> for ReadingError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Source(error.into())
    }
}

/// A read-only transaction over all tables of a database, all as of one moment. It ends when this is
/// dropped. Values are printed as the worker's sessions print them.
pub struct Reading {
    client: Client,
    tables: Vec<SourceTable>,
    schemas: Vec<TableSchema>,
}

impl Reading {
    /// Connects and begins the transaction. Neither publication nor replication slot is needed.
    ///
    /// # Errors
    /// When the database cannot be reached or read.
    pub async fn begin(database: &Database) -> Result<Self, ReadingError> {
        let dsn = Dsn::of(database).map_err(ConnectError::from)?;
        let client = connect(&dsn).await?;

        // One snapshot for the catalog and all rows.
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let tables = catalog::read_tables_in_transaction(&client, NO_PUBLICATION).await?;
        let schemas = tables.iter().map(|table| table.schema.clone()).collect();
        Ok(Self { client, tables, schemas })
    }

    /// Returns all tables of the database.
    #[must_use]
    pub fn schemas(&self) -> &[TableSchema] {
        &self.schemas
    }

    /// Compares a sync config with them: see [`SyncConfig::check`].
    #[must_use]
    pub fn check_config(&self, config: &SyncConfig) -> Vec<Diagnostic> {
        tables::check_config(config, &self.tables, NO_PUBLICATION)
    }

    /// Returns the tables that a sync config reads, by their indexes in [`Reading::schemas`].
    #[must_use]
    pub fn tables_of(&self, config: &SyncConfig) -> Vec<usize> {
        candidate_tables(config.tables(), &self.tables, |_| true)
            .iter()
            .filter_map(|CandidateTable { table, .. }| {
                self.tables.iter().position(|one| one.oid == table.oid)
            })
            .collect()
    }

    /// Checks that the role may read all rows of these tables, as the worker must.
    ///
    /// # Errors
    /// [`ReadingError::NotReadable`] with the steps that make each table readable.
    pub async fn check(&self, tables: &[usize]) -> Result<(), ReadingError> {
        let user: String = self.client.query_one("SELECT current_user::text", &[]).await?.get(0);
        let tables = tables.iter().map(|&table| &self.tables[table]);
        let findings: Vec<_> = tables.flat_map(|table| reading_findings(table, &user)).collect();
        if findings.is_empty() {
            Ok(())
        } else {
            Err(ReadingError::NotReadable(PreflightError { findings }))
        }
    }

    /// Reads all rows of a table, by its index in [`Reading::schemas`]: the text of each of its
    /// columns, `None` for NULL.
    ///
    /// # Errors
    /// When the database refuses, or the connection breaks.
    pub async fn rows(
        &self,
        table: usize,
        on_row: &mut (dyn FnMut(&[Option<&str>]) + Send),
    ) -> Result<(), ReadingError> {
        let query = all_rows_query(&self.tables[table]);
        let mut rows = std::pin::pin!(connection::copy_out(&self.client, &query).await?);

        let mut current = CopyRows::default();
        while let Some(row) = rows.next().await.transpose()? {
            current.clear();
            current.push(&row);
            on_row(&current.values()?);
        }
        Ok(())
    }
}

/// Returns the query for all rows of a table, without those of tables that inherit from it.
fn all_rows_query(table: &SourceTable) -> String {
    let names = table.schema.columns.iter().map(|column| quote_identifier(&column.name));
    let columns = names.collect::<Vec<_>>().join(", ");
    format!("SELECT {columns} FROM ONLY {}", table.sql_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_columns_are_read_in_the_catalogs_order() {
        let mut table = crate::test_support::table(1, "todos", false);
        table.schema.columns[1].name = "a\"b".into();
        assert_eq!(all_rows_query(&table), r#"SELECT "id", "a""b" FROM ONLY "public"."todos""#);
    }

    /// Port 1 of this machine: nobody listens there.
    #[tokio::test]
    async fn a_database_that_cannot_be_reached_is_an_error_of_the_connection() {
        let url = "postgres://u@127.0.0.1:1/app?sslmode=disable";
        assert!(matches!(Reading::begin(&Database::new(url)).await, Err(ReadingError::Connect(_))));
    }

    #[tokio::test]
    async fn a_malformed_connection_string_is_recognised() {
        let read = Reading::begin(&Database::new("no url")).await;
        assert!(matches!(read, Err(ReadingError::Connect(ConnectError::Dsn(_)))));
    }
}
