//! Errors of the client's calls.

use crate::schema::SchemaError;

/// An error of a call. Each variant says what the app does about it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The schema is not valid. Correct it: the cause names the line and the column.
    #[error("the schema cannot be used")]
    Schema(#[from] SchemaError),
    /// The file's tables cannot be migrated to the new schema. Only tables, columns and indexes can
    /// be added. Undo the other change, or use a new file.
    #[error("the schema cannot be changed: {0}")]
    SchemaChange(String),
    /// The file is missing, or this library has not written it. Check the path.
    #[error("{0} is not the database of a client")]
    NoDatabase(String),
    /// A rejected transaction cannot be made again, and nothing was changed. Discard it, and let the
    /// user make the change again.
    #[error("transaction {transaction_id} cannot be retried: {reason}")]
    Retry {
        /// The number of the transaction.
        transaction_id: i64,
        /// The reason, for people.
        reason: String,
    },
    /// A newer version of this library wrote the file. Update the app.
    #[error("the database has format {0}, which this version does not know")]
    NewerFormat(i64),
    /// Another client syncs this file, in this process or another. Wait until it disconnects.
    /// Reading and writing work meanwhile.
    #[error("the database is being synced by another client")]
    Locked,
    /// The client is connected already. Disconnect first.
    #[error("the client is connected already")]
    Connected,
    /// The endpoint is not a URL. Correct it.
    #[error("the endpoint is not a URL: {0}")]
    Endpoint(String),
    /// The deadline passed before everything was synced. Call again: what was received is kept.
    #[error("the deadline passed before the first checkpoint was complete")]
    Deadline,
    /// Syncing failed in a way that a retry does not cure, or too often in a row. Show the message.
    #[error("cannot sync: {0}")]
    Sync(String),
    /// SQLite refused the operation, and nothing was changed. The cause tells a constraint from a
    /// full disk.
    #[error("the database refused the operation")]
    Sqlite(#[from] rusqlite::Error),
    /// A file beside the database cannot be used. Check permissions and free space.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: String,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client cannot be set up, for example because the device has no root certificates.
    #[error("cannot start the HTTP client")]
    Http(#[source] reqwest::Error),
}
