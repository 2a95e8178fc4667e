//! Objects, stored as files.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::connection_pool::blocking;
use super::object_files::read;
use super::{Embedded, failure};
use crate::error::StorageError;
use crate::ports::ObjectStore;

impl ObjectStore for Embedded {
    async fn put_object(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        let objects = Arc::clone(&self.inner.objects);
        let path = objects.path(name)?;
        blocking(move || objects.put(&path, &content).map_err(failure::of_file)).await
    }

    async fn put_object_file(&self, name: &str, file: &Path) -> Result<(), StorageError> {
        let objects = Arc::clone(&self.inner.objects);
        let path = objects.path(name)?;
        let file = file.to_path_buf();
        blocking(move || {
            let mut content = File::open(file).map_err(failure::of_file)?;
            objects.put_from(&path, &mut content).map_err(failure::of_file)
        })
        .await
    }

    async fn object_url(&self, _: &str, _: Duration) -> Result<Option<String>, StorageError> {
        Ok(None)
    }

    async fn object_range(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StorageError> {
        let path = self.inner.objects.path(name)?;
        blocking(move || if_there(read(&path, range))).await
    }

    async fn delete_object(&self, name: &str) -> Result<(), StorageError> {
        let path = self.inner.objects.path(name)?;
        blocking(move || if_there(fs::remove_file(path)).map(|_| ())).await
    }
}

/// Returns `None` if a file does not exist.
fn if_there<T>(result: io::Result<T>) -> Result<Option<T>, StorageError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure::of_file(error)),
    }
}
