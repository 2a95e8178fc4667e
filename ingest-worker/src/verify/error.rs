//! Errors of a comparison.

use std::io;
use std::time::Duration;

use tidewater_storage::StorageError;

use crate::initial_copy::table_numbers::NumberingError;
use crate::source::connect::ConnectError;
use crate::source::error::SourceError;

/// A reason why the store could not be compared, sorted by what its caller does next.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Fix the connection string, the network or the role.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Name a table or bucket that exists.
    #[error("{0}")]
    Selection(String),
    /// Start the worker, or wait until its first copy is complete.
    #[error(
        "the store has no checkpoint yet: wait until `tidewater dev` or `tidewater ingest` is ready"
    )]
    NoCheckpoint,
    /// Start the worker, or see why it does not go on.
    #[error(
        "the store did not reach the source's position within {} s: is the ingest worker running, and \
         does it keep up? Its readiness probe and its log say what it does",
        .0.as_secs()
    )]
    WorkerBehind(Duration),
    /// Name the database that the store is filled from.
    #[error(
        "the store is filled from {stored}, and this is {found}: name the same database as the ingest \
         worker, on its primary server"
    )]
    OtherSource {
        /// The source of the store.
        stored: String,
        /// The database that was named.
        found: String,
    },
    /// Try again: the worker is copying what has changed.
    #[error(
        "the tables or the sync config have changed, and the store does not have the change yet: {0}; \
         try again when the ingest worker has copied them"
    )]
    Changing(String),
    /// Use the version of the program that the worker has.
    #[error(
        "the stored sync config cannot be used: {0}; use the version of tidewater that filled the store"
    )]
    Config(String),
    /// Use a sync config with fewer tables.
    #[error(transparent)]
    Numbering(#[from] NumberingError),
    /// Try again if the connection broke; otherwise fix what the server's message names.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Try again; fix the store if it stays.
    #[error("the store cannot be read")]
    Storage(#[from] StorageError),
    /// Free disk space, or set TMPDIR.
    #[error("a temporary file cannot be written or read")]
    Spill(#[from] io::Error),
}
