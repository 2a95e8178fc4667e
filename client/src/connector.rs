//! Where local transactions go: the app's own backend.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Takes local transactions to the app's backend.
///
/// One is sent at a time, in the order they were committed. The same transaction is sent again
/// until there is a verdict, also after a restart of the app: the backend must take
/// `(client id, transaction id)` as the key under which it does each of them once.
pub trait Connector: Send + Sync + 'static {
    /// Sends one local transaction.
    fn upload<'a>(&'a self, transaction: &'a LocalTransaction) -> BoxFuture<'a, UploadOutcome>;
}

/// Verdict on a local transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadOutcome {
    /// It took effect, now or when it was sent before.
    Applied,
    /// It never will: it is parked where the app can see it, the queue goes on, and the rows go
    /// back to the server's state at the next checkpoint.
    Rejected {
        /// For people.
        reason: String,
        /// What the backend said, for the app.
        body: Option<String>,
    },
    /// No verdict: it is sent again.
    Retry {
        /// Not before this time; the client's own back-off may be longer.
        after: Option<Duration>,
        /// For people.
        reason: String,
    },
}

/// The changes of one local transaction, in the order they were made. As JSON it is what
/// [`crate::HttpConnector`] posts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalTransaction {
    /// Identity of the database file.
    pub client_id: String,
    /// Number of the transaction in that file; greater ones were committed later. Never reused.
    pub transaction_id: i64,
    /// Its changes.
    pub operations: Vec<LocalOperation>,
}

/// One changed row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalOperation {
    /// What happened to it.
    pub op: LocalOp,
    /// Its table.
    pub table: String,
    /// Its key.
    pub id: String,
    /// PUT: all columns but the key. PATCH: those that changed. DELETE: empty.
    #[serde(default)]
    pub data: Map<String, Value>,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LocalOp {
    /// It was inserted, or replaced as a whole.
    Put,
    /// Some of its columns changed.
    Patch,
    /// It was deleted.
    Delete,
}

/// Gives the token that the server (and, with [`crate::HttpConnector`], the backend) asks for.
pub trait Credentials: Send + Sync + 'static {
    /// A fresh token. Called when there is none, when one was refused and shortly before one
    /// expires. One that takes longer than a minute counts as failed.
    ///
    /// # Errors
    /// Anything; it is shown in the status, and tried again.
    fn token(&self) -> BoxFuture<'_, Result<String, CredentialsError>>;
}

/// Why there is no token. Its text is shown in the status.
pub type CredentialsError = Box<dyn std::error::Error + Send + Sync>;

/// One token for ever; for tools and tests.
#[derive(Clone)]
pub struct FixedToken(pub String);

impl Credentials for FixedToken {
    fn token(&self) -> BoxFuture<'_, Result<String, CredentialsError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

/// Tokens are secrets: never printed.
impl std::fmt::Debug for FixedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FixedToken(..)")
    }
}
