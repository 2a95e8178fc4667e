//! The connections: one for writes, and a few for reads. All of them are used on blocking threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::Semaphore;

use super::wal_checkpointer::WalCheckpointer;
use super::{failure, schema};
use crate::error::StorageError;

/// The maximum number of concurrent reads; more reads wait.
const READERS_MAX: usize = 8;

/// The durability of a write when its call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// The write survives a process crash. A power failure may undo it and all later writes.
    Process,
    /// The write and all earlier writes survive a power failure.
    Machine,
}

#[derive(Debug)]
pub(super) struct ConnectionPool {
    writer: Arc<tokio::sync::Mutex<Writer>>,
    readers: Arc<Readers>,
    wal_checkpointer: Arc<WalCheckpointer>,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    durability: Option<Durability>,
}

#[derive(Debug)]
struct Readers {
    file: PathBuf,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl ConnectionPool {
    pub(super) fn new(file: PathBuf, writer: Connection) -> Self {
        let writer = Writer { connection: writer, durability: None };
        let turns = Arc::new(Semaphore::new(READERS_MAX));
        let wal_checkpointer = Arc::new(WalCheckpointer::new(file.clone()));
        let readers = Readers { file, turns, idle: Mutex::default() };
        Self {
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            readers: Arc::new(readers),
            wal_checkpointer,
        }
    }

    /// Runs `work` in a transaction, which is committed unless it fails. It runs to its end even if
    /// the caller stops waiting.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let wal_checkpointer = Arc::clone(&self.wal_checkpointer);

        blocking(move || {
            let result = writer.write(durability, work);
            wal_checkpointer.committed();
            wal_checkpointer.checkpoint_if_large(&writer.connection);
            result
        })
        .await
    }

    /// Runs `work` on a connection that sees all transactions committed before the call.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let readers = Arc::clone(&self.readers);
        let turn = Arc::clone(&readers.turns).acquire_owned().await;

        blocking(move || {
            let _turn = turn.map_err(|closed| StorageError::Unavailable(closed.into()))?;
            let connection = readers.take()?;
            let result = work(&connection);
            // After an error the state of the connection is unknown, so it is not used again.
            if result.is_ok() {
                readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            result
        })
        .await
    }
}

impl Writer {
    fn write<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if self.durability != Some(durability) {
            let level = match durability {
                Durability::Process => "NORMAL",
                Durability::Machine => "FULL",
            };
            self.connection
                .pragma_update(None, "synchronous", level)
                .map_err(failure::of_sqlite)?;
            self.durability = Some(durability);
        }

        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failure::of_sqlite)?;
        let result = work(&transaction)?;
        transaction.commit().map_err(failure::of_commit)?;
        Ok(result)
    }
}

impl Readers {
    fn take(&self) -> Result<Connection, StorageError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        schema::connect_for_reading(&self.file).map_err(failure::of_sqlite)
    }
}

/// Runs several reads in one transaction, so that they see the same state. This is also faster than a
/// transaction for each.
pub(super) fn in_one_snapshot<T>(
    connection: &Connection,
    reads: impl FnOnce(&Connection) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let transaction = connection.unchecked_transaction().map_err(failure::of_sqlite)?;
    let result = reads(&transaction)?;
    transaction.finish().map_err(failure::of_sqlite)?;
    Ok(result)
}

/// Runs `work` on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and dropped the work before it began.
            Err(cancelled) => Err(StorageError::Unavailable(cancelled.into())),
        },
    }
}
