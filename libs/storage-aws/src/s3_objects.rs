//! Objects on S3.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::create_bucket::CreateBucketError;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{
    BucketLocationConstraint, ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart,
    CreateBucketConfiguration,
};
use aws_types::service_config::ServiceConfigKey;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tidewater_storage::{ObjectStore, StorageError};
use tracing::warn;

use crate::failure;
use crate::service_calls::{CallCounter, CallLimits, boxed};

/// The part size of multipart uploads in bytes, and the size above which they are used. Each part is
/// retried independently.
const PART_BYTES: u64 = 16 << 20;

/// The maximum number of parts of an object: S3's limit.
const PARTS_MAX: u64 = 10_000;

/// The maximum number of parts in flight for one object.
const PARTS_AT_ONCE: usize = 4;

/// The maximum number of reads of one object whose body is interrupted.
const READS_MAX: u32 = 3;

/// The maximum lifetime of a presigned URL: S3's limit.
const URL_LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The limits of calls. An attempt has enough time for a part of 16 MB at 300 KB/s.
const LIMITS: CallLimits = CallLimits {
    attempts_max: 5,
    first_pause: Duration::from_millis(100),
    longest_pause: Duration::from_secs(5),
    connect_timeout: Duration::from_secs(3),
    attempt_timeout: Duration::from_secs(60),
    call_timeout: Duration::from_secs(180),
};

/// The objects of a deployment: the keys of an S3 bucket that begin with the prefix and `/`.
#[derive(Clone)]
pub struct S3Objects {
    client: Client,
    bucket: String,
    prefix: String,
}

impl S3Objects {
    /// Returns the store of objects whose keys begin with `prefix` and `/`.
    #[must_use]
    pub fn new(sdk: &SdkConfig, bucket: &str, prefix: &str) -> Self {
        let config = aws_sdk_s3::config::Builder::from(&LIMITS.apply(sdk))
            .interceptor(CallCounter)
            // Custom endpoints usually have no host name for each S3 bucket.
            .force_path_style(has_endpoint(sdk))
            .build();
        let client = Client::from_conf(config);
        Self { client, bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    /// Creates the S3 bucket if it does not exist. For local use: a deployment's template creates it.
    ///
    /// # Errors
    /// If S3 cannot be reached, or another account has an S3 bucket with this name.
    pub async fn create_bucket(&self) -> Result<(), StorageError> {
        let region = self.client.config().region().map(ToString::to_string);
        // S3 rejects a location constraint that names this region, which is the default.
        let location = region.filter(|region| region != "us-east-1").map(|region| {
            let constraint = BucketLocationConstraint::from(region.as_str());
            CreateBucketConfiguration::builder().location_constraint(constraint).build()
        });

        let call = self.client.create_bucket().bucket(&self.bucket);
        match boxed(call.set_create_bucket_configuration(location).send()).await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(CreateBucketError::BucketAlreadyOwnedByYou(_)) => Ok(()),
                _ => Err(failure::of_write("CreateBucket", &self.bucket, error)),
            },
        }
    }

    /// Returns the key of an object.
    ///
    /// # Errors
    /// If a part of the name is empty, `.` or `..`.
    fn key(&self, name: &str) -> Result<String, StorageError> {
        if !name.split('/').all(is_plain) {
            let cause = format!("'{name}' cannot be the name of an object");
            return Err(StorageError::Refused(cause.into()));
        }
        Ok(format!("{}/{name}", self.prefix))
    }

    async fn put(&self, key: &str, content: Content<'_>) -> Result<(), StorageError> {
        let length = content.len().await?;
        if length > PART_BYTES {
            return self.put_in_parts(key, content, length).await;
        }
        let body = content.part(0..length).await?;
        let call = self.client.put_object().bucket(&self.bucket).key(key).body(body);
        boxed(call.send())
            .await
            .map_err(|error| failure::of_write("PutObject", &self.bucket, error))?;
        Ok(())
    }

    async fn put_in_parts(
        &self,
        key: &str,
        content: Content<'_>,
        length: u64,
    ) -> Result<(), StorageError> {
        let upload = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        // S3 verifies each part against this checksum.
        let upload = upload.checksum_algorithm(ChecksumAlgorithm::Crc32);
        let upload = boxed(upload.send())
            .await
            .map_err(|error| failure::of_write("CreateMultipartUpload", &self.bucket, error))?;
        let id = upload.upload_id.unwrap_or_default();

        let done = self.put_parts(key, &id, content, length).await;
        if done.is_err() {
            // S3 charges for the uploaded parts until the upload is aborted.
            let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(key);
            if let Err(error) = boxed(abort.upload_id(&id).send()).await {
                warn!(error = &error as &dyn std::error::Error, "failed to abort multipart upload");
            }
        }
        done
    }

    async fn put_parts(
        &self,
        key: &str,
        id: &str,
        content: Content<'_>,
        length: u64,
    ) -> Result<(), StorageError> {
        let part_bytes = PART_BYTES.max(length.div_ceil(PARTS_MAX));
        let ranges = (0..length.div_ceil(part_bytes))
            .map(|part| part * part_bytes..length.min((part + 1) * part_bytes));

        let parts: Vec<CompletedPart> = stream::iter((1..).zip(ranges.collect::<Vec<_>>()))
            .map(|(number, range)| self.put_part(key, id, number, content.part(range)))
            .buffered(PARTS_AT_ONCE)
            .try_collect()
            .await?;

        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let call = self.client.complete_multipart_upload().bucket(&self.bucket).key(key);
        boxed(call.upload_id(id).multipart_upload(parts).send())
            .await
            .map_err(|error| failure::of_write("CompleteMultipartUpload", &self.bucket, error))?;
        Ok(())
    }

