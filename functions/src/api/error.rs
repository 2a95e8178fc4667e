//! Turns errors into replies. The details of internal errors are logged and never sent.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use metrics::counter;
use serde::Serialize;
use tidewater_protocol::ErrorChain;
use tidewater_storage::StorageError;
use tracing::{error, warn};

use crate::auth::AuthError;
use crate::checkpoint::CheckpointError;
use crate::metrics::REQUESTS_LIMITED;
use crate::stream_log::{StreamEnd, StreamLimit};

/// Time after which a client may ask again while the initial copy is in progress, in seconds.
const NOT_READY_RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Time after which a client may try again when too many streams are open, in seconds.
const FULL_RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// The party whose requests are limited.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limited {
    User,
    Address,
}

impl Limited {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Address => "address",
        }
    }
}

impl Display for Limited {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns whole seconds, at least as long as the time.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Time after which a client may ask again while keys cannot be fetched, in seconds. Missing keys are
/// fetched again after the same time.
const NO_KEYS_RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// The reason why a request is refused or fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The request has no valid token.
    #[error("the request is not authorised")]
    Unauthorized(#[from] AuthError),
    /// The body or the query is invalid.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The body is too large.
    #[error("the body exceeds {0} bytes")]
    BodyTooLarge(usize),
    /// The path does not exist.
    #[error("no such path")]
    NotFound,
    /// The address of a snapshot file is not ours, has expired, or names a deleted file.
    #[error("the address of a snapshot is no longer valid")]
    AddressRefused,
    /// A WebSocket is requested where connections cannot be upgraded, or by an invalid handshake.
    #[error("no WebSocket is served here")]
    NoWebSocket,
    /// No checkpoint is visible yet.
    #[error("no checkpoint is visible yet")]
    NotReady,
    /// The source's changes did not arrive while the request could wait.
    #[error("the source's changes were not replicated in time")]
    NotReplicated,
    /// The client would read too much.
    #[error("{0}")]
    OverQuota(String),
    /// A user or address sends too many requests.
    #[error("too many requests of this {0}")]
    TooManyRequests(Limited, Duration),
    /// The user has too many streams open, or they keep too much of their requests.
    #[error("too many streams of this user")]
    TooManyStreams,
    /// Too many streams are open.
    #[error("too many connections")]
    TooManyConnections,
    /// The process is shutting down.
    #[error("shutting down")]
    ShuttingDown,
    /// A storage call failed.
    #[error("storage failed")]
    Storage(#[from] StorageError),
    /// An invariant of this server is broken.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl From<CheckpointError> for ApiError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::TooOld => Self::Internal("every checkpoint was too old to be read"),
            CheckpointError::NotReady => Self::NotReady,
            CheckpointError::Replaced => {
                Self::Internal("a request was dropped before it was evaluated")
            }
            CheckpointError::OverQuota(problem) => Self::OverQuota(problem),
            CheckpointError::Storage(error) => Self::Storage(error),
            CheckpointError::Internal(problem) => Self::Internal(problem),
        }
    }
}

/// The body of an error reply, as PowerSync's service sends it.
#[derive(Serialize)]
struct Body<'a> {
    error: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    name: &'a str,
    code: &'a str,
    status: u16,
    description: &'a str,
}

/// The parts of an error reply that depend on the error.
struct Reply {
    status: StatusCode,
    name: &'static str,
    code: &'static str,
    description: String,
}

impl Reply {
    fn new(
        status: StatusCode,
        name: &'static str,
        code: &'static str,
        description: impl Into<String>,
    ) -> Self {
        Self { status, name, code, description: description.into() }
    }

    /// Returns the reply to a client, or all clients together, that ask for too much.
    fn too_many(description: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "ServiceError", "PSYNC_S2304", description)
    }
}

impl ApiError {
    /// Logs the details that the reply leaves out.
    fn log(&self) {
        match self {
            Self::Storage(cause) => error!(error = %ErrorChain(cause), "storage failed"),
            Self::Internal(problem) => error!(problem, "internal error"),
            Self::OverQuota(problem) => warn!(problem, "a client exceeds a quota"),
            Self::TooManyRequests(limited, _) => {
                counter!(REQUESTS_LIMITED, "limit" => limited.as_str()).increment(1);
            }
            Self::TooManyStreams => counter!(REQUESTS_LIMITED, "limit" => "streams").increment(1),
            Self::Unauthorized(_)
            | Self::Invalid(_)
            | Self::BodyTooLarge(_)
            | Self::NotFound
            | Self::NoWebSocket
            | Self::AddressRefused
            | Self::NotReady
            | Self::NotReplicated
            | Self::TooManyConnections
            | Self::ShuttingDown => {}
        }
    }

    /// Returns the reason why a stream ends with the error, as the log names it.
    pub(super) fn stream_end(&self) -> StreamEnd {
        match self {
            Self::Unauthorized(AuthError::Expired) => StreamEnd::TokenExpired,
            Self::Unauthorized(_)
            | Self::Invalid(_)
            | Self::BodyTooLarge(_)
            | Self::NotFound
            | Self::AddressRefused
            | Self::NoWebSocket => StreamEnd::Invalid,
            Self::NotReady | Self::NotReplicated => StreamEnd::NotReady,
            Self::OverQuota(_) => StreamEnd::Limit(StreamLimit::Request),
            Self::TooManyRequests(..) => StreamEnd::Limit(StreamLimit::Rate),
            Self::TooManyStreams => StreamEnd::Limit(StreamLimit::UserStreams),
            Self::TooManyConnections => StreamEnd::Limit(StreamLimit::Connections),
            Self::ShuttingDown => StreamEnd::Shutdown,
            Self::Storage(_) | Self::Internal(_) => StreamEnd::Error,
        }
    }

