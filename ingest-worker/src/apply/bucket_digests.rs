//! Reads and uses the digests of the rows in buckets, while a table is copied again over its rows.

use std::borrow::Cow;
use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use tidewater_protocol::{Body, RowKey};
use tidewater_storage::{
    BucketStore, ControlStore, ObjectStore, OpLog, RecordStore, Registry, StorageError,
};

use crate::apply::applier::Applier;
use crate::apply::digests::{BucketDigests, note_operation};
use crate::apply::source_row::{Membership, UNKNOWN_DIGEST};
use crate::log::error::WriteError;

/// Buckets that are read at once. A small bucket is two calls, each of some milliseconds on AWS, so with
/// 100,000 buckets the copy would begin half an hour later if they were read one after another. Each may have
/// a page of 4 MiB of its log in memory.
const BUCKETS_READ_AT_ONCE: usize = 8;

impl<S> Applier<S>
where
    S: ControlStore + RecordStore + BucketStore + OpLog + ObjectStore + Registry + Clone + 'static,
{
    /// Reads the digests that a copy over stored rows needs, if one is to be made or continued.
    ///
    /// # Errors
    /// If the store fails, or has no complete log of a bucket.
    pub(crate) async fn load_bucket_digests(&mut self) -> Result<(), WriteError> {
        let former: Vec<_> = self.tables.iter().filter(|table| table.has_former_rows).collect();
        if former.is_empty() {
            return Ok(());
        }

        let prefixes: Vec<_> = former.iter().map(|table| format!("{}.", table.number)).collect();
        // Those of all definitions: a record may be from a time at which the table had fewer columns, so
        // that a definition had them all.
        let definitions: BTreeSet<usize> =
            former.iter().flat_map(|table| table.evaluator.definitions()).collect();
        tracing::info!(
            tables = former.len(),
            "reading what buckets have of tables that are copied again"
        );
        let digests = BucketDigests::new()?;
        for definition in definitions {
            let tag = self.definition_tag(definition);
            let mut after = None;
            loop {
                let page = self.buckets_after(tag, after.as_ref()).await?;
                let reads = page.buckets.iter().map(|bucket| {
                    self.fold_bucket(bucket, |(): &mut (), operation: Body<'_>| {
                        note_operation(&digests, bucket.as_str(), &prefixes, &operation)
                    })
                });
                // All futures are made before the first one is polled: they are small, and a page is bounded.
                let reads: Vec<_> = reads.collect();
                let mut reads = stream::iter(reads).buffer_unordered(BUCKETS_READ_AT_ONCE);
                while reads.try_next().await?.is_some() {}

                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }

        self.bucket_digests = Some(digests);
        Ok(())
    }
}

impl<S: ControlStore + RecordStore + Clone + 'static> Applier<S> {
    /// Returns former memberships of a row with those digests that its record does not have and the
    /// buckets have; `self.subkey` is that of the row.
    pub(super) fn with_digests<'a, 'b>(
        &mut self,
        old: &'a [Membership<'b>],
    ) -> Result<Cow<'a, [Membership<'b>]>, StorageError> {
        if self.bucket_digests.is_none() {
            return Ok(Cow::Borrowed(old));
        }

        let mut known = old.to_vec();
        for membership in known.iter_mut().filter(|known| known.digest == UNKNOWN_DIGEST) {
            self.name_bucket(membership);
            let row = RowKey::new(membership.object_type, membership.object_id, &self.subkey);
            if let Some(digests) = &self.bucket_digests
                && let Some(digest) = digests.get(&self.bucket, &row)?
            {
                membership.digest = digest.0;
            }
        }
        Ok(Cow::Owned(known))
    }

    /// Drops the digests that the record of a row does not keep.
    pub(super) fn drop_digests(&self, table: usize, memberships: &mut [Membership<'_>]) {
        let free = &self.digest_free[table];
        for membership in memberships.iter_mut().filter(|one| free.contains(&one.definition)) {
            membership.digest = UNKNOWN_DIGEST;
        }
    }
}
