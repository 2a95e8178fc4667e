//! The parts that the app provides: a connector to its own backend, and credentials.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Sends local transactions to the app's backend. [`crate::HttpConnector`] is one over HTTP.
///
/// One transaction is sent at a time, in the order of the commits. It is sent again until there is
/// a verdict, also after a restart of the app. The backend must therefore be idempotent: it applies
/// each `(client id, transaction id)` once.
pub trait Connector: Send + Sync + 'static {
    /// Sends one local transaction.
    fn upload<'a>(&'a self, transaction: &'a LocalTransaction) -> BoxFuture<'a, UploadOutcome>;
}

/// The outcome of sending a local transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadOutcome {
    /// It took effect, now or when it was sent before.
    Applied,
    /// It will never take effect. It is moved to [`crate::Client::rejected`], the queue continues,
    /// and the next checkpoint reverts its rows to the server's state. Changes that other processes
    /// made to the file between two uploads are one transaction: these are sent again one by one.
    Rejected {
        /// The reason, for people.
        reason: String,
        /// The body of the backend's answer, for the app.
        body: Option<String>,
    },
    /// There is no verdict. It is sent again.
    Retry {
        /// The earliest time of the next attempt. The client's own back-off may be longer.
        after: Option<Duration>,
        /// The reason, for people.
        reason: String,
    },
}

/// The changes of one local transaction, in the order they were made. [`crate::HttpConnector`]
/// posts it as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalTransaction {
    /// The identity of the database file.
    pub client_id: String,
    /// The user who made it: the `sub` of the tokens that the file was synced with; none before the
    /// first. Not part of the JSON, since the backend knows the user from the request's token.
    #[serde(skip)]
    pub user_id: Option<String>,
    /// The number of the transaction in that file. Later commits have greater numbers. Never
    /// reused.
    pub transaction_id: i64,
    /// The changes.
    pub operations: Vec<LocalOperation>,
}

/// A change of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalOperation {
    /// The kind of change.
    pub op: LocalOp,
    /// The row's table.
    pub table: String,
    /// The row's key.
    pub id: String,
    /// PUT: the columns but the key; those that are NULL only if the row replaced another one, so
    /// that the source's defaults apply to a new row. PATCH: the columns that changed. DELETE: empty.
    #[serde(default)]
    pub data: Map<String, Value>,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LocalOp {
    /// The row was inserted, or replaced as a whole.
    Put,
    /// Some of its columns changed.
    Patch,
    /// The row was deleted.
    Delete,
}

/// Provides the token for the server and, with [`crate::HttpConnector`], for the backend.
pub trait Credentials: Send + Sync + 'static {
    /// Returns a fresh token. Called when there is none, when one was refused, and shortly before
    /// one expires. A call that takes longer than a minute counts as failed.
    ///
    /// # Errors
    /// Returns any error. It is shown in the status, and the call is retried.
    fn token(&self) -> BoxFuture<'_, Result<String, CredentialsError>>;
}

/// The reason why there is no token. Its text is shown in the status.
pub type CredentialsError = Box<dyn std::error::Error + Send + Sync>;

/// Credentials with one token that never changes; for tools and tests.
#[derive(Clone)]
pub struct FixedToken(pub String);

impl Credentials for FixedToken {
    fn token(&self) -> BoxFuture<'_, Result<String, CredentialsError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

impl std::fmt::Debug for FixedToken {
    /// Prints no token: it is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FixedToken(..)")
    }
}
