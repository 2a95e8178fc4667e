//! A to-do list on the command line: a complete app in one file.
//!
//! It adds a to-do, waits until the backend has applied it, and prints the list. It needs a
//! PostgreSQL database with the table and the publication
//!
//! ```sql
//! CREATE TABLE todos (id text PRIMARY KEY, title text NOT NULL, done integer NOT NULL DEFAULT 0);
//! CREATE PUBLICATION powersync FOR TABLE todos;
//! ```
//!
//! a sync config `todo.yaml`
//!
//! ```yaml
//! config:
//!   edition: 3
//! streams:
//!   todos:
//!     auto_subscribe: true
//!     query: SELECT * FROM todos
//! ```
//!
//! and two servers. Use three terminals in the same folder. In each of them:
//!
//! ```sh
//! export TIDEWATER_DATABASE_URL='postgres://user:password@localhost/app?sslmode=disable'
//! ```
//!
//! Terminal 1 runs Tidewater. Its first run creates the key `.tidewater/dev-jwks.json`:
//!
//! ```sh
//! tidewater dev --sync-config todo.yaml
//! ```
//!
//! When it prints its address, start the backend in terminal 2. It reads the key:
//!
//! ```sh
//! cargo run -p tidewater-example-backend -- --jwks .tidewater/dev-jwks.json \
//!   --audience tidewater-dev --table todos
//! ```
//!
//! Terminal 3 runs this program:
//!
//! ```sh
//! cargo run -p tidewater-client --example todo -- http://127.0.0.1:8080 \
//!   "$(tidewater token --user-id u1)" http://127.0.0.1:3000/upload 'buy milk'
//! ```

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidewater_client::{Client, FixedToken, HttpConnector, Options, Schema, Status};

const SCHEMA: &str = "CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT, done INTEGER)";
const USAGE: &str = "usage: todo SYNC_URL TOKEN UPLOAD_URL TITLE";
/// The time to wait for the servers before the program reports what is wrong.
const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sync_url, token, upload_url, title] = arguments.as_slice() else {
        return Err(USAGE.into());
    };

    let todos = add_todo(Path::new("todo.db"), sync_url, token, upload_url, title).await?;
    let mut out = std::io::stdout();
    for (title, is_done) in todos {
        writeln!(out, "[{}] {title}", if is_done { 'x' } else { ' ' })?;
    }
    Ok(())
}

/// Adds a to-do, waits until the backend has it, and returns the list.
pub(crate) async fn add_todo(
    database: &Path,
    sync_url: &str,
    token: &str,
    upload_url: &str,
    title: &str,
) -> Result<Vec<(String, bool)>, Box<dyn Error>> {
    // A local file. Reading and writing work without any server.
    let client = Client::open(database, &Schema::parse(SCHEMA)?, Options::default())?;

    // An app would implement `Credentials` and fetch a token whenever it is asked for one.
    let token = Arc::new(FixedToken(token.to_owned()));
    let backend = Arc::new(HttpConnector::new(upload_url, token.clone())?);
    client.connect(sync_url, token, Some(backend))?;

    // An offline app would not wait here. This example prints the whole list, so it waits for the
    // first checkpoint.
    wait_until(&client, |status| status.checkpoint.is_some()).await?;

    // Visible at once. A trigger puts it into the upload queue.
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    let insert = "INSERT INTO todos (id, title, done) VALUES (?1, ?2, 0)";
    client.write(|tx| tx.execute(insert, [hex::encode(id).as_str(), title]))?;

    wait_until(&client, |status| status.queue_length == 0).await?;
    // Rejected transactions are kept until the app discards them, so that it can show them.
    if let Some(rejected) = client.rejected()?.pop() {
        client.discard_rejected(rejected.transaction.transaction_id)?;
        return Err(format!("the backend rejected the to-do: {}", rejected.reason).into());
    }

    let todos = client.read(|db| {
        let mut select = db.prepare("SELECT title, done FROM todos ORDER BY title")?;
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    })?;
    client.disconnect().await;
    Ok(todos)
}

/// Waits until `is_reached` returns true for the status. After [`TIMEOUT`], fails with the client's
/// current problem.
async fn wait_until(
    client: &Client,
    is_reached: impl FnMut(&Status) -> bool,
) -> Result<(), Box<dyn Error>> {
    let mut status = client.status();
    match tokio::time::timeout(TIMEOUT, status.wait_for(is_reached)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(closed)) => return Err(closed.into()),
        Err(_elapsed) => {}
    }

    let now = client.status().borrow().clone();
    let problem = now.download_problem.or(now.upload_problem);
    let message = problem.map_or("the servers do not answer".to_owned(), |p| p.message);
    Err(message.into())
}
