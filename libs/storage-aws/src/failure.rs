//! Errors of the SDK as those of the ports.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use tidewater_storage::{BoxError, StorageError};

/// Bytes of an item at most: DynamoDB's limit.
pub(crate) const ITEM_BYTES_MAX: usize = 400 << 10;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed on {place}{}", code.as_ref().map_or(String::new(), |c| format!(": {c}")))]
struct CallError {
    call: &'static str,
    /// The table or S3 bucket.
    place: String,
    /// The service's error code.
    code: Option<String>,
    #[source]
    cause: BoxError,
}

/// A thing that cannot be stored, however often it is tried.
#[derive(Debug, thiserror::Error)]
#[error("the {what} takes {bytes} bytes, but a DynamoDB item is limited to {ITEM_BYTES_MAX}")]
struct TooLarge {
    what: &'static str,
    bytes: usize,
}

/// Codes by which a service says that it did not do it now, but may later.
const THROTTLED: [&str; 7] = [
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// A read that failed: nothing was written, whatever happened.
pub(crate) fn of_read<E>(call: &'static str, place: &str, error: SdkError<E>) -> StorageError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    StorageError::Unavailable(cause(call, place, error))
}

/// A write that failed. Only what the service refuses for what it is, or what was never sent, has
/// surely not been done: the SDK repeats all else, and of an earlier attempt only the reply may
/// have been lost, even if the last one was throttled.
pub(crate) fn of_write<E>(call: &'static str, place: &str, error: SdkError<E>) -> StorageError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let refused = if let SdkError::ServiceError(refusal) = &error {
        let throttled = refusal.err().code().is_some_and(|code| THROTTLED.contains(&code));
        refusal.raw().status().is_client_error() && !throttled
    } else {
        matches!(error, SdkError::ConstructionFailure(_))
    };
    let kind = if refused { StorageError::Unavailable } else { StorageError::Unknown };
    kind(cause(call, place, error))
}

/// An item that DynamoDB would refuse for its size.
pub(crate) fn too_large(what: &'static str, bytes: usize) -> StorageError {
    StorageError::Unavailable(TooLarge { what, bytes }.into())
}

fn cause<E>(call: &'static str, place: &str, error: SdkError<E>) -> BoxError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let code = error.as_service_error().and_then(|error| error.code()).map(str::to_owned);
    CallError { call, place: place.to_owned(), code, cause: error.into() }.into()
}
