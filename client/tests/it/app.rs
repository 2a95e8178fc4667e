//! An app around the client.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Map, Value};
use tidewater_client::{
    Client, Connector, Credentials, CredentialsError, HttpConnector, Options, Schema, Status,
};

use crate::server::{Rows, Server};

pub(crate) const SCHEMA: &str =
    "CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT, done INTEGER, list_id TEXT);
     CREATE TABLE lists (id TEXT PRIMARY KEY, name TEXT);
     CREATE INDEX todos_list ON todos (list_id);";

/// The timeout of every wait. Only a failing test reaches it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Credentials that number their tokens.
#[derive(Default)]
pub(crate) struct Tokens(AtomicUsize);

impl Credentials for Tokens {
    fn token(&self) -> BoxFuture<'_, Result<String, CredentialsError>> {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move { Ok(format!("t{number}")) })
    }
}

pub(crate) fn open(path: &Path) -> Client {
    open_with(path, SCHEMA)
}

pub(crate) fn open_with(path: &Path, schema: &str) -> Client {
    open_with_options(path, schema, Options::default())
}

pub(crate) fn open_with_options(path: &Path, schema: &str, options: Options) -> Client {
    let options = Options { poll_interval: Duration::from_millis(20), ..options };
    Client::open(path, &Schema::parse(schema).unwrap(), options).unwrap()
}

pub(crate) fn connect(client: &Client, server: &Server) {
    let tokens = Arc::new(Tokens::default());
    let connector = HttpConnector::new(&server.upload_url(), Arc::new(Tokens::default())).unwrap();
    client.connect(&server.url, tokens, Some(Arc::new(connector) as Arc<dyn Connector>)).unwrap();
}

/// Waits until the status meets the condition.
pub(crate) async fn until(client: &Client, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut status = client.status();
    let found = tokio::time::timeout(TIMEOUT, status.wait_for(wanted)).await;
    match found {
        Ok(status) => status.unwrap().clone(),
        Err(_) => panic!("waited in vain: {:?}", client.status().borrow()),
    }
}

/// Waits until the visible rows equal the server's.
pub(crate) async fn until_equal(client: &Client, server: &Server) {
    let mut status = client.status();
    let equal = async {
        while rows(client) != visible(server.rows()) {
            status.changed().await.unwrap();
        }
    };
    if tokio::time::timeout(TIMEOUT, equal).await.is_err() {
        assert_equal(client, server);
    }
}

fn assert_equal(client: &Client, server: &Server) {
    let status = client.status().borrow().clone();
    assert_eq!(rows(client), visible(server.rows()), "{status:?}");
}

/// Returns all rows of the app's tables.
pub(crate) fn rows(client: &Client) -> Rows {
    client.read(read_rows).unwrap()
}

pub(crate) fn read_rows(db: &rusqlite::Connection) -> rusqlite::Result<Rows> {
    let mut tables = Rows::new();
    let mut select = db.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_tw\\_%' \
         ESCAPE '\\' AND name NOT LIKE 'sqlite%'",
    )?;
    let names: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;

    // One statement per table, within one transaction: all see the same state.
    let tx = db.unchecked_transaction()?;
    for name in names {
        let mut select = tx.prepare(&format!("SELECT * FROM \"{name}\""))?;
        let columns: Vec<_> = select.column_names().map(str::to_owned).collect();
        let mut found = BTreeMap::new();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let mut object = Map::new();
            for (at, column) in columns.iter().enumerate().filter(|(_, name)| *name != "id") {
                let value: rusqlite::types::Value = row.get(at)?;
                object.insert(column.clone(), json(value));
            }
            found.insert(row.get::<_, String>("id")?, Value::Object(object));
        }
        if !found.is_empty() {
            tables.insert(name, found);
        }
    }
    Ok(tables)
}

fn json(value: rusqlite::types::Value) -> Value {
    match value {
        rusqlite::types::Value::Null => Value::Null,
        rusqlite::types::Value::Integer(number) => number.into(),
        rusqlite::types::Value::Real(number) => number.into(),
        rusqlite::types::Value::Text(text) => text.into(),
        rusqlite::types::Value::Blob(_) => panic!("no blobs here"),
    }
}

/// Returns the server's rows as this schema shows them.
pub(crate) fn visible(mut rows: Rows) -> Rows {
    rows.retain(|table, _| table == "todos" || table == "lists");
    for (table, rows) in &mut rows {
        let columns: &[&str] =
            if table == "todos" { &["title", "done", "list_id"] } else { &["name"] };
        for row in rows.values_mut() {
            let shown: Map<_, _> = columns
                .iter()
                .map(|column| ((*column).to_owned(), row.get(*column).cloned().unwrap_or_default()))
                .collect();
            *row = Value::Object(shown);
        }
    }

    rows.retain(|_, rows| !rows.is_empty());
    rows
}
