//! Removes all rows of a table.

use std::collections::BTreeSet;

use tidewater_protocol::{Body, RowKey};
use tidewater_storage::{
    BucketKey, BucketStore, ControlStore, ObjectStore, OpLog, RecordStore, Registry, Truncation,
};

use crate::apply::applier::Applier;
use crate::log::error::WriteError;

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
                let page = self.buckets_after(&tag, after.as_ref()).await?;
                for bucket in &page.buckets {
                    self.remove_live_rows(bucket, &prefix).await?;
                }
                after = page.next;
                if after.is_none() {
                    break;
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
        let fold = |live: &mut BTreeSet<RowKey<'static>>, operation: Body<'_>| {
            match operation {
                Body::Put { row, .. } if row.subkey.starts_with(prefix) => {
                    live.insert(row.into_owned());
                }
                Body::Remove { row } => {
                    live.remove(&row.into_owned());
                }
                Body::Put { .. } | Body::Move | Body::Clear => {}
            }
            Ok(())
        };

        for row in self.fold_bucket(bucket, fold).await? {
            self.writer.append(bucket.as_str(), Body::Remove { row });
            self.writer.flush_if_full().await?;
        }
        Ok(())
    }
}
