//! Removes all rows of a table.

use std::collections::BTreeSet;

use tidewater_protocol::{Body, OpId, RowKey};
use tidewater_storage::{
    BucketHead, BucketKey, BucketStore, Catalog, ControlStore, ObjectStore, OpLog, RecordStore,
    Registry, Replay, ReplayError, SegmentReader, StorageError, Truncation,
};

use crate::apply::applier::Applier;
use crate::log::error::WriteError;

/// Buckets that are listed at a time while a table is truncated: bounds the memory of the list.
const BUCKETS_PAGE: usize = 1_000;
/// Attempts to read a bucket while the snapshot builder replaces what is being read.
const REPLAY_ATTEMPTS: u32 = 5;

impl<S> Applier<S>
where
    S: ControlStore + RecordStore + BucketStore + OpLog + ObjectStore + Registry + Clone + 'static,
{
    /// Removes all rows of a table, given by its number: appends a REMOVE for each current row of each
    /// bucket, and notes the truncation. Records of the table with a lower op id count as deleted.
    ///
    /// # Errors
    /// Those of [`LogWriter::flush`](crate::LogWriter::flush).
    pub async fn truncate(&mut self, number: u16) -> Result<(), WriteError> {
        // The current rows are read from stored segments, so the unit must be stored first.
        self.writer.flush().await?;
        self.writer.finish().await?;

        let prefix = format!("{number}.");
        let tags: Vec<_> = self.definition_tags.iter().cloned().collect();
        for tag in tags {
            let mut after = None;
            loop {
                let storage = self.writer.storage();
                let page = storage.registered_buckets(&tag, after.as_ref(), BUCKETS_PAGE).await?;
                for bucket in &page {
                    self.remove_live_rows(bucket, &prefix).await?;
                }
                match page.last() {
                    Some(last) if page.len() == BUCKETS_PAGE => after = Some(last.clone()),
                    _ => break,
                }
            }
        }

        self.unsynced_rows.remove_table(number);
        self.note_unsynced_rows(number);
        let op = self.writer.next_op();
        self.truncated.retain(|truncation| truncation.table != number);
        self.truncated.push(Truncation { table: number, op });
        Ok(())
    }

    /// Appends a REMOVE for each of the bucket's current rows whose subkey begins with `prefix`.
    async fn remove_live_rows(
        &mut self,
        bucket: &BucketKey,
        prefix: &str,
    ) -> Result<(), WriteError> {
        let mut attempt = 1;
        let live = loop {
            match self.live_rows(bucket, prefix).await {
                Ok(live) => break live,
                // The builder has replaced what was being read. A new read begins with the
                // bucket's present catalog.
                Err(ReplayError::Incomplete(_)) if attempt < REPLAY_ATTEMPTS => attempt += 1,
                Err(ReplayError::Incomplete(broken)) => {
                    let error = StorageError::Damaged("log", broken.into());
                    return Err(WriteError::Storage(error));
                }
                Err(ReplayError::Storage(error)) => return Err(error.into()),
            }
        };

        for row in live {
            self.writer.append(bucket.as_str(), Body::Remove { row });
            self.writer.flush_if_full().await?;
        }

        Ok(())
    }

    /// Returns the current rows of a bucket whose subkey begins with `prefix`, as this run sees them:
    /// with what it has stored and not committed.
    async fn live_rows(
        &mut self,
        bucket: &BucketKey,
        prefix: &str,
    ) -> Result<BTreeSet<RowKey<'static>>, ReplayError> {
        let storage = self.writer.storage();
        let committed_ops = self.writer.committed_ops();
        let item = storage.buckets(std::slice::from_ref(bucket)).await?.pop().flatten();
        let Some(item) = item else { return Ok(BTreeSet::new()) };

        let Some(head) =
            item.head.latest_for_writer(committed_ops).and_then(|version| version.value.as_ref())
        else {
            return Ok(BTreeSet::new());
        };

        let head = BucketHead::decode(head)?;
        let catalog = Catalog::decode(&item.catalog)?;

        // What this run has stored counts as well, although it is not committed yet.
        let is_seen =
            |op: OpId| committed_ops.is_committed(op) || committed_ops.is_from_current_epoch(op);
        let mut replay = Replay::new(storage, bucket, catalog.base.as_ref(), head, is_seen);
        let mut live = BTreeSet::new();
        while let Some(payload) = replay.next().await? {
            for operation in SegmentReader::new(&payload) {
                let operation =
                    operation.map_err(|error| StorageError::Damaged("segment", error.into()))?;
                match operation.body {
                    Body::Put { row, .. } if row.subkey.starts_with(prefix) => {
                        live.insert(row.into_owned());
                    }
                    Body::Remove { row } => {
                        live.remove(&row.into_owned());
                    }
                    Body::Put { .. } | Body::Move | Body::Clear => {}
                }
            }
        }

        Ok(live)
    }
}
