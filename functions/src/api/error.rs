//! The one place that turns errors into replies. What went wrong inside is logged, never told.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidewater_protocol::ErrorChain;
use tidewater_storage::StorageError;
use tracing::{error, warn};

use crate::auth::AuthError;
use crate::checkpoint::CheckpointError;

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// No valid token.
    #[error("the request is not authorised")]
    Unauthorized(#[from] AuthError),
    /// The body or query is not what it must be.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The body is too big.
    #[error("the body exceeds {0} bytes")]
    BodyTooLarge(usize),
    /// There is no such path.
    #[error("no such path")]
    NotFound,
    /// The address of a snapshot is not ours, has expired, or what it named has been deleted.
    #[error("the address of a snapshot is no longer good")]
    AddressRefused,
    /// Nothing is visible yet.
    #[error("no checkpoint is visible yet")]
    NotReady,
    /// The client would read too much.
    #[error("{0}")]
    OverQuota(String),
    /// Too many streams are open.
    #[error("too many connections")]
    TooManyConnections,
    /// The process is about to end.
    #[error("shutting down")]
    ShuttingDown,
    /// A storage call failed.
    #[error("storage failed")]
    Storage(#[from] StorageError),
    /// One of our invariants does not hold.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl From<CheckpointError> for ApiError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::TooOld => Self::Internal("every checkpoint was too old to be read"),
            CheckpointError::NotReady => Self::NotReady,
            CheckpointError::OverQuota(what) => Self::OverQuota(what),
            CheckpointError::Storage(error) => Self::Storage(error),
            CheckpointError::Internal(what) => Self::Internal(what),
        }
    }
}

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

impl ApiError {
    /// Logs what the caller is not told.
    fn log(&self) {
        match self {
            Self::Storage(cause) => error!(error = %ErrorChain(cause), "storage failed"),
            Self::Internal(what) => error!(what, "internal error"),
            Self::OverQuota(what) => warn!(what, "a client is over a limit"),
            Self::Unauthorized(_)
            | Self::Invalid(_)
            | Self::BodyTooLarge(_)
            | Self::NotFound
            | Self::AddressRefused
            | Self::NotReady
            | Self::TooManyConnections
            | Self::ShuttingDown => {}
        }
    }

    fn parts(&self) -> (StatusCode, &'static str, &'static str, String) {
        match self {
            Self::Unauthorized(error) => {
                let (code, text) = unauthorized(*error);
                (StatusCode::UNAUTHORIZED, "AuthorizationError", code, text.to_owned())
            }
            Self::Invalid(what) => {
                (StatusCode::BAD_REQUEST, "ValidationError", "PSYNC_S2001", what.clone())
            }
            Self::BodyTooLarge(max) => {
                let text = format!("The body may have at most {max} bytes");
                (StatusCode::PAYLOAD_TOO_LARGE, "ValidationError", "PSYNC_S2001", text)
            }
            Self::NotFound => {
                let text = "There is nothing at this path".to_owned();
                (StatusCode::NOT_FOUND, "RouteNotFound", "PSYNC_S2002", text)
            }
            Self::AddressRefused => {
                let text = "This address has expired: start a new stream for another".to_owned();
                (StatusCode::FORBIDDEN, "AuthorizationError", "PSYNC_S2101", text)
            }
            Self::NotReady => {
                let text = "The first copy of the source database is not complete".to_owned();
                (StatusCode::INTERNAL_SERVER_ERROR, "ServiceError", "PSYNC_S2302", text)
            }
            Self::OverQuota(what) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                (status, "ServiceError", "PSYNC_S2305", what.clone())
            }
            Self::TooManyConnections => {
                let text = "Too many connections are open".to_owned();
                (StatusCode::TOO_MANY_REQUESTS, "ServiceError", "PSYNC_S2304", text)
            }
            Self::ShuttingDown => {
                let text = "The server is shutting down".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceError", "PSYNC_S2003", text)
            }
            Self::Storage(_) | Self::Internal(_) => {
                let text = "Something went wrong on the server".to_owned();
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "PSYNC_S2001", text)
            }
        }
    }
}

fn unauthorized(error: AuthError) -> (&'static str, &'static str) {
    match error {
        AuthError::Missing => ("PSYNC_S2106", "Authentication is required"),
        AuthError::Invalid => ("PSYNC_S2101", "The token is not valid"),
        AuthError::Expired => ("PSYNC_S2103", "The token has expired"),
        AuthError::Lifetime => ("PSYNC_S2104", "The token must expire within a day of its issue"),
        AuthError::Audience => ("PSYNC_S2105", "The token is for another audience"),
        AuthError::NoKeys => {
            ("PSYNC_S2204", "The keys to check the token with cannot be fetched at the moment")
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let (status, name, code, description) = self.parts();
        if matches!(self, Self::TooManyConnections) {
            return status.into_response(); // Clients expect an empty body here.
        }
        let details = Details { name, code, status: status.as_u16(), description: &description };
        (status, Json(Body { error: details })).into_response()
    }
}
