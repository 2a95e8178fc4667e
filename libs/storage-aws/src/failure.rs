//! Errors of the SDK as errors of the ports.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use tidewater_storage::{BoxError, StorageError};

/// Maximum size of an item in bytes: DynamoDB's limit.
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

/// An item that exceeds DynamoDB's limit. Retrying does not help.
#[derive(Debug, thiserror::Error)]
#[error("the {what} takes {bytes} bytes, but a DynamoDB item is limited to {ITEM_BYTES_MAX}")]
struct TooLarge {
    what: &'static str,
    bytes: usize,
}

/// Error codes of requests that a service refused because of the request rate.
pub(crate) const THROTTLING_CODES: [&str; 7] = [
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Returns the error of a read that failed: nothing was written.
pub(crate) fn of_read<E>(call: &'static str, place: &str, error: SdkError<E>) -> StorageError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    StorageError::Unavailable(cause(call, place, error))
}

/// Returns the error of a write that failed.
///
/// `Unavailable` is certain only if the service rejected the request itself, or if nothing was sent.
/// The SDK retries everything else, so an earlier attempt may have succeeded without a reply, even if
/// the last one was throttled.
pub(crate) fn of_write<E>(call: &'static str, place: &str, error: SdkError<E>) -> StorageError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let was_rejected = if let SdkError::ServiceError(rejection) = &error {
        let code = rejection.err().code();
        let is_throttled = code.is_some_and(|code| THROTTLING_CODES.contains(&code));
        rejection.raw().status().is_client_error() && !is_throttled
    } else {
        matches!(error, SdkError::ConstructionFailure(_))
    };

    let cause = cause(call, place, error);
    if was_rejected { StorageError::Unavailable(cause) } else { StorageError::Unknown(cause) }
}

/// Returns the error of an item that exceeds DynamoDB's limit.
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
