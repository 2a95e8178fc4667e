//! The store, and its connection to a deployment.

use std::fmt;
use std::sync::Arc;

use aws_config::{BehaviorVersion, SdkConfig};
use bytes::Bytes;
use tidewater_storage::{ObjectStore, Storage, StorageError};

use crate::change_notifier::ChangeNotifier;
use crate::consumed::ConsumedUnits;
use crate::dynamo::Dynamo;
use crate::s3_objects::S3Objects;

/// The names of a deployment's resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsConfig {
    /// The prefix of the names of its tables and objects.
    pub prefix: String,
    /// The S3 bucket of its objects.
    pub bucket_name: String,
}

/// A store on DynamoDB, with objects on S3 (or wherever `O` keeps them).
///
/// Clones share one store, and one poller for all waiting calls.
pub struct AwsStore<O = S3Objects> {
    inner: Arc<Inner<O>>,
}

#[derive(Debug)]
pub(crate) struct Inner<O> {
    pub(crate) dynamo: Dynamo,
    pub(crate) changes: ChangeNotifier,
    pub(crate) objects: O,
}

impl AwsConfig {
    /// The default prefix.
    pub const PREFIX: &str = "tidewater";

    /// Returns the names of a deployment with the default prefix.
    #[must_use]
    pub fn new(bucket_name: impl Into<String>) -> Self {
        Self { prefix: Self::PREFIX.to_owned(), bucket_name: bucket_name.into() }
    }
}

impl<O: ObjectStore + 'static> Storage for AwsStore<O> {}

impl AwsStore {
    /// Returns the store of a deployment, with region, credentials and endpoints from the standard AWS
    /// environment. This calls neither DynamoDB nor S3.
    ///
    /// # Errors
    /// If no region is configured.
    pub async fn connect(config: &AwsConfig) -> Result<Self, StorageError> {
        let sdk = aws_config::load_defaults(BehaviorVersion::v2026_01_12()).await;
        if sdk.region().is_none() {
            let cause = "no AWS region is configured: set AWS_REGION";
            return Err(StorageError::Refused(cause.into()));
        }
        Ok(Self::with_sdk(&sdk, config))
    }

    /// Returns the store of a deployment, with this configuration of the SDK.
    #[must_use]
    pub fn with_sdk(sdk: &SdkConfig, config: &AwsConfig) -> Self {
        let objects = S3Objects::new(sdk, &config.bucket_name, &config.prefix);
        Self::with_objects(sdk, &config.prefix, objects)
    }
}

impl<O> AwsStore<O> {
    /// Returns a store whose objects are in another object store.
    pub fn with_objects(sdk: &SdkConfig, prefix: &str, objects: O) -> Self {
        let dynamo = Dynamo::new(sdk, prefix);
        let changes = ChangeNotifier::new();
        Self { inner: Arc::new(Inner { dynamo, changes, objects }) }
    }

    /// Returns the request units that this process's DynamoDB calls have consumed.
    #[must_use]
    pub fn consumed(&self) -> ConsumedUnits {
        self.inner.dynamo.meter.consumed()
    }

    /// Returns the prefix of the names of its tables.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.inner.dynamo.prefix
    }

    /// Returns the object store.
    #[must_use]
    pub fn objects(&self) -> &O {
        &self.inner.objects
    }

    pub(crate) fn dynamo(&self) -> &Dynamo {
        &self.inner.dynamo
    }

    pub(crate) fn changes(&self) -> &ChangeNotifier {
        &self.inner.changes
    }
}

impl<O: ObjectStore> AwsStore<O> {
    /// Reads an object completely.
    pub(crate) async fn whole_object(&self, name: &str) -> Result<Option<Bytes>, StorageError> {
        self.inner.objects.object_range(name, 0..u64::MAX).await
    }
}

impl<O> Clone for AwsStore<O> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<O> fmt::Debug for AwsStore<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsStore").field("dynamo", &self.inner.dynamo).finish_non_exhaustive()
    }
}
