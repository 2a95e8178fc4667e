//! The control record, closed epochs and generations.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Serialize, de::DeserializeOwned};
use tidewater_protocol::{Epoch, OpId};

use super::connection_pool::Durability;
use super::{Embedded, failure};
use crate::committed_ops::ClosedEpoch;
use crate::control::Control;
use crate::error::{BoxError, StorageError};
use crate::generation::Generation;
use crate::keys::GenerationId;
use crate::ports::{ControlStore, SwapOutcome};

impl ControlStore for Embedded {
    async fn control(&self) -> Result<Option<Control>, StorageError> {
        self.reading(stored_control).await
    }

    async fn swap_control(
        &self,
        expected: Option<u64>,
        new: &Control,
    ) -> Result<SwapOutcome, StorageError> {
        let new = new.clone();
        let revision = new.revision;
        let outcome = self
            .writing(Durability::Machine, move |transaction| {
                let stored = stored_control(transaction)?;
                let found = stored.as_ref().map(|stored| stored.revision);
                // After a lost reply the same record is written again. Only this commit makes the
                // batches durable that were stored in between.
                if found != expected && stored.as_ref() != Some(&new) {
                    return Ok(SwapOutcome::Conflict(stored.map(Box::new)));
                }
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO control VALUES (1, ?1, ?2)")
                    .and_then(|mut insert| {
                        insert.execute(params![new.revision.cast_signed(), to_record(&new)])
                    })
                    .map_err(failure::of_sqlite)?;
                Ok(SwapOutcome::Swapped)
            })
            .await?;

        if outcome == SwapOutcome::Swapped {
            self.inner.changes.control_advanced_to(revision);
        }
        Ok(outcome)
    }

    async fn wait_for_control_change(
        &self,
        seen: u64,
        timeout: Duration,
    ) -> Result<(), StorageError> {
        let changes = &self.inner.changes;
        if changes.newest().control < seen {
            // The caller has read a newer record than this process, or the store was restored from
            // a backup. Only the stored record tells which.
            let stored = self.control().await?.map_or(0, |control| control.revision);
            changes.control_advanced_to(stored);
            if stored != seen {
                return Ok(());
            }
        }

        changes.wait(timeout, |newest| newest.control > seen).await;
        Ok(())
    }

    async fn archived_epochs(&self) -> Result<Vec<ClosedEpoch>, StorageError> {
        self.reading(|connection| {
            let stored = stored_epochs(connection).map_err(failure::of_sqlite)?;
            stored.into_iter().map(closed_epoch).collect()
        })
        .await
    }

    async fn archive_epochs(&self, epochs: &[ClosedEpoch]) -> Result<(), StorageError> {
        if epochs.is_empty() {
            return Ok(());
        }
        let epochs = epochs.to_vec();

        // The next control record makes this durable, before it drops the epochs from its own list.
        self.writing(Durability::Process, move |transaction| {
            insert_epochs(transaction, &epochs).map_err(failure::of_sqlite)
        })
        .await
    }

    async fn generation(&self, id: GenerationId) -> Result<Option<Generation>, StorageError> {
        self.reading(move |connection| {
            let stored = connection
                .prepare_cached("SELECT record FROM generation WHERE id = ?1")
                .and_then(|mut select| {
                    select.query_row([id.0.number()], |row| row.get::<_, String>(0)).optional()
                })
                .map_err(failure::of_sqlite)?;
            stored.map(|record| from_record("generation", &record)).transpose()
        })
        .await
    }

    async fn put_generation(&self, generation: &Generation) -> Result<(), StorageError> {
        let id = generation.id;
        let record = to_record(generation);
        self.writing(Durability::Process, move |transaction| {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO generation VALUES (?1, ?2)")
                .and_then(|mut insert| insert.execute((id.0.number(), record)))
                .map_err(failure::of_sqlite)?;
            Ok(())
        })
        .await
    }
}

fn stored_control(connection: &Connection) -> Result<Option<Control>, StorageError> {
    let stored = connection
        .prepare_cached("SELECT record FROM control")
        .and_then(|mut select| select.query_row((), |row| row.get::<_, String>(0)).optional())
        .map_err(failure::of_sqlite)?;
    stored.map(|record| from_record("control record", &record)).transpose()
}

/// Returns the numbers of the archived epochs, and their last committed op ids.
fn stored_epochs(connection: &Connection) -> rusqlite::Result<Vec<(u32, i64)>> {
    connection
        .prepare_cached("SELECT epoch, last FROM closed_epoch ORDER BY epoch")?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn insert_epochs(transaction: &Transaction<'_>, epochs: &[ClosedEpoch]) -> rusqlite::Result<()> {
    let mut insert =
        transaction.prepare_cached("INSERT OR IGNORE INTO closed_epoch VALUES (?1, ?2)")?;
    for closed in epochs {
        insert.execute((closed.epoch.number(), closed.last_committed.get()))?;
    }
    Ok(())
}

fn closed_epoch((epoch, last): (u32, i64)) -> Result<ClosedEpoch, StorageError> {
    match (Epoch::new(epoch), OpId::from_i64(last)) {
        (Some(epoch), Some(last_committed)) => Ok(ClosedEpoch { epoch, last_committed }),
        _ => {
            let cause: BoxError = format!("epoch {epoch}, last op id {last}").into();
            Err(StorageError::Damaged("closed epoch", cause))
        }
    }
}

/// Returns the stored form of a record: JSON.
pub(super) fn to_record(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a record of texts, numbers and lists is valid JSON")
}

/// Reads the stored form of a record. `kind` names it in errors.
pub(super) fn from_record<T: DeserializeOwned>(
    kind: &'static str,
    record: &str,
) -> Result<T, StorageError> {
    serde_json::from_str(record).map_err(|error| StorageError::Damaged(kind, error.into()))
}
