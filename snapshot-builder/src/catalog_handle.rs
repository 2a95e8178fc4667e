//! A bucket's catalog, and its conditional replacement.

use tidewater_storage::{BucketItem, BucketKey, BucketStore, Catalog, ObjectStore, OpLog};

use crate::base_objects::delete_base;
use crate::error::BuildError;
use crate::policy;

/// A bucket's catalog as this builder last read or wrote it.
pub(crate) struct CatalogHandle<'a> {
    bucket: &'a BucketKey,
    catalog: Catalog,
    revision: u64,
}

impl<'a> CatalogHandle<'a> {
    /// Decodes the catalog of a bucket's item.
    pub(crate) fn read(bucket: &'a BucketKey, item: &BucketItem) -> Result<Self, BuildError> {
        let catalog = Catalog::decode(&item.catalog)?;
        Ok(Self { bucket, catalog, revision: item.catalog_revision })
    }

    /// Returns the catalog.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Replaces the catalog, unless another builder has replaced it. Returns whether it did.
    pub(crate) async fn swap<S: BucketStore>(
        &mut self,
        storage: &S,
        next: Catalog,
    ) -> Result<bool, BuildError> {
        if next == self.catalog {
            return Ok(true);
        }
        if !storage.swap_catalog(self.bucket, self.revision, &next.encode()).await? {
            return Ok(false);
        }

        self.catalog = next;
        self.revision += 1;
        Ok(true)
    }

    /// Deletes what has expired, then removes it from the catalog. Returns whether the catalog is still
    /// this builder's, as [`CatalogHandle::swap`] does.
    ///
    /// The catalog names everything that is to be deleted until it *is* deleted. So a builder that is
    /// killed in between leaves the names, and a later pass deletes the rest.
    pub(crate) async fn delete_expired<S: BucketStore + ObjectStore + OpLog>(
        &mut self,
        storage: &S,
        now: u64,
    ) -> Result<bool, BuildError> {
        let (expired, next) = policy::split_expired(&self.catalog, now);
        for base in &expired.bases {
            delete_base(storage, base).await?;
        }
        if let Some(upto) = expired.segments {
            storage.delete_segments(self.bucket, upto).await?;
        }
        self.swap(storage, next).await
    }
}
