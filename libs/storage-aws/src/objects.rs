//! The object port: calls go to the object store of the deployment.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tidewater_storage::{ObjectStore, StorageError};

use crate::AwsStore;

impl<O: ObjectStore + 'static> ObjectStore for AwsStore<O> {
    async fn put_object(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        self.objects().put_object(name, content).await
    }

    async fn put_object_file(&self, name: &str, file: &Path) -> Result<(), StorageError> {
        self.objects().put_object_file(name, file).await
    }

    async fn object_url(
        &self,
        name: &str,
        lifetime: Duration,
    ) -> Result<Option<String>, StorageError> {
        self.objects().object_url(name, lifetime).await
    }

    async fn object_range(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StorageError> {
        self.objects().object_range(name, range).await
    }

    async fn delete_object(&self, name: &str) -> Result<(), StorageError> {
        self.objects().delete_object(name).await
    }
}
