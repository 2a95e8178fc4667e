//! Errors of authentication.

/// The reason why a token is refused. The reply says no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// The request has no token.
    #[error("no token")]
    Missing,
    /// The token is malformed, its key is unknown, its signature is wrong, or a claim is missing or
    /// of the wrong type.
    #[error("the token is not valid")]
    Invalid,
    /// The token was valid and has expired.
    #[error("the token has expired")]
    Expired,
    /// The token's lifetime exceeds a day.
    #[error("the token's lifetime is too long")]
    Lifetime,
    /// The token is for another audience.
    #[error("the token is for another audience")]
    Audience,
    /// No known key verifies the token, and some keys cannot be fetched.
    #[error("the keys that verify the token cannot be fetched")]
    NoKeys,
}

/// The reason why the configured keys or audiences cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthConfigError {
    /// The text is not a JWK Set.
    #[error("not a JWK Set (a JSON object with a list \"keys\")")]
    NotAJwkSet(#[source] serde_json::Error),
    /// One of the keys cannot be used.
    #[error("{key}: {problem}")]
    Key {
        /// The key's `kid`, or its place in the list.
        key: String,
        /// The problem, and what would be right.
        problem: String,
    },
    /// A URL of keys cannot be used.
    #[error("{url}: {problem}")]
    Url {
        /// The URL, without secrets.
        url: String,
        /// The problem, and what would be right.
        problem: String,
    },
    /// The HTTP client cannot start. In most cases the system's certificates cannot be read.
    #[error("the HTTP client for the keys cannot be started")]
    Http(#[source] reqwest::Error),
    /// No key verifies tokens.
    #[error("no key that can verify a token is configured")]
    NoKey,
    /// No audience is configured, so every token of the keys' owner would be accepted.
    #[error("no audience is configured")]
    NoAudience,
}
