//! The admin API of a process: its tokens, and its errors. `api` checks the tokens.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

/// Bytes of the shortest token that is accepted: more than anybody can try.
pub const ADMIN_TOKEN_BYTES_MIN: usize = 16;

/// The admin API of a process: its tokens, and its routes.
pub struct Admin {
    pub(crate) tokens: AdminTokens,
    pub(crate) routes: Router,
    /// Pages without data, which need no token.
    pub(crate) pages: Router,
}

/// The tokens that open an admin API.
pub(crate) struct AdminTokens {
    /// Their digests, so that a comparison takes as long for any length.
    digests: Vec<Digest>,
}

/// A reason why admin tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// Name one.
    #[error("there is no admin token")]
    None,
    /// Use a longer one.
    #[error(
        "an admin token must have at least {ADMIN_TOKEN_BYTES_MIN} characters: make one with `openssl rand \
         -hex 32`"
    )]
    Short,
}

impl Admin {
    /// Creates an admin API that any of these tokens opens.
    ///
    /// # Errors
    /// If there is no token, or a short one.
    pub fn new<T: AsRef<str>>(tokens: &[T], routes: Router) -> Result<Self, AdminTokenError> {
        if tokens.is_empty() {
            return Err(AdminTokenError::None);
        }
        if tokens.iter().any(|token| token.as_ref().len() < ADMIN_TOKEN_BYTES_MIN) {
            return Err(AdminTokenError::Short);
        }
        let digests = tokens.iter().map(|token| digest(&SHA256, token.as_ref().as_bytes()));
        let tokens = AdminTokens { digests: digests.collect() };
        Ok(Self { tokens, routes, pages: Router::new() })
    }

    /// Adds pages that everybody may read. They ask the routes with a token of their user.
    #[must_use]
    pub fn with_pages(self, pages: Router) -> Self {
        Self { pages, ..self }
    }
}

impl AdminTokens {
    /// Returns whether a header has one of the tokens. All of them are compared, each in constant time.
    pub(crate) fn contain(&self, header: &[u8]) -> bool {
        let Some(token) = token_of(header) else { return false };
        let given = digest(&SHA256, token);
        let is_it =
            |known: &Digest| verify_slices_are_equal(known.as_ref(), given.as_ref()).is_ok();
        self.digests.iter().fold(false, |found, known| is_it(known) | found)
    }
}

/// A refusal or failure of the admin API, in the form of PowerSync's service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{description}")]
pub struct AdminError {
    /// The status of the reply.
    pub status: u16,
    /// The code by which PowerSync's clients know it.
    pub code: &'static str,
    /// The text for people.
    pub description: String,
    /// The particulars, such as the errors of a sync config.
    pub details: Option<String>,
}

impl AdminError {
    /// Creates an error without details.
    #[must_use]
    pub fn new(status: u16, code: &'static str, description: impl Into<String>) -> Self {
        Self { status, code, description: description.into(), details: None }
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(self, details: impl Into<String>) -> Self {
        Self { details: Some(details.into()), ..self }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let name = match self.status {
            401 | 403 => "AuthorizationError",
            400..500 => "ValidationError",
            _ => "InternalServerError",
        };

        let mut error = json!({
            "name": name,
            "code": self.code,
            "status": self.status,
            "description": self.description,
        });
        if let Some(details) = self.details {
            error["details"] = details.into();
        }
        (status, Json(json!({ "error": error }))).into_response()
    }
}

/// Returns the token of a header with the scheme `Token` or `Bearer`.
fn token_of(header: &[u8]) -> Option<&[u8]> {
    let space = header.iter().position(|&byte| byte == b' ')?;
    let (scheme, token) = header.split_at(space);
    let is_known = scheme.eq_ignore_ascii_case(b"token") || scheme.eq_ignore_ascii_case(b"bearer");
    is_known.then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_one_of_two_schemes() {
        assert_eq!(token_of(b"Token abc"), Some(&b"abc"[..]));
        assert_eq!(token_of(b"bearer  abc "), Some(&b"abc"[..]));
        for other in [&b"abc"[..], b"Basic abc", b"", b"Tokenabc"] {
            assert_eq!(token_of(other), None);
        }
    }

    #[test]
    fn short_and_missing_tokens_are_refused_at_the_start() {
        let new = |tokens: &[&str]| Admin::new(tokens, Router::new()).err().map(|e| e.to_string());
        assert_eq!(new(&["0123456789abcdef"]), None);
        assert!(new(&["0123456789abcdef", "short"]).unwrap().contains("at least 16"));
        assert!(new(&[]).is_some());
    }

    #[test]
    fn each_of_the_tokens_opens_and_no_other_does() {
        let admin = Admin::new(&["0123456789abcdef", "fedcba9876543210"], Router::new()).unwrap();
        for right in [&b"Token 0123456789abcdef"[..], b"Bearer fedcba9876543210"] {
            assert!(admin.tokens.contain(right));
        }
        for wrong in
            [&b"Token 0123456789abcde"[..], b"0123456789abcdef", b"Token ", b"", b"Token x"]
        {
            assert!(!admin.tokens.contain(wrong));
        }
    }
}
