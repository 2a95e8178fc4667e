//! A SQLite database on a device, kept in sync with PostgreSQL through Tidewater.
//!
//! The app opens a [`Client`] on a file with a [`Schema`] of plain `CREATE TABLE` and `CREATE
//! INDEX` statements, reads and writes its tables with ordinary SQL, and connects when it likes:
//!
//! ```no_run
//! use std::sync::Arc;
//! use tidewater_client::{Client, FixedToken, HttpConnector, Options, Schema};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let schema = Schema::parse(
//!     "CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT, done INTEGER);
//!      CREATE INDEX todos_done ON todos (done);",
//! )?;
//! let client = Client::open("app.db", &schema, Options::default())?;
//! let token = Arc::new(FixedToken("eyJ...".into()));
//! let backend = HttpConnector::new("https://api.example.com/upload", token.clone())?;
//! client.connect("https://sync.example.com", token, Some(Arc::new(backend)))?;
//! client.write(|tx| tx.execute("UPDATE todos SET done = 1 WHERE id = ?1", ["t1"]))?;
//! let open: i64 = client.read(|db| {
//!     db.query_row("SELECT count(*) FROM todos WHERE done = 0", [], |row| row.get(0))
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! What it promises: the visible rows are the server's at exactly one checkpoint, plus the local
//! writes that the server has not acknowledged. Checkpoints become visible whole. A local
//! transaction is sent as one unit, in order, until there is a verdict on it; one that is rejected
//! is parked where the app can see it, and its rows go back to the server's state at the next
//! checkpoint. The process may end at any point: what a call has returned for is not lost.
//!
//! A bucket may come as a snapshot: files of its rows, fetched in parallel and taken up where a cut
//! or a restart left off ([`Options::snapshots`]). It changes how rows travel, never which. Until
//! the next visible checkpoint the files lie in `<database>-snapshots/`.
//!
//! Priorities: all buckets of a checkpoint become visible together. The server's announcements
//! that the more urgent ones are complete are read as progress only.
#![warn(missing_docs)]

mod api;
mod connector;
mod core;
mod db;
mod error;
mod net;
mod publish;
mod schema;
mod status;
mod sync;

pub use api::client::{Change, ChangeOrigin, Client, Options};
pub use api::sync_once::{Method, SyncReport};
pub use connector::{
    Connector, Credentials, CredentialsError, FixedToken, LocalOp, LocalOperation,
    LocalTransaction, UploadOutcome,
};
pub use db::queue::RejectedUpload;
pub use error::ClientError;
pub use net::http_connector::HttpConnector;
pub use rusqlite;
pub use schema::{Schema, SchemaError};
pub use status::{Connection, Problem, ProblemKind, Progress, Status};
pub use tidewater_protocol::{OpId, StreamSubscription, Streams};
