//! Whole tables as they are now, for who asks beside the worker.

use futures::StreamExt;
use tidewater_sync_config::{Diagnostic, SyncConfig, TableSchema};
use tokio_postgres::Client;

use crate::source::catalog::{self, SourceTable};
use crate::source::connect::{ConnectError, connect};
use crate::source::connection::{self, CopyRows};
use crate::source::dsn::Dsn;
use crate::source::error::SourceError;
use crate::source::preflight::{self, PreflightError};
use crate::source::quote::quote_identifier;
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

/// Compares a sync config with the tables of a database: see [`SyncConfig::check`].
///
/// # Errors
/// When the database cannot be reached or read.
pub async fn check_schema(
    database_url: &str,
    config: &SyncConfig,
) -> Result<Vec<Diagnostic>, ReadingError> {
    let dsn = Dsn::parse(database_url).map_err(ConnectError::from)?;
    let client = connect(&dsn).await?;
    let tables = catalog::read_tables(&client, NO_PUBLICATION).await?;
    Ok(tables::check_config(config, &tables))
}

/// Rows of one database as of one moment: a transaction that changes nothing and ends when this is
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
    /// When the database cannot be reached or asked.
    pub async fn begin(database_url: &str) -> Result<Self, ReadingError> {
        let dsn = Dsn::parse(database_url).map_err(ConnectError::from)?;
        let client = connect(&dsn).await?;
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let tables = catalog::read_tables_in_transaction(&client, NO_PUBLICATION).await?;
        let schemas = tables.iter().map(|table| table.schema.clone()).collect();
        Ok(Self { client, tables, schemas })
    }

    /// All tables of the database.
    #[must_use]
    pub fn schemas(&self) -> &[TableSchema] {
        &self.schemas
    }

    /// Compares a sync config with them: see [`SyncConfig::check`].
    #[must_use]
    pub fn check_config(&self, config: &SyncConfig) -> Vec<Diagnostic> {
        tables::check_config(config, &self.tables)
    }

    /// Those that a sync config reads, by their indexes in [`Reading::schemas`].
    #[must_use]
    pub fn tables_of(&self, config: &SyncConfig) -> Vec<usize> {
        let found = candidate_tables(config.tables(), &self.tables, |_| true);
        let index = |one: &CandidateTable| self.tables.iter().position(|t| t.oid == one.table.oid);
        found.iter().filter_map(index).collect()
    }

    /// Whether all rows of these tables can be read, as the worker would have to.
    ///
    /// # Errors
    /// [`ReadingError::NotReadable`], with what is to be done for each of them.
    pub async fn check(&self, tables: &[usize]) -> Result<(), ReadingError> {
        let user: String = self.client.query_one("SELECT current_user::text", &[]).await?.get(0);
        let tables = tables.iter().map(|&table| &self.tables[table]);
        let findings: Vec<_> =
            tables.flat_map(|table| preflight::reading_findings(table, &user)).collect();
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
        let schema = &self.schemas[table];
        let names = schema.columns.iter().map(|column| quote_identifier(&column.name));
        let columns = names.collect::<Vec<_>>().join(", ");
        let query = format!("SELECT {columns} FROM ONLY {}", self.tables[table].sql_name());
        let mut rows = std::pin::pin!(connection::copy_out(&self.client, &query).await?);
        let mut held = CopyRows::default();
        while let Some(row) = rows.next().await.transpose()? {
            held.clear();
            held.push(&row);
            on_row(&held.values()?);
        }
        Ok(())
    }
}
