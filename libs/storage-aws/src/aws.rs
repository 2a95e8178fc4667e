//! The store itself.

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
/// Clones are the same store, and share one poller for those who wait.
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

    /// The deployment with the usual prefix.
    #[must_use]
    pub fn new(bucket_name: impl Into<String>) -> Self {
        Self { prefix: Self::PREFIX.to_owned(), bucket_name: bucket_name.into() }
    }
}

impl<O: ObjectStore + 'static> Storage for AwsStore<O> {}

impl AwsStore {
    /// The store of a deployment, with region, credentials and endpoints from the standard AWS
    /// environment. Nothing is called yet but what gives the region.
    ///
    /// # Errors
    /// When no region is set.
    pub async fn connect(config: &AwsConfig) -> Result<Self, StorageError> {
        let sdk = aws_config::load_defaults(BehaviorVersion::v2026_01_12()).await;
        if sdk.region().is_none() {
            let cause = "no AWS region is configured: set AWS_REGION";
            return Err(StorageError::Unavailable(cause.into()));
        }
        Ok(Self::with_sdk(&sdk, config))
    }

    /// The store of a deployment, as the SDK is configured here.
    #[must_use]
    pub fn with_sdk(sdk: &SdkConfig, config: &AwsConfig) -> Self {
        let objects = S3Objects::new(sdk, &config.bucket_name, &config.prefix);
        Self::with_objects(sdk, &config.prefix, objects)
    }
}

impl<O> AwsStore<O> {
    /// A store whose objects are elsewhere.
    pub fn with_objects(sdk: &SdkConfig, prefix: &str, objects: O) -> Self {
        let inner =
            Inner { dynamo: Dynamo::new(sdk, prefix), changes: ChangeNotifier::new(), objects };
        Self { inner: Arc::new(inner) }
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