    async fn put_part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        body: impl Future<Output = Result<ByteStream, StorageError>>,
    ) -> Result<CompletedPart, StorageError> {
        let call = self.client.upload_part().bucket(&self.bucket).key(key).upload_id(id);
        let call = call.checksum_algorithm(ChecksumAlgorithm::Crc32);
        let call = call.part_number(number).body(body.await?);

        let reply = boxed(call.send())
            .await
            .map_err(|error| failure::of_write("UploadPart", &self.bucket, error))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(reply.e_tag)
            .set_checksum_crc32(reply.checksum_crc32)
            .build())
    }

    async fn is_there(&self, key: &str) -> Result<bool, StorageError> {
        match boxed(self.client.head_object().bucket(&self.bucket).key(key).send()).await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_not_found()) => Ok(false),
            Err(error) => Err(failure::of_read("HeadObject", &self.bucket, error)),
        }
    }
}

/// The content of a new object.
#[derive(Clone, Copy)]
enum Content<'a> {
    Bytes(&'a Bytes),
    File(&'a Path),
}

impl Content<'_> {
    async fn len(self) -> Result<u64, StorageError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => Ok(tokio::fs::metadata(path).await.map_err(unreadable)?.len()),
        }
    }

    async fn part(self, range: Range<u64>) -> Result<ByteStream, StorageError> {
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(range.start).map_err(unreadable)?;
                let end = usize::try_from(range.end).map_err(unreadable)?;
                Ok(bytes.slice(start..end).into())
            }
            Self::File(path) => ByteStream::read_from()
                .path(path)
                .offset(range.start)
                .length(Length::Exact(range.end - range.start))
                .build()
                .await
                .map_err(unreadable),
        }
    }
}

fn unreadable(error: impl Into<tidewater_storage::BoxError>) -> StorageError {
    StorageError::Unavailable(error.into())
}

impl ObjectStore for S3Objects {
    async fn put_object(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        self.put(&self.key(name)?, Content::Bytes(&content)).await
    }

    async fn put_object_file(&self, name: &str, file: &Path) -> Result<(), StorageError> {
        self.put(&self.key(name)?, Content::File(file)).await
    }

    async fn object_url(
        &self,
        name: &str,
        lifetime: Duration,
    ) -> Result<Option<String>, StorageError> {
        let key = self.key(name)?;
        let signing = PresigningConfig::expires_in(lifetime.min(URL_LIFETIME_MAX));
        let signing = signing.map_err(unreadable)?;
        let call = self.client.get_object().bucket(&self.bucket).key(key);
        let signed = boxed(call.presigned(signing))
            .await
            .map_err(|error| failure::of_read("GetObject", &self.bucket, error))?;
        Ok(Some(signed.uri().to_owned()))
    }

    async fn object_range(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StorageError> {
        let key = self.key(name)?;
        if range.is_empty() {
            return Ok(self.is_there(&key).await?.then(Bytes::new));
        }

        let mut reads = 0;
        loop {
            let call = self.client.get_object().bucket(&self.bucket).key(&key);
            let reply = match boxed(call.set_range(header(&range)).send()).await {
                Ok(reply) => reply,
                Err(error) if has_code(&error, "NoSuchKey") => return Ok(None),
                // The object ends before the range begins.
                Err(error) if has_code(&error, "InvalidRange") => return Ok(Some(Bytes::new())),
                Err(error) => return Err(failure::of_read("GetObject", &self.bucket, error)),
            };

            reads += 1;
            match reply.body.collect().await {
                Ok(body) => return Ok(Some(body.into_bytes())),
                Err(error) if reads == READS_MAX => return Err(unreadable(error)),
                Err(_) => {}
            }
        }
    }

    async fn delete_object(&self, name: &str) -> Result<(), StorageError> {
        let call = self.client.delete_object().bucket(&self.bucket).key(self.key(name)?);
        boxed(call.send())
            .await
            .map_err(|error| failure::of_write("DeleteObject", &self.bucket, error))?;
        Ok(())
    }
}

impl fmt::Debug for S3Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client: _, bucket, prefix } = self;
        f.debug_struct("S3Objects").field("bucket", bucket).field("prefix", prefix).finish()
    }
}

/// Returns whether a part of a name means itself in a path.
fn is_plain(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && !part.contains('\0')
}

/// Returns the header that requests a range, or `None` if the range is the whole object.
fn header(range: &Range<u64>) -> Option<String> {
    /// An end beyond every object, which S3 limits to 50 TB.
    const ANY_END: u64 = 1 << 50;
    match (range.start, range.end) {
        (0, ANY_END..) => None,
        (start, ANY_END..) => Some(format!("bytes={start}-")),
        (start, end) => Some(format!("bytes={start}-{}", end - 1)),
    }
}

fn has_code<E: ProvideErrorMetadata>(error: &SdkError<E>, code: &str) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some(code)
}

/// Returns whether a custom endpoint is configured for S3 or for all of AWS.
fn has_endpoint(sdk: &SdkConfig) -> bool {
    sdk.endpoint_url().is_some() || s3_endpoint(sdk).is_some()
}

fn s3_endpoint(sdk: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    sdk.service_config()?.load_config(key)
}
