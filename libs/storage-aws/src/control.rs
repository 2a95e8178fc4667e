//! The control record, closed epochs and generations.

use std::time::Duration;

use tidewater_storage::{
    ClosedEpoch, Control, ControlStore, Generation, GenerationId, ObjectStore, StorageError,
    SwapOutcome,
};

use crate::AwsStore;
use crate::attributes::control::LAYOUT;
use crate::attributes::json_record::REVISION;
use crate::batch::BatchWrite;
use crate::dynamo::{Consistency, ItemWrite, Query, WriteAction, WriteOutcome};
use crate::items::{self, number};
use crate::keys::{self, Item, ItemKey};
use crate::tables::Table;

/// The layout version that this program writes, and the newest one that it reads. Since version 2
/// payloads may be compressed.
const KNOWN_LAYOUT: i64 = 2;

impl<O: ObjectStore + 'static> ControlStore for AwsStore<O> {
    async fn control(&self) -> Result<Option<Control>, StorageError> {
        let item = self.dynamo().get(&ItemKey::control(), Consistency::Strong, None).await?;
        let control = item.as_ref().map(read_control).transpose()?;
        self.changes().control.note_read(control.as_ref().map_or(0, |control| control.revision));
        Ok(control)
    }

    async fn swap_control(
        &self,
        expected: Option<u64>,
        new: &Control,
    ) -> Result<SwapOutcome, StorageError> {
        let outcome = match self.dynamo().write(swap(expected, new)).await {
            Ok(WriteOutcome::Written(_)) => SwapOutcome::Swapped,
            Ok(WriteOutcome::ConditionFailed(stored)) => {
                outcome(stored.as_ref().map(read_control).transpose()?, new)
            }
            // The stored record tells whether the write succeeded. While it is still the expected
            // one, an attempt may be in flight, so the outcome stays unknown.
            Err(StorageError::Unknown(cause)) => {
                let Ok(stored) = self.control().await else {
                    return Err(StorageError::Unknown(cause));
                };
                if stored.as_ref().map(|stored| stored.revision) == expected {
                    return Err(StorageError::Unknown(cause));
                }
                outcome(stored, new)
            }
            Err(error) => return Err(error),
        };

        if outcome == SwapOutcome::Swapped {
            self.changes().control.advance_to(new.revision);
        }
        Ok(outcome)
    }

    async fn wait_for_control_change(
        &self,
        seen: u64,
        timeout: Duration,
    ) -> Result<(), StorageError> {
        let watched = &self.changes().control;
        if watched.newest() < seen {
            // The caller has read a newer record than this process, or the store was restored from
            // a backup. Only the stored record tells which.
            let stored = self.control().await?.map_or(0, |control| control.revision);
            watched.advance_to(stored);
            if stored != seen {
                return Ok(());
            }
        }

        watched.wait(seen, timeout, || self.polled_revision()).await
    }

    async fn archived_epochs(&self) -> Result<Vec<ClosedEpoch>, StorageError> {
        let query = Query::all(Table::Control, keys::closed_epochs_partition());
        let items = self.dynamo().query_all(&query).await?;
        items.iter().map(items::read_closed_epoch).collect()
    }

    async fn archive_epochs(&self, epochs: &[ClosedEpoch]) -> Result<(), StorageError> {
        let puts = epochs
            .iter()
            .map(|closed| BatchWrite::Put(Table::Control, items::closed_epoch(closed)))
            .collect();
        self.dynamo().write_batch(puts).await
    }

    async fn generation(&self, id: GenerationId) -> Result<Option<Generation>, StorageError> {
        let item = self.dynamo().get(&ItemKey::generation(id), Consistency::Strong, None).await?;
        item.as_ref().map(|item| items::read_json("generation", item)).transpose()
    }

    async fn put_generation(&self, generation: &Generation) -> Result<(), StorageError> {
        let key = ItemKey::generation(generation.id);
        let action = WriteAction::Put(items::item(&key, [items::json_attribute(generation)]));
        self.dynamo().write(ItemWrite { key, action, condition: None, values: vec![] }).await?;
        Ok(())
    }
}

impl<O> AwsStore<O> {
    /// Returns the revision of the control record, or 0 if there is none. The read may miss a recent
    /// write, which the next poll finds.
    async fn polled_revision(&self) -> Result<u64, StorageError> {
        let key = ItemKey::control();
        let item = self.dynamo().get(&key, Consistency::Eventual, Some(REVISION)).await?;
        let Some(item) = item else { return Ok(0) };
        items::parse_unsigned(&item, REVISION)
            .ok_or_else(|| items::damaged("control record", &item))
    }
}

fn swap(expected: Option<u64>, new: &Control) -> ItemWrite {
    let key = ItemKey::control();
    let attributes = [
        (REVISION, number(new.revision)),
        (LAYOUT, number(KNOWN_LAYOUT)),
        items::json_attribute(new),
    ];
    let action = WriteAction::Put(items::item(&key, attributes));
    let (condition, values) = items::revision_condition(expected);
    ItemWrite { key, action, condition: Some(condition), values }
}

/// Returns the outcome of a swap whose condition failed. If exactly the new record is stored, an
/// earlier attempt succeeded without a reply.
fn outcome(stored: Option<Control>, new: &Control) -> SwapOutcome {
    if stored.as_ref() == Some(new) {
        SwapOutcome::Swapped
    } else {
        SwapOutcome::Conflict(stored.map(Box::new))
    }
}

fn read_control(item: &Item) -> Result<Control, StorageError> {
    let layout = item.get(LAYOUT).and_then(|layout| layout.as_n().ok()?.parse().ok());
    if let Some(found) = layout.filter(|&found| found > KNOWN_LAYOUT) {
        return Err(StorageError::TooNew { found, known: KNOWN_LAYOUT });
    }
    items::read_json("control record", item)
}
