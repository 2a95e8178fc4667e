//! The control record, closed epochs and generations.

use std::time::Duration;

use tidewater_storage::{
    ClosedEpoch, Control, ControlStore, Generation, GenerationId, ObjectStore, StorageError,
    SwapOutcome,
};

use crate::Aws;
use crate::batch::BatchWrite;
use crate::dynamo::{Outcome, Query, Read, What, Write};
use crate::items::{self, LAYOUT, REVISION, number};
use crate::keys::{self, Item, ItemKey};
use crate::tables::{PARTITION, Table};

/// The layout that this program writes, and the newest that it reads.
const KNOWN_LAYOUT: i64 = 1;

impl<O: ObjectStore + 'static> ControlStore for Aws<O> {
    async fn control(&self) -> Result<Option<Control>, StorageError> {
        let item = self.dynamo().get(&ItemKey::control(), Read::Strong, None).await?;
        item.as_ref().map(read_control).transpose()
    }

    async fn swap_control(
        &self,
        expected: Option<u64>,
        new: &Control,
    ) -> Result<SwapOutcome, StorageError> {
        let outcome = match self.dynamo().write(swap(expected, new)).await {
            Ok(Outcome::Done(_)) => SwapOutcome::Done,
            Ok(Outcome::Refused(stored)) => {
                outcome(stored.as_ref().map(read_control).transpose()?, new)
            }
            // It may have been written, or may still be if the revision has not moved on.
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
        if outcome == SwapOutcome::Done {
            self.changes().control.is(new.revision);
        }
        Ok(outcome)
    }

    async fn control_changed(&self, seen: u64, timeout: Duration) -> Result<(), StorageError> {
        let watched = &self.changes().control;
        if watched.newest() < seen {
            // Either the caller is ahead of us, or the store was put back to an older state.
            let stored = self.control().await?.map_or(0, |control| control.revision);
            watched.is(stored);
            if stored != seen {
                return Ok(());
            }
        }
        let look = async || {
            let key = ItemKey::control();
            let item = self.dynamo().get(&key, Read::Eventual, Some(REVISION)).await?;
            let revision = |item| {
                let found = items::natural(&item, REVISION);
                found.ok_or_else(|| items::damaged("control record", &item))
            };
            item.map_or(Ok(0), revision)
        };
        watched.wait(seen, timeout, look).await
    }

    async fn archived_epochs(&self) -> Result<Vec<ClosedEpoch>, StorageError> {
        let query = Query::all(Table::Control, keys::closed_epochs_partition());
        let items = self.dynamo().query_all(&query).await?;
        items.iter().map(items::read_closed_epoch).collect()
    }

    async fn archive_epochs(&self, epochs: &[ClosedEpoch]) -> Result<(), StorageError> {
        let put = |closed| BatchWrite::Put(Table::Control, items::closed_epoch(closed));
        self.dynamo().write_batch(epochs.iter().map(put).collect()).await
    }

    async fn generation(&self, id: GenerationId) -> Result<Option<Generation>, StorageError> {
        let item = self.dynamo().get(&ItemKey::generation(id), Read::Strong, None).await?;
        item.as_ref().map(|item| items::read_record("generation", item)).transpose()
    }

    async fn put_generation(&self, generation: &Generation) -> Result<(), StorageError> {
        let key = ItemKey::generation(generation.id);
        let what = What::Put(items::item(&key, [items::record(generation)]));
        self.dynamo().write(Write { key, what, condition: None, values: vec![] }).await?;
        Ok(())
    }
}

fn swap(expected: Option<u64>, new: &Control) -> Write {
    let key = ItemKey::control();
    let (revision, layout) = ((REVISION, number(new.revision)), (LAYOUT, number(KNOWN_LAYOUT)));
    let what = What::Put(items::item(&key, [revision, layout, items::record(new)]));
    let (condition, values) = match expected {
        None => (absent(), vec![]),
        Some(expected) => ("r = :r", vec![(":r", number(expected))]),
    };
    Write { key, what, condition: Some(condition), values }
}

/// The condition that there is no item.
pub(crate) const fn absent() -> &'static str {
    assert!(matches!(PARTITION.as_bytes(), b"p"), "the condition names the partition key");
    "attribute_not_exists(p)"
}

fn outcome(stored: Option<Control>, new: &Control) -> SwapOutcome {
    if stored.as_ref() == Some(new) {
        SwapOutcome::Done
    } else {
        SwapOutcome::Refused(stored.map(Box::new))
    }
}

fn read_control(item: &Item) -> Result<Control, StorageError> {
    let layout = item.get(LAYOUT).and_then(|layout| layout.as_n().ok()?.parse().ok());
    if let Some(found) = layout.filter(|&found| found > KNOWN_LAYOUT) {
        return Err(StorageError::TooNew { found, known: KNOWN_LAYOUT });
    }
    items::read_record("control record", item)
}
