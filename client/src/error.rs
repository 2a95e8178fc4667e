//! Why a call of the client failed.

use crate::schema::SchemaError;

/// Why a call of the client failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The app's schema has to be mended.
    #[error("the schema cannot be used")]
    Schema(#[from] SchemaError),
    /// The file's tables cannot be taken to the new schema: only new tables, columns and indexes
    /// can be added to it.
    #[error("the schema cannot be changed: {0}")]
    SchemaChange(String),
    /// The file was written by a newer version of this library: update the app.
    #[error("the database has format {0}, which this version does not know")]
    NewerFormat(i64),
    /// Another process (or another client in this one) syncs this file: let it, or end it.
    #[error("the database is being synced by another client")]
    Locked,
    /// The client is connected already: disconnect first.
    #[error("the client is connected already")]
    Connected,
    /// The endpoint has to be mended.
    #[error("the endpoint is not a URL: {0}")]
    Endpoint(String),
    /// The time given was over before all was synced. What was received is kept.
    #[error("the deadline passed before the first checkpoint was complete")]
    Deadline,
    /// Syncing failed for good, or too often in a row.
    #[error("cannot sync: {0}")]
    Sync(String),
    /// The database refused the operation; nothing was changed.
    #[error("the database refused the operation")]
    Sqlite(#[from] rusqlite::Error),
    /// A file beside the database cannot be used.
    #[error("cannot use {path}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client cannot be made.
    #[error("cannot start the HTTP client")]
    Http(#[source] reqwest::Error),
}