    /// Logs the error, and returns the text of an RSocket ERROR frame. SDKs look for the code in it.
    pub(super) fn rsocket_text(&self) -> String {
        self.log();
        let reply = self.reply();
        format!("[{}] {}", reply.code, reply.description)
    }

    /// Returns the reply. Codes and names are those that PowerSync's SDKs know.
    fn reply(&self) -> Reply {
        match self {
            Self::Unauthorized(error) => unauthorized(*error),
            Self::Invalid(problem) => Reply::new(
                StatusCode::BAD_REQUEST,
                "ValidationError",
                "PSYNC_S2001",
                problem.clone(),
            ),
            Self::BodyTooLarge(max) => Reply::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "ValidationError",
                "PSYNC_S2001",
                format!("The body may have at most {max} bytes"),
            ),
            Self::NotFound => Reply::new(
                StatusCode::NOT_FOUND,
                "RouteNotFound",
                "PSYNC_S2002",
                "This path does not exist",
            ),
            Self::NoWebSocket => Reply::new(
                StatusCode::UPGRADE_REQUIRED,
                "ServiceError",
                "PSYNC_S2002",
                "WebSocket is not served here: choose HTTP as the connection method of the SDK",
            ),
            Self::AddressRefused => Reply::new(
                StatusCode::FORBIDDEN,
                "AuthorizationError",
                "PSYNC_S2101",
                "This address has expired: open a new stream to get another",
            ),

            Self::NotReady => Reply::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceError",
                "PSYNC_S2302",
                "The initial copy of the source database is not complete",
            ),
            Self::NotReplicated => Reply::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceError",
                "PSYNC_S2001",
                "The source's changes were not replicated in time: repeat the request",
            ),
            Self::OverQuota(problem) => Reply::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "ServiceError",
                "PSYNC_S2305",
                problem.clone(),
            ),
            Self::TooManyRequests(limited, wait) => Reply::too_many(format!(
                "This {limited} sends too many requests: try again in {} s",
                seconds(*wait)
            )),
            Self::TooManyStreams => Reply::too_many(
                "This user has too many streams open, or they keep too many values of their \
                 parameters: close some, or send fewer values",
            ),
            Self::TooManyConnections => Reply::too_many("Too many connections are open"),
            Self::ShuttingDown => Reply::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceError",
                "PSYNC_S2003",
                "The server is shutting down",
            ),

            Self::Storage(_) | Self::Internal(_) => Reply::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerError",
                "PSYNC_S2001",
                self.internal_description(),
            ),
        }
    }

    /// Returns what a client may know of an error that is not its own.
    fn internal_description(&self) -> &'static str {
        if matches!(self, Self::Storage(StorageError::Refused(_))) {
            "The server may not use its store: its log names the missing right"
        } else {
            "Something went wrong on the server"
        }
    }
}

/// Returns the reply to a request without an accepted token.
fn unauthorized(error: AuthError) -> Reply {
    let (status, name) = if error == AuthError::NoKeys {
        // The token may be right. With 401 an SDK would drop it, and some never get another.
        (StatusCode::SERVICE_UNAVAILABLE, "ServiceError")
    } else {
        (StatusCode::UNAUTHORIZED, "AuthorizationError")
    };
    Reply::new(status, name, error.code(), auth_error_description(error))
}

fn auth_error_description(error: AuthError) -> &'static str {
    match error {
        AuthError::Missing => "Authentication is required",
        AuthError::Invalid => "The token is not valid",
        AuthError::Expired => "The token has expired",
        AuthError::Lifetime => "The token must expire within a day of its issue",
        AuthError::Audience => "The token is for another audience",
        AuthError::NoKeys => "The keys that verify the token cannot be fetched at the moment",
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let reply = self.reply();
        if matches!(self, Self::TooManyConnections) {
            // Clients expect an empty body here.
            return (reply.status, [(RETRY_AFTER, FULL_RETRY_AFTER)]).into_response();
        }
        let details = Details {
            name: reply.name,
            code: reply.code,
            status: reply.status.as_u16(),
            description: &reply.description,
        };
        let mut response = (reply.status, Json(Body { error: details })).into_response();
        let retry_after = match self {
            Self::NotReady => Some(NOT_READY_RETRY_AFTER),
            Self::TooManyRequests(_, wait) => Some(HeaderValue::from(seconds(wait))),
            Self::TooManyStreams => Some(FULL_RETRY_AFTER),
            Self::Unauthorized(AuthError::NoKeys) => Some(NO_KEYS_RETRY_AFTER),
            Self::Unauthorized(_)
            | Self::Invalid(_)
            | Self::BodyTooLarge(_)
            | Self::NotFound
            | Self::NoWebSocket
            | Self::AddressRefused
            | Self::NotReplicated
            | Self::OverQuota(_)
            | Self::TooManyConnections
            | Self::ShuttingDown
            | Self::Storage(_)
            | Self::Internal(_) => None,
        };
        if let Some(retry_after) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, retry_after);
        }
        response
    }
}
