//! A SQLite database on a device, kept in sync with PostgreSQL through Tidewater.
//!
//! The app opens a [`Client`] on a file with a [`Schema`] of plain `CREATE TABLE` and `CREATE
//! INDEX` statements. It reads and writes its tables with ordinary SQL, and connects when it likes:
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
//!
//! let token = Arc::new(FixedToken("eyJ...".into()));
//! let backend = HttpConnector::new("https://api.example.com/upload", token.clone())?;
//! client.connect("https://sync.example.com", token, Some(Arc::new(backend)))?;
//!
//! client.write(|tx| tx.execute("UPDATE todos SET done = 1 WHERE id = ?1", ["t1"]))?;
//! let open: i64 = client.read(|db| {
//!     db.query_row("SELECT count(*) FROM todos WHERE done = 0", [], |row| row.get(0))
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! `client/examples/todo.rs` is a complete program.
//!
//! # Core types
//!
//! - [`Client`]: the database. [`Client::read`], [`Client::write`], [`Client::connect`],
//!   [`Client::sync_once`].
//! - [`Schema`]: the synced tables and indexes. [`Options`]: the app's choices.
//! - [`Credentials`]: the app's source of tokens. [`Connector`]: the way to the app's own backend;
//!   [`HttpConnector`] is one over HTTP.
//! - [`Status`]: what to show the user. [`Change`]: which tables to read again.
//! - [`RejectedUpload`]: a local transaction that the backend rejected.
//!
//! # Guarantees
//!
//! - The visible rows are the server's at exactly one checkpoint, plus the local writes that this
//!   checkpoint does not contain. A checkpoint becomes visible as a whole.
//! - A local transaction is sent as one unit, in the order of commits, until there is a verdict. A
//!   rejected one is moved to [`Client::rejected`], and the next checkpoint reverts its rows to the
//!   server's state. [`Client::retry_rejected`] makes its changes again.
//! - A local transaction is sent with a token of the user who made it, and with no other's.
//! - The process may end at any point: when a call has returned, its effect is on disk.
//!
//! # Errors
//!
//! Calls return [`ClientError`]; each variant says what the app does about it. An error leaves the
//! database as it was.
//!
//! A connected client handles failures itself: it retries with back-off and never gives up. The app
//! reads [`Status::download_problem`] and [`Status::upload_problem`]. Their [`ProblemKind`] says
//! who can help: nobody has to for [`ProblemKind::Network`], [`ProblemKind::Checksum`] and
//! [`ProblemKind::Upload`]; the user for [`ProblemKind::Credentials`], [`ProblemKind::OtherUser`] and
//! [`ProblemKind::Storage`];
//! the developer for [`ProblemKind::Schema`] and [`ProblemKind::Protocol`].
//!
//! # Snapshots and priorities
//!
//! A bucket may come as a snapshot: files of its rows, fetched in parallel and resumed after a cut
//! or a restart ([`Options::snapshots`]). It changes how rows are transferred, never which. Until
//! the next visible checkpoint the files lie in `<database>-snapshots/`.
//!
//! All buckets of a checkpoint become visible together. The server's announcement that buckets of a
//! high priority are complete counts as progress only.
//!
//! # Layers
//!
//! Each imports only what is below it: `api` (the calls), `sync` (the running session), `publish`
//! (makes checkpoints visible), `net` (HTTP) and `db` (the file), `core` (the sans-I/O state
//! machine), and the types that all share. `client/LAYOUT.md` describes the stored tables.
#![warn(missing_docs)]

mod api;
mod connector;
mod core;
mod db;
mod error;
mod lock;
mod net;
mod publish;
mod schema;
mod status;
mod subject;
mod sync;

pub use api::SyncReport;
pub use api::client::Client;
pub use api::options::Options;
pub use connector::{
    Connector, Credentials, CredentialsError, FixedToken, LocalOp, LocalOperation,
    LocalTransaction, UploadOutcome,
};
pub use db::queue::rejected::RejectedUpload;
pub use error::ClientError;
pub use net::http_connector::HttpConnector;
pub use rusqlite;
pub use schema::{Schema, SchemaError};
pub use status::{Connection, Problem, ProblemKind, Progress, Status};
pub use sync::shared::{Change, ChangeOrigin};
pub use sync::stats::TransferMethod;
pub use tidewater_protocol::{OpId, StreamSubscription, Streams};
