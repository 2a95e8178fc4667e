//! A device: a SQLite database that our client keeps in sync.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rusqlite::types::ValueRef;
use rusqlite::{OpenFlags, OptionalExtension};
use tidewater_client::{
    Client, Connector, FixedToken, HttpConnector, Options, Schema, Status, SyncReport,
};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_postgres::Client as Database;

use super::compare::{Comparison, Row, compare};
use super::source::{CLIENT_SCHEMA, SyncedTable};

/// Time that a device has to catch up, far more than a slow machine needs.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(120);

/// A device of one user.
pub(crate) struct Device {
    pub(crate) user: &'static str,
    client: Client,
    path: PathBuf,
    endpoint: String,
    token: Arc<FixedToken>,
    connector: Arc<dyn Connector>,
}

/// The servers of a device, and its user.
pub(crate) struct Account<'a> {
    pub(crate) user: &'static str,
    pub(crate) token: String,
    pub(crate) endpoint: &'a str,
    pub(crate) uploads: &'a str,
}

impl Device {
    /// Creates a device with a new database file.
    pub(crate) fn new(dir: &Path, account: Account<'_>) -> anyhow::Result<Self> {
        let path = dir.join(format!("{}.sqlite", account.user));
        let schema = Schema::parse(CLIENT_SCHEMA).context("the demo's schema is wrong")?;
        let client = Client::open(&path, &schema, Options::default())?;
        let token = Arc::new(FixedToken(account.token));
        let connector = Arc::new(HttpConnector::new(account.uploads, token.clone())?);
        let endpoint = account.endpoint.to_owned();
        Ok(Self { user: account.user, client, path, endpoint, token, connector })
    }

    /// Returns the path of the database file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Downloads all rows once and disconnects.
    pub(crate) async fn bootstrap(&self) -> anyhow::Result<SyncReport> {
        let connector = Some(self.connector.clone());
        self.client
            .sync_once(&self.endpoint, self.token.clone(), connector, None)
            .await
            .with_context(|| format!("the device of {} cannot sync", self.user))
    }

    /// Connects and stays connected.
    pub(crate) fn connect(&self) -> anyhow::Result<()> {
        self.client
            .connect(&self.endpoint, self.token.clone(), Some(self.connector.clone()))
            .with_context(|| format!("the device of {} cannot connect", self.user))
    }

    /// Disconnects.
    pub(crate) async fn disconnect(&self) {
        self.client.disconnect().await;
    }

    /// Returns the number of local transactions that have not reached the backend.
    pub(crate) fn queue_length(&self) -> u64 {
        self.client.status().borrow().queue_length
    }

    /// Executes statements, each in a transaction of its own.
    pub(crate) fn write(&self, statements: &[String]) -> anyhow::Result<()> {
        for statement in statements {
            self.client
                .write(|transaction| transaction.execute(statement, []))
                .with_context(|| format!("the device of {} cannot write", self.user))?;
        }
        Ok(())
    }

    /// Waits until the backend has accepted all local writes.
    pub(crate) async fn wait_until_uploaded(&self) -> anyhow::Result<()> {
        let mut status = self.client.status();
        let uploaded = status.wait_for(|status| status.queue_length == 0);
        let done = matches!(tokio::time::timeout(CATCH_UP_TIMEOUT, uploaded).await, Ok(Ok(_)));
        let status = status.borrow().clone();
        if !done {
            bail!("the device of {} did not send its writes: {}", self.user, problem(&status));
        }
        if status.rejected > 0 {
            bail!("the backend refused {} writes of {}", status.rejected, self.user);
        }
        Ok(())
    }

    /// Waits until the user's list has this name on the device. Returns the time when it had.
    pub(crate) async fn wait_for_list(&self, name: &str) -> anyhow::Result<Instant> {
        let waited = tokio::time::timeout(CATCH_UP_TIMEOUT, self.see_list(name)).await;
        waited.unwrap_or_else(|_| {
            let status = self.client.status().borrow().clone();
            bail!("the device of {} did not catch up: {}", self.user, problem(&status))
        })
    }

    async fn see_list(&self, name: &str) -> anyhow::Result<Instant> {
        let mut changes = self.client.changes();
        loop {
            let sql = "SELECT name FROM lists";
            let seen: Option<String> =
                self.client.read(|db| db.query_row(sql, [], |row| row.get(0)).optional())?;
            if seen.as_deref() == Some(name) {
                return Ok(Instant::now());
            }
            match changes.recv().await {
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => bail!("the client has ended"),
            }
        }
    }

    /// Compares a table with PostgreSQL. It reads the file as any other program would.
    pub(crate) async fn compare(
        &self,
        database: &Database,
        table: &SyncedTable,
    ) -> anyhow::Result<Comparison> {
        let file = rusqlite::Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;

        let columns = table.columns.join(", ");
        let mut statement =
            file.prepare(&format!("SELECT {columns} FROM {} ORDER BY id", table.name))?;
        let width = table.columns.len();
        let mut rows = statement.query([])?;

        let ours = std::iter::from_fn(|| match rows.next() {
            Ok(row) => row.map(|row| texts(row, width)),
            Err(error) => Some(Err(error.into())),
        });
        compare(database, &table.query, ours).await
    }
}

fn problem(status: &Status) -> String {
    let problem = status.upload_problem.as_ref().or(status.download_problem.as_ref());
    problem.map_or_else(|| "it reports no problem".to_owned(), |problem| problem.message.clone())
}

fn texts(row: &rusqlite::Row<'_>, width: usize) -> anyhow::Result<Row> {
    (0..width).map(|column| text(row, column)).collect()
}

fn text(row: &rusqlite::Row<'_>, column: usize) -> anyhow::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => None,
        ValueRef::Integer(integer) => Some(integer.to_string()),
        ValueRef::Real(real) => Some(real.to_string()),
        ValueRef::Text(text) => Some(std::str::from_utf8(text)?.to_owned()),
        ValueRef::Blob(_) => bail!("the demo has no blobs"),
    })
}
