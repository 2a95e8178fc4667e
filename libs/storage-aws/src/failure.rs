//! Errors of the SDK as errors of the ports.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use tidewater_storage::{BoxError, StorageError};

/// Maximum size of an item in bytes: DynamoDB's limit.
pub(crate) const ITEM_BYTES_MAX: usize = 400 << 10;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{call} failed on {place}{}{}",
    code.as_ref().map_or(String::new(), |code| format!(": {code}")),
    remedy.as_ref().map_or(String::new(), |remedy| format!("; {remedy}")),
)]
struct CallError {
    call: &'static str,
    /// The table or S3 bucket.
    place: String,
    /// The service's error code.
    code: Option<String>,
    /// The change after which the call is no longer refused.
    remedy: Option<String>,
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

/// The reason for which a service refuses a call until somebody changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// A policy does not allow the call.
    Right,
    /// The table or S3 bucket does not exist under this name in this region and account.
    Place,
    /// The service does not accept the credentials, or there are none.
    Credentials,
    /// The service does not accept the request.
    Request,
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

impl Refusal {
    /// Returns why the service refuses the call, or `None` if the same call may succeed later.
    fn of<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> Option<Self> {
        let SdkError::ServiceError(rejection) = error else {
            return lacks_credentials(error).then_some(Self::Credentials);
        };
        match rejection.err().code() {
            Some(code) => Self::of_code(code),
            // A reply to HEAD has no body, so no code.
            None => (rejection.raw().status().as_u16() == 403).then_some(Self::Right),
        }
    }

    /// Returns the reason that an error code of DynamoDB or S3 names. A code that is missing here costs
    /// some retries, and nothing else.
    fn of_code(code: &str) -> Option<Self> {
        Some(match code {
            "AccessDenied" | "AccessDeniedException" | "AllAccessDisabled" => Self::Right,

            "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "InvalidBucketName"
            | "NoSuchBucket"
            | "PermanentRedirect"
            | "ResourceNotFoundException" => Self::Place,

            "AccountProblem"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "InvalidToken"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "NotSignedUp"
            | "OptInRequired"
            | "RequestTimeTooSkewed"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException" => Self::Credentials,

            "EntityTooLarge"
            | "InvalidRequest"
            | "KMS.DisabledException"
            | "KMS.KMSInvalidStateException"
            | "KMS.NotFoundException"
            | "MethodNotAllowed"
            | "SerializationException"
            | "ValidationException" => Self::Request,

            _ => return None,
        })
    }

    /// Returns the change that makes the call succeed.
    fn remedy(self, call: &str) -> String {
        let (place, action) = place_and_action(call);
        match self {
            Self::Right if action == "s3:GetObject" => {
                "allow s3:GetObject on the objects of this S3 bucket, and s3:ListBucket on it, to the \
                 role of this process"
                    .to_owned()
            }
            Self::Right if place == "S3 bucket" => {
                format!("allow {action} on the objects of this {place} to the role of this process")
            }
            Self::Right => format!("allow {action} on this {place} to the role of this process"),
            Self::Place => {
                format!("check the name of the {place}, the region and the account of this process")
            }
            Self::Credentials => {
                "check the AWS credentials of this process: whether there are any, whether they have \
                 expired, and whether its clock is right"
                    .to_owned()
            }
            Self::Request => {
                format!("check whether the {place} is the one that the deployment's template creates")
            }
        }
    }
}

/// Returns the kind of the resource that a call uses, and the IAM action that the call needs.
fn place_and_action(call: &str) -> (&'static str, String) {
    match call {
        "GetObject" | "HeadObject" => ("S3 bucket", "s3:GetObject".to_owned()),
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => {
            ("S3 bucket", "s3:PutObject".to_owned())
        }
        "DeleteObject" | "CreateBucket" => ("S3 bucket", format!("s3:{call}")),
        _ => ("table", format!("dynamodb:{call}")),
    }
}

/// Returns whether a call was not sent because this process has no credentials. A provider that does
/// not answer may do so later.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<CredentialsError>() {
            return matches!(
                error,
                CredentialsError::CredentialsNotLoaded(_)
                    | CredentialsError::InvalidConfiguration(_)
            );
        }
        cause = error.source();
    }
    false
}

/// Returns the error of a read that failed: nothing was written.
pub(crate) fn of_read<E>(call: &'static str, place: &str, error: SdkError<E>) -> StorageError
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let refusal = Refusal::of(&error);
    let cause = cause(call, place, refusal, error);
    if refusal.is_some() { StorageError::Refused(cause) } else { StorageError::Unavailable(cause) }
}

/// Returns the error of a write that failed.
///
/// `Unavailable` is certain only if the service rejected the request itself, or if nothing was sent.
/// The SDK retries everything else, so an earlier attempt may have succeeded without a reply, even if
/// the last one was throttled.
pub(crate) fn of_write<E>(call: &'static str, place: &str, error: SdkError<E>) -> StorageError
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let refusal = Refusal::of(&error);
    let was_rejected = if let SdkError::ServiceError(rejection) = &error {
        let code = rejection.err().code();
        let is_throttled = code.is_some_and(|code| THROTTLING_CODES.contains(&code));
        rejection.raw().status().is_client_error() && !is_throttled
    } else {
        matches!(error, SdkError::ConstructionFailure(_))
    };

    let cause = cause(call, place, refusal, error);
    match (refusal, was_rejected) {
        (Some(_), _) => StorageError::Refused(cause),
        (None, true) => StorageError::Unavailable(cause),
        (None, false) => StorageError::Unknown(cause),
    }
}

/// Returns the error of an item that exceeds DynamoDB's limit.
pub(crate) fn too_large(what: &'static str, bytes: usize) -> StorageError {
    StorageError::Refused(TooLarge { what, bytes }.into())
}

fn cause<E>(
    call: &'static str,
    place: &str,
    refusal: Option<Refusal>,
    error: SdkError<E>,
) -> BoxError
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let code = error.as_service_error().and_then(|error| error.code()).map(str::to_owned);
    let remedy = refusal.map(|refusal| refusal.remedy(call));
    CallError { call, place: place.to_owned(), code, remedy, cause: error.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_names_the_action_and_the_kind_of_the_resource() {
        let check = |refusal: Refusal, call, expected: &[&str]| {
            let remedy = refusal.remedy(call);
            for part in expected {
                assert!(remedy.contains(part), "{call}: {remedy}");
            }
        };
        check(Refusal::Right, "PutItem", &["dynamodb:PutItem", "this table"]);
        check(Refusal::Right, "UploadPart", &["s3:PutObject", "objects of this S3 bucket"]);
        check(Refusal::Right, "GetObject", &["s3:GetObject", "s3:ListBucket"]);
        check(Refusal::Place, "PutObject", &["name of the S3 bucket", "region"]);
        check(Refusal::Credentials, "Query", &["credentials"]);
    }

    #[test]
    fn throttling_passes() {
        for code in THROTTLING_CODES {
            assert_eq!(Refusal::of_code(code), None, "{code}");
        }
        for code in ["InternalServerError", "ConditionalRequestConflict", "RequestTimeout"] {
            assert_eq!(Refusal::of_code(code), None, "{code}");
        }
    }
}
